"""Isotropic rescaling to a smallest side, antialiased bilinear: the one rescaling of training and evaluation."""

import math

import numpy as np
from PIL import Image

from vgg_jax.errors import InputError
from vgg_jax.images.decode import MAX_PIXELS

MAX_ENLARGED = 2**24  # pixels that an image may be enlarged to: 1 x 5000 at smallest side 256 would be 327 million
_BILINEAR = Image.Resampling.BILINEAR
_LONGEST_PERIOD = 16  # rows or columns that a window may be widened by, to round as the whole image does


def rescaled_size(height: int, width: int, smallest_side: int) -> tuple[int, int]:
    """The (height, width) after rescaling: the short side exactly `smallest_side`, the long one in proportion."""
    if height < width:
        return smallest_side, round(smallest_side * width / height)
    return round(smallest_side * height / width), smallest_side


def rescale(image: np.ndarray, smallest_side: int) -> np.ndarray:
    """Rescale one image [H, W, 3] so that its short side is `smallest_side` pixels (sec. 3.1).

    uint8 stays uint8, rounded as PIL does it; any other type becomes float32, not rounded.  An image that has the size
    already comes back as it is.  Raises InputError where the result would have more than MAX_PIXELS pixels, or more
    than MAX_ENLARGED and four times those of the image: something as thin as a line.
    """
    height, width = rescaled_size(image.shape[0], image.shape[1], smallest_side)
    if (height, width) == image.shape[:2]:
        return image if image.dtype == np.uint8 else image.astype(np.float32, copy=False)
    most = min(MAX_PIXELS, max(MAX_ENLARGED, 4 * image.shape[0] * image.shape[1]))
    if height * width > most:
        raise InputError(
            f"an image of {image.shape[0]} x {image.shape[1]} pixels would be {height} x {width} at smallest side "
            f"{smallest_side}, at most {most} pixels are accepted; cut it"
        )
    box = (0, 0, image.shape[1], image.shape[0])
    if image.dtype == np.uint8:
        return np.asarray(_resize(Image.fromarray(image), height, width, box))
    channels = (Image.fromarray(np.ascontiguousarray(channel, np.float32)) for channel in np.moveaxis(image, 2, 0))
    return np.stack([np.asarray(_resize(channel, height, width, box)) for channel in channels], axis=2)


def rescale_window(
    image: np.ndarray, smallest_side: int, top: int, left: int, crop_size: int, flip: bool = False
) -> np.ndarray:
    """`rescale(image, smallest_side)[top : top + crop_size, left : left + crop_size]`, computing that window alone.

    uint8 [H, W, 3] -> uint8 [crop_size, crop_size, 3], mirrored left to right if `flip`.  Equal to the slice but for
    pixels that are a tie in rounding, up or down: by 1 grey level, seldom 2, on average under 0.05.
    """
    height, width = rescaled_size(image.shape[0], image.shape[1], smallest_side)
    top_row, rows, y0, y1 = _source_span(top, crop_size, image.shape[0], height)
    left_column, columns, x0, x1 = _source_span(left, crop_size, image.shape[1], width)
    # Only what is under the filter, whose half width is the reduction, or 1 in enlarging.
    down, across = max(image.shape[0] / height, 1.0) + 1, max(image.shape[1] / width, 1.0) + 1
    first, last = max(0, int(y0 - down)), int(y1 + down) + 1
    part = _picture(image[first:last], int(x1 + across) + 1)
    picture = _resize(part, rows, columns, (x0, y0 - first, x1, y1 - first))
    skipped = left - left_column
    if flip:  # By PIL: numpy takes five times as long to mirror pixels of three bytes.
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        skipped = columns - skipped - crop_size
    return np.asarray(picture)[top - top_row :, skipped:][:crop_size, :crop_size]


def _source_span(start: int, length: int, n_in: int, n_out: int) -> tuple[int, int, float, float]:
    """Where to compute outputs start .. start + length of a line of n_in pixels resized to n_out.

    Returns the first output, the number of outputs, and their ends in the source.  In simple ratios (5 outputs for 4
    inputs, say) exact ties are frequent; there the span grows until it starts and ends between two source pixels, which
    PIL's single-precision box holds exactly: nearly all ties then fall as in the whole image.
    """
    period = n_out // math.gcd(n_in, n_out)
    first, last = start, start + length
    if period <= _LONGEST_PERIOD:
        first, last = first // period * period, -(-last // period) * period
    # min, because PIL refuses a box that rounding pushes past the border.
    return first, last - first, first * n_in / n_out, min(last * n_in / n_out, n_in)


def _picture(image: np.ndarray, columns: int) -> Image.Image:
    """The first columns of uint8 [H, W, 3], in one copy from the lines of the whole.

    The columns before a window stay: a box that moves to the left is rounded otherwise, and ties with it.
    """
    assert image.dtype == np.uint8  # PIL would read any memory as pixels.
    height, width = image.shape[:2]
    lines = np.ascontiguousarray(image)
    return Image.frombuffer("RGB", (min(columns, width), height), lines, "raw", "RGB", 3 * width, 1)


def _resize(picture: Image.Image, height: int, width: int, box: tuple[float, float, float, float]) -> Image.Image:
    """Resize the box (x0, y0, x1, y1) of an image, along the rows and then along the columns.

    Two calls, because from version 13 PIL reverses the order for some shapes, and with it the rounding in between:
    whole images and windows would differ by 2 grey levels, and old versions from new ones.
    """
    x0, y0, x1, y1 = box
    wide = picture.resize((width, picture.height), _BILINEAR, box=(x0, 0, x1, picture.height))
    return wide.resize((width, height), _BILINEAR, box=(0, y0, width, y1))
