"""A view of a JPEG in less time: pixels that differ from those of PIL's filter by about one grey level.

PIL's filter is a triangle as wide as the reduction r.  Up to r = 2, three taps and then OpenCV's linear interpolation
have the same mean and variance: r**2 / 6 = (r**2 - 1) / 6 + 1 / 6.  Beyond, it is PIL's filter, from r = 4 on after
decoding at a half or a quarter of the size; libjpeg's reduction is sharper, so that the filter must still be wide.
"""

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from vgg_jax.images.crop import View, apply_view
from vgg_jax.images.decode import EncodedImage
from vgg_jax.images.rescale import rescaled_size

_WIDEST = 2.0  # reduction that three taps serve
_SEARCHED = 16  # outputs before the window among which the computation begins


class _Axis(NamedTuple):
    """How the outputs of a window are computed along rows or columns."""

    first: int  # source pixel where the interpolation begins
    last: int  # and ends, excluded
    skipped: int  # outputs before the window
    reduction: float  # source pixels an output
    taps: np.ndarray  # of the filter before it, [3]


def fast_view(encoded: EncodedImage, view: View, crop_size: int) -> np.ndarray:
    """`apply_view(encoded.decode(), view, crop_size)` to about a grey level: uint8 [crop_size, crop_size, 3].

    An image that is no ordinary JPEG gets the pixels of `apply_view`.  Raises InputError as `decode_rgb`.
    """
    height, width = encoded.size
    reduction = min(height, width) / view.smallest_side
    halved = next(times for times in (4, 2, 1) if times == 1 or reduction >= _WIDEST * times)
    pixels = encoded.decode_jpeg(halved)
    if pixels is None:
        return apply_view(encoded.decode(), view, crop_size)
    rescaled_height, rescaled_width = rescaled_size(height, width, view.smallest_side)
    by_row, by_column = height / rescaled_height / halved, width / rescaled_width / halved
    if reduction > _WIDEST:
        right = min((view.left + crop_size) * by_column, pixels.shape[1])  # rounding may push it past the border
        bottom = min((view.top + crop_size) * by_row, pixels.shape[0])
        box = (view.left * by_column, view.top * by_row, right, bottom)
        picture = Image.fromarray(pixels).resize((crop_size, crop_size), Image.Resampling.BILINEAR, box=box)
        return np.asarray(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if view.flip else picture)
    rows = _axis(view.top, crop_size, height, by_row)
    columns = _axis(view.left, crop_size, width, by_column)
    return _window(pixels, rows, columns, crop_size, view.flip)


def _axis(start: int, length: int, size: int, reduction: float) -> _Axis:
    """For outputs start .. start + length of a line of `size` pixels.

    OpenCV's grid begins at a whole source pixel; so it begins at an earlier output that is close to one.
    """
    earlier = range(max(0, start - _SEARCHED), start + 1)
    begin = min(earlier, key=lambda output: abs(output * reduction - round(output * reduction)))
    first = round(begin * reduction)
    last = min(size, math.ceil((start + length) * reduction) + 1)
    side = (max(reduction, 1.0) ** 2 - 1) / 12
    return _Axis(first, last, start - begin, reduction, np.array([side, 1 - 2 * side, side], np.float32))


def _window(pixels: np.ndarray, rows: _Axis, columns: _Axis, crop_size: int, flip: bool) -> np.ndarray:
    cv2 = _opencv()
    top, left = max(0, rows.first - 1), max(0, columns.first - 1)  # the taps see a pixel more
    part = pixels[top : rows.last + 1, left : columns.last + 1]
    if max(rows.reduction, columns.reduction) > 1:
        part = cv2.sepFilter2D(part, -1, columns.taps, rows.taps, borderType=cv2.BORDER_REPLICATE)
    part = part[rows.first - top :, columns.first - left :]
    part = part[: rows.last - rows.first, : columns.last - columns.first]
    grid = cv2.resize(part, None, fx=1 / columns.reduction, fy=1 / rows.reduction, interpolation=cv2.INTER_LINEAR)
    window = grid[rows.skipped :, columns.skipped :][:crop_size, :crop_size]
    return cv2.flip(window, 1) if flip else window


@functools.cache
def _opencv() -> Any:
    import cv2  # Here, because it is an extra.

    cv2.setNumThreads(1)  # The pipeline has its own threads: an image each.
    return cv2
