"""Evaluation by crops: the centre crop, and the 5x5 grid with flips of multi-crop evaluation (sec. 3.2, 4.3)."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import numpy as np
from jax import Array

from vgg_jax.errors import InputError
from vgg_jax.eval.posteriors import average_posteriors
from vgg_jax.eval.programs import DEFAULT_BATCH, check_images, check_scales, compiled, host_images
from vgg_jax.images.crop import centre_crop
from vgg_jax.images.rescale import rescale
from vgg_jax.model import VGG

Params = dict[str, dict[str, Array]]


def multi_crop_eval(
    model: VGG,
    params: Params,
    images: Any,
    *,
    scales: Sequence[int] | None = None,
    flip: bool = True,
    grid: int = 5,
    batch_size: int | None = None,
) -> np.ndarray:
    """Class posteriors by crops -> np.float32 [N, K]: soft-max a crop, mean over the crops, then over the scales.

    grid x grid crops of the model's crop_size at offsets round(i (H - crop) / (grid - 1)) over the whole image, each
    with its mirror image (``flip``): 50 at a scale, 150 at three. ``images`` and ``scales`` as in `dense_eval`.
    Raises InputError for other shapes and for images smaller than the crop.
    """
    if grid < 2:
        raise InputError(f"grid is {grid}, but at least 2 crops a side are expected; centre_crop_eval takes one")
    return _mean_over_views(model, params, images, functools.partial(_grid_crops, grid=grid), scales, flip, batch_size)


def centre_crop_eval(
    model: VGG,
    params: Params,
    images: Any,
    *,
    scales: Sequence[int] | None = None,
    flip: bool = False,
    batch_size: int | None = None,
) -> np.ndarray:
    """Class posteriors of the centre crop -> np.float32 [N, K]; arguments as in `dense_eval`."""
    return _mean_over_views(model, params, images, _centre_crops, scales, flip, batch_size)


def _mean_over_views(
    model: VGG,
    params: Params,
    images: Any,
    crops_of: Callable[[np.ndarray, int], list[np.ndarray]],
    scales: Sequence[int] | None,
    flip: bool,
    batch_size: int | None,
) -> np.ndarray:
    check_images(images)
    arrays = host_images(images)
    batch_size = batch_size or DEFAULT_BATCH
    per_scale = []
    for q in check_scales(scales):
        views = arrays if q is None else [rescale(a, q) for a in arrays]
        _check_crop(views, model.crop_size)
        rows = [_mean_posterior(model, params, crops_of(view, model.crop_size), flip, batch_size) for view in views]
        per_scale.append(np.stack(rows))
    return average_posteriors(per_scale)


def _check_crop(views: Sequence[np.ndarray], crop: int) -> None:
    for index, view in enumerate(views):
        if min(view.shape[:2]) < crop:
            raise InputError(
                f"image {index} is {view.shape[0]}x{view.shape[1]}, smaller than the crop of {crop}x{crop}: "
                f"rescale it, for example with scales=({crop},)"
            )


def _centre_crops(image: np.ndarray, crop: int) -> list[np.ndarray]:
    return [centre_crop(image, crop)]


def _grid_crops(image: np.ndarray, crop: int, grid: int) -> list[np.ndarray]:
    tops, lefts = ([round(i * (side - crop) / (grid - 1)) for i in range(grid)] for side in image.shape[:2])
    return [image[top : top + crop, left : left + crop] for top in tops for left in lefts]


def _mean_posterior(model: VGG, params: Params, crops: list[np.ndarray], flip: bool, batch_size: int) -> np.ndarray:
    """Mean posterior [K] of an image's crops and, with flip, of their mirror images."""
    views = np.stack(crops + [crop[:, ::-1] for crop in crops] if flip else crops)
    batch = min(batch_size, len(views))
    posteriors = []
    for start in range(0, len(views), batch):
        part = views[start : start + batch]
        padded = np.concatenate([part, np.zeros((batch - len(part), *part.shape[1:]), part.dtype)])
        posteriors.append(np.asarray(compiled(_softmax_logits)((model,), params, padded))[: len(part)])
    return np.asarray(np.concatenate(posteriors).mean(axis=0, dtype=np.float64))


def _softmax_logits(model: VGG, params: Params, images: Array) -> Array:
    return jax.nn.softmax(cast(Array, model.apply({"params": params}, images)))
