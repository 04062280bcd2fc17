"""The ways from an image file to a view of it, by the names that `data.decoder` gives them."""

import importlib.util
from collections.abc import Callable

import numpy as np

from vgg_jax.errors import InputError
from vgg_jax.images.crop import View, apply_view
from vgg_jax.images.decode import EncodedImage
from vgg_jax.images.fast import fast_view

Decoder = Callable[[EncodedImage, View, int], np.ndarray]  # (image, view, crop_size) -> uint8 [crop, crop, 3]


def exact_view(encoded: EncodedImage, view: View, crop_size: int) -> np.ndarray:
    """All pixels, then the view of them by PIL's antialiased filter; raises InputError as `decode_rgb`."""
    return apply_view(encoded.decode(), view, crop_size)


DECODERS: dict[str, Decoder] = {"exact": exact_view, "fast": fast_view}


def check_decoder(name: str) -> None:
    """Raise InputError for an unknown name, or where what it needs is not installed."""
    if name not in DECODERS:
        raise InputError(f"data.decoder is {name!r}: choose one of {', '.join(DECODERS)}")
    if name == "fast" and importlib.util.find_spec("cykooz_resizer") is None:
        raise InputError(
            "data.decoder is fast, which needs cykooz-resizer: pip install 'vgg_jax[fast]', "
            "or choose data.decoder=exact"
        )
