"""The input paths of other programs, for input_pipeline.py: the same views of the same files.

pip install -e '.[peers]'       # torchvision; without it the same calls of PIL stand for it
pip install tensorflow-cpu      # tf.image, in an environment without torch: together they crashed at once
"""

import dataclasses
import importlib.util
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from vgg_jax.images.crop import View, random_view
from vgg_jax.images.rescale import rescaled_size

HAS_TORCHVISION = importlib.util.find_spec("torchvision") is not None
HAS_TENSORFLOW = not HAS_TORCHVISION and importlib.util.find_spec("tensorflow") is not None


def torchvision_view(data: bytes, view: View, crop_size: int) -> Any:
    """PIL decodes; torchvision resizes all of it, antialiased, crops, mirrors: a tensor uint8 [3, crop, crop]."""
    from torchvision.transforms import functional

    image = Image.open(io.BytesIO(data)).convert("RGB")
    image = functional.resize(image, list(rescaled_size(image.height, image.width, view.smallest_side)))
    image = functional.crop(image, view.top, view.left, crop_size, crop_size)
    return functional.pil_to_tensor(functional.hflip(image) if view.flip else image)


def pil_view(data: bytes, view: View, crop_size: int) -> np.ndarray:
    """What torchvision does with images of PIL, without torchvision: uint8 [crop, crop, 3]."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    height, width = rescaled_size(image.height, image.width, view.smallest_side)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    image = image.crop((view.left, view.top, view.left + crop_size, view.top + crop_size))
    return np.array(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if view.flip else image)


def tensorflow_view(data: bytes, view: View, crop_size: int) -> np.ndarray:
    """tf.image decodes the window alone and resizes it, antialiased: uint8 [crop, crop, 3]."""
    import tensorflow as tf

    height, width = (int(side) for side in tf.image.extract_jpeg_shape(data)[:2])
    rescaled_height, rescaled_width = rescaled_size(height, width, view.smallest_side)
    top, bottom = (round(row * height / rescaled_height) for row in (view.top, view.top + crop_size))
    left, right = (round(column * width / rescaled_width) for column in (view.left, view.left + crop_size))
    window = [top, left, min(bottom, height) - top, min(right, width) - left]
    image = tf.image.decode_and_crop_jpeg(data, window, channels=3, dct_method="INTEGER_ACCURATE")
    image = tf.image.resize(image, (crop_size, crop_size), antialias=True)
    image = tf.image.flip_left_right(image) if view.flip else image
    return tf.cast(tf.round(image), tf.uint8).numpy()


@dataclasses.dataclass(frozen=True)
class Views:
    """A data set for torch: view i is drawn by i, of the files in turn."""

    files: Sequence[bytes]
    sizes: Sequence[tuple[int, int]]
    scale: tuple[int, int]
    crop_size: int

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, index: int) -> Any:
        file = index % len(self.files)
        view = random_view(np.random.default_rng(index), *self.sizes[file], self.scale, self.crop_size)
        return torchvision_view(self.files[file], view, self.crop_size)


def torch_batches(views: Views, batch_size: int, workers: int) -> Iterator[Any]:
    """Batches of torch's DataLoader."""
    from torch.utils.data import DataLoader

    return iter(DataLoader(views, batch_size, num_workers=workers, multiprocessing_context="spawn"))  # type: ignore[arg-type]
