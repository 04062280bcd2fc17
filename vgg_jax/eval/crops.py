"""Evaluation by crops: the centre crop, and the 5x5 grid with flips of multi-crop evaluation (sec. 3.2, 4.3)."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from vgg_jax.errors import InputError
from vgg_jax.eval.posteriors import average_posteriors
from vgg_jax.eval.programs import (
    batch_rows,
    check_images,
    check_scales,
    compiled,
    host_images,
    is_traced,
    mesh_size,
)
from vgg_jax.images.crop import centre_crop
from vgg_jax.images.rescale import rescale
from vgg_jax.model import VGG

Params = dict[str, dict[str, Array]]
CropsOf = Callable[[np.ndarray, int], list[np.ndarray]]  # (image, crop side) -> crops [c, c, 3]

GRID = 5
DEFAULT_CROPS = 32  # crops at once on each device


def multi_crop_eval(
    model: VGG,
    params: Params,
    images: Any,
    *,
    scales: Sequence[int] | None = None,
    flip: bool = True,
    grid: int = GRID,
    batch_size: int | None = None,
    value_range: tuple[float, float] | None = None,
) -> np.ndarray:
    """Class posteriors by crops -> np.float32 [N, K]: soft-max a crop, mean over the crops, then over the scales.

    grid x grid crops of the model's crop_size at offsets round(i (H - crop) / (grid - 1)) over the whole image, each
    with its mirror image (``flip``): 50 at a scale, 150 at three. ``images``, ``scales`` and ``value_range`` as in
    `dense_eval`, but not traced; batch_size: crops computed at once, of any images. Raises InputError for other shapes,
    NaN pixels and images smaller than the crop.
    """
    views = _views(images, scales, value_range)
    options: dict[str, Any] = {"flip": flip, "batch_size": batch_size}
    return average_posteriors([crop_posteriors(model, params, view, grid_crops(grid), **options) for view in views])


def centre_crop_eval(
    model: VGG,
    params: Params,
    images: Any,
    *,
    scales: Sequence[int] | None = None,
    flip: bool = False,
    batch_size: int | None = None,
    value_range: tuple[float, float] | None = None,
) -> np.ndarray:
    """Class posteriors of the centre crop -> np.float32 [N, K]; arguments as in `multi_crop_eval`."""
    views = _views(images, scales, value_range)
    options: dict[str, Any] = {"flip": flip, "batch_size": batch_size}
    return average_posteriors([crop_posteriors(model, params, view, centre_crops, **options) for view in views])


def _views(
    images: Any, scales: Sequence[int] | None, value_range: tuple[float, float] | None
) -> Iterator[list[np.ndarray]]:
    """The images at each scale."""
    test_scales = check_scales(scales)
    if is_traced(images):
        raise InputError("evaluation by crops takes concrete images; under jit, grad and vmap use dense_eval")
    check_images(images)
    arrays = host_images(images, value_range)
    for q in test_scales:
        yield arrays if q is None else [rescale(a, q) for a in arrays]


def centre_crops(image: np.ndarray, crop: int) -> list[np.ndarray]:
    """The one crop in the middle."""
    return [centre_crop(image, crop)]


def grid_places(size: Sequence[int], crop: int, grid: int = GRID) -> list[tuple[int, int]]:
    """(top, left) of each crop of a regular grid over an image of (height, width), row by row (sec. 3.2)."""
    tops, lefts = ([round(i * (side - crop) / (grid - 1)) for i in range(grid)] for side in size)
    return [(top, left) for top in tops for left in lefts]


@functools.cache
def grid_crops(grid: int = GRID) -> CropsOf:
    """The function that cuts a regular grid of crops over the whole image (sec. 3.2)."""
    if grid < 2:
        raise InputError(f"grid is {grid}, but at least 2 crops a side are expected; centre_crop_eval takes one")

    def crops_of(image: np.ndarray, crop: int) -> list[np.ndarray]:
        places = grid_places(image.shape[:2], crop, grid)
        return [image[top : top + crop, left : left + crop] for top, left in places]

    return crops_of


def crop_posteriors(
    model: VGG,
    params: Params,
    images: Sequence[np.ndarray],
    crops_of: CropsOf,
    *,
    flip: bool,
    batch_size: int | None = None,
    mesh: Mesh | None = None,
    advance: Callable[[float], object] = lambda images: None,
) -> np.ndarray:
    """Mean posterior [N, K] of the crops of each numpy image at the size it has, and with flip of their mirror images.

    mesh: devices to split each batch of crops over. advance: told after each batch how many images its crops make.
    """
    _check_crop(images, model.crop_size)
    crops_each = len(crops_of(images[0], model.crop_size))
    devices = mesh_size(mesh)
    static = (model, flip)
    count = batch_rows((_softmax_logits, static), crops_each * len(images), batch_size, devices, DEFAULT_CROPS)
    totals = np.zeros((len(images), model.num_classes))
    for owners, batch in _crop_batches(images, lambda image: crops_of(image, model.crop_size), count):
        rows = np.asarray(compiled(_softmax_logits, mesh)(static, params, batch))
        np.add.at(totals, owners, rows[: len(owners)])
        advance(len(owners) / crops_each)
    return np.asarray(totals / crops_each, np.float32)


def _check_crop(views: Sequence[np.ndarray], crop: int) -> None:
    for index, view in enumerate(views):
        if min(view.shape[:2]) < crop:
            raise InputError(
                f"image {index} is {view.shape[0]}x{view.shape[1]}, smaller than the crop of {crop}x{crop}: "
                f"rescale it, for example with scales=({crop},)"
            )


def _crop_batches(
    images: Sequence[np.ndarray], crops_of: Callable[[np.ndarray], list[np.ndarray]], count: int
) -> Iterator[tuple[list[int], np.ndarray]]:
    """(indices of the images, crops [count, c, c, 3]) in batches that are always full; the last one ends in zeros."""
    crops = ((index, crop) for index, image in enumerate(images) for crop in crops_of(image))
    dtype = np.uint8 if all(image.dtype == np.uint8 for image in images) else np.float32
    while members := list(itertools.islice(crops, count)):
        batch = np.zeros((count, *members[0][1].shape), dtype)
        batch[: len(members)] = [crop for _, crop in members]
        yield [index for index, _ in members], batch


def _softmax_logits(model: VGG, flip: bool, params: Params, images: Array) -> Array:
    """Posteriors [B, K] of crops [B, c, c, 3], with flip the mean with their mirror images'."""
    views = [images, images[:, :, ::-1]] if flip else [images]
    posteriors = [jax.nn.softmax(cast(Array, model.apply({"params": params}, view))) for view in views]
    return sum(posteriors[1:], posteriors[0]) / len(views)
