"""Isotropic rescaling to a smallest side, antialiased bilinear: the one rescaling of training and evaluation."""

import numpy as np
from PIL import Image

from vgg_jax.errors import InputError
from vgg_jax.images.decode import MAX_PIXELS

_BILINEAR = Image.Resampling.BILINEAR


def rescaled_size(height: int, width: int, smallest_side: int) -> tuple[int, int]:
    """The (height, width) after rescaling: the short side exactly `smallest_side`, the long one in proportion."""
    if height < width:
        return smallest_side, round(smallest_side * width / height)
    return round(smallest_side * height / width), smallest_side


def rescale(image: np.ndarray, smallest_side: int) -> np.ndarray:
    """Rescale one image [H, W, 3] so that its short side is `smallest_side` pixels (sec. 3.1).

    uint8 stays uint8, rounded as PIL does it; any other type becomes float32, not rounded.  An image that has the size
    already comes back as it is.  Raises InputError where the result would have more than MAX_PIXELS pixels.
    """
    height, width = rescaled_size(image.shape[0], image.shape[1], smallest_side)
    if (height, width) == image.shape[:2]:
        return image if image.dtype == np.uint8 else image.astype(np.float32, copy=False)
    if height * width > MAX_PIXELS:
        raise InputError(
            f"an image of {image.shape[0]} x {image.shape[1]} pixels would be {height} x {width} at smallest side "
            f"{smallest_side}, at most {MAX_PIXELS} pixels are accepted; leave it out or cut it"
        )
    box = (0, 0, image.shape[1], image.shape[0])
    if image.dtype == np.uint8:
        return _resize(image, height, width, box)
    return np.stack([_resize(channel, height, width, box) for channel in np.moveaxis(image, 2, 0)], axis=2)


def rescale_window(image: np.ndarray, smallest_side: int, top: int, left: int, crop_size: int) -> np.ndarray:
    """`rescale(image, smallest_side)[top : top + crop_size, left : left + crop_size]`, computing that window alone.

    uint8 [H, W, 3] -> uint8 [crop_size, crop_size, 3], equal to the slice but for rounding (1 grey level at most).
    """
    height, width = rescaled_size(image.shape[0], image.shape[1], smallest_side)
    y_scale, x_scale = image.shape[0] / height, image.shape[1] / width
    # In pixels of `image`; min, because PIL refuses a box that rounding pushes past the border.
    y0, y1 = top * y_scale, min((top + crop_size) * y_scale, image.shape[0])
    x0, x1 = left * x_scale, min((left + crop_size) * x_scale, image.shape[1])
    # Only the rows under the filter, whose half width is y_scale, or 1 in enlarging.
    margin = max(y_scale, 1.0) + 1
    first, last = max(0, int(y0 - margin)), int(y1 + margin) + 1
    return _resize(image[first:last], crop_size, crop_size, (x0, y0 - first, x1, y1 - first))


def _resize(image: np.ndarray, height: int, width: int, box: tuple[float, float, float, float]) -> np.ndarray:
    """Resize the box (x0, y0, x1, y1) of an image, along the rows and then along the columns.

    Two calls, because from version 13 PIL reverses the order for some shapes, and with it the rounding in between:
    whole images and windows would differ by 2 grey levels, and old versions from new ones.
    """
    x0, y0, x1, y1 = box
    picture = Image.fromarray(image if image.dtype == np.uint8 else np.ascontiguousarray(image, np.float32))
    wide = picture.resize((width, picture.height), _BILINEAR, box=(x0, 0, x1, picture.height))
    return np.asarray(wide.resize((width, height), _BILINEAR, box=(0, y0, width, y1)))
