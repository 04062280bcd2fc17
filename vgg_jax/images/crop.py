"""Crops: the centre one, and training's random view (smallest side, place, flip; sec. 3.1)."""

from typing import NamedTuple

import numpy as np

from vgg_jax.errors import InputError
from vgg_jax.images.rescale import rescale_window, rescaled_size


class View(NamedTuple):
    """What training sees of an image: a window of it, rescaled and maybe mirrored."""

    smallest_side: int  # S, pixels
    top: int  # of the window in the rescaled image, pixels
    left: int
    flip: bool  # left to right


def centre_crop(image: np.ndarray, crop_size: int) -> np.ndarray:
    """The centre [crop_size, crop_size, C] of [H, W, C], at offsets round((H - crop_size) / 2).

    Raises InputError where the image is smaller than the crop.
    """
    height, width = image.shape[:2]
    if min(height, width) < crop_size:
        raise InputError(
            f"an image of {height} x {width} pixels has no crop of {crop_size}; rescale it to a larger side"
        )
    top, left = round((height - crop_size) / 2), round((width - crop_size) / 2)
    return image[top : top + crop_size, left : left + crop_size]


def random_view(rng: np.random.Generator, height: int, width: int, scale: tuple[int, int], crop_size: int) -> View:
    """Draw a view of an image of height x width pixels (sec. 3.1).

    S is uniform over the integers of `scale`, ends included; the crop uniform over the whole rescaled rectangle; a
    flip has probability 1/2.  Raises InputError where the lower end of `scale` is smaller than the crop.
    """
    check_scale(scale, crop_size)
    smallest_side = int(rng.integers(scale[0], scale[1], endpoint=True))
    rescaled_height, rescaled_width = rescaled_size(height, width, smallest_side)
    top = int(rng.integers(rescaled_height - crop_size, endpoint=True))
    left = int(rng.integers(rescaled_width - crop_size, endpoint=True))
    return View(smallest_side, top, left, bool(rng.random() < 0.5))


def apply_view(image: np.ndarray, view: View, crop_size: int) -> np.ndarray:
    """The view of an image: uint8 [H, W, 3] -> uint8 [crop_size, crop_size, 3]."""
    return rescale_window(image, view.smallest_side, view.top, view.left, crop_size, view.flip)


def check_scale(scale: tuple[int, int], crop_size: int) -> None:
    """Raise InputError unless crop_size <= scale[0] <= scale[1]."""
    low, high = scale
    if low < crop_size:
        raise InputError(
            f"scale {low} is smaller than crop_size {crop_size}; the smallest side S must be at least the crop"
        )
    if high < low:
        raise InputError(f"scale ({low}, {high}) runs backwards; give its lower end first")
