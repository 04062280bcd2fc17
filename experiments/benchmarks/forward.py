"""The forward pass beside torchvision's, keras.applications' and plain flax's, and against the machine's ceilings.

pip install -e '.[peers]' && python experiments/benchmarks/forward.py [--arch=D] [--batches=1,8] [--dense=256x320]
    [--dtype=bfloat16] [--switches] [--json=FILE] [--plot=FILE.png]

--dense: whole images of this size through the fully convolutional form instead of crops, against torchvision's turned
into one as well; "masked" is how dense_eval computes padded images. Peers that are not installed are left out, with a
word.
"""

import sys
from collections.abc import Callable
from functools import partial

import comparison
import numpy as np
from absl import app, flags
from ours import forward

from vgg_jax import VGG
from vgg_jax.training.state import multiply_adds

BATCHES = flags.DEFINE_list("batches", ["1", "8"], "Images at once.")
DENSE = flags.DEFINE_string("dense", None, "HEIGHTxWIDTH of whole images for the fully convolutional form.")


def main(_: object) -> None:
    """Measure batch by batch, print, write."""
    model = comparison.model_of_flags()
    size = size_of(DENSE.value) if DENSE.value else (model.crop_size, model.crop_size)
    flops = 2.0 * multiply_adds(model, size if DENSE.value else None)
    comparison.run("forward pass", map(int, BATCHES.value), partial(sides, model, size), flops)


def size_of(text: str) -> tuple[int, int]:
    """Height and width of HEIGHTxWIDTH."""
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        sys.exit(f"error: --dense={text}: expected HEIGHTxWIDTH, as 256x320")
    return int(height), int(width)


def sides(model: VGG, size: tuple[int, int], batch: int) -> dict[str, comparison.Build]:
    """What is compared at a batch size."""
    images = np.random.default_rng(0).integers(0, 256, (batch, *size, 3), np.uint8)
    dense = DENSE.value is not None
    variants = {name: variant for name, variant in comparison.variants().items() if not variant.direct}
    if dense:
        variants[f"{comparison.OURS}, masked"] = variants[comparison.OURS]._replace(masked=True)
    ours = {name: partial(forward, model, images, variant, dense) for name, variant in variants.items()}
    peers = {} if dense else {"plain flax": partial(plain_flax, model, images), "keras": partial(keras, model, images)}
    return {**ours, **torch_sides(model, images, dense), **peers}


def torch_sides(model: VGG, images: np.ndarray, dense: bool) -> dict[str, comparison.Build]:
    """The torchvision package's net, as it is and as torch can make it faster."""

    def build(**how: bool) -> tuple[Callable[[], object], None]:
        from peer_torch import torch_forward

        return torch_forward(model, images, dense=dense, **how), None

    return {name: partial(build, **how) for name, how in comparison.torch_ways().items()}


def plain_flax(model: VGG, images: np.ndarray) -> tuple[Callable[[], object], None]:
    """As flax's users write it."""
    from peer_flax import flax_forward

    return flax_forward(model, images), None


def keras(model: VGG, images: np.ndarray) -> tuple[Callable[[], object], None]:
    """The net of keras.applications on the jax backend."""
    from peer_keras import keras_forward

    return keras_forward(model, images), None


if __name__ == "__main__":
    app.run(main)
