"""Dense evaluation: the net as a fully convolutional one over whole images of any size (sec. 3.2)."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from vgg_jax.architectures import FC_LAYERS
from vgg_jax.errors import InputError
from vgg_jax.eval.posteriors import average_posteriors
from vgg_jax.eval.programs import (
    BatchSize,
    at_once,
    check_images,
    check_scales,
    compiled,
    host_images,
    is_traced,
    mesh_size,
    padded_batches,
    traced_images,
)
from vgg_jax.images.rescale import rescale, rescaled_size
from vgg_jax.model import VGG, map_side

Params = dict[str, dict[str, Array]]

SPATIAL = ("mean", "sum", "posterior_mean")


def fc_to_conv(params: Params) -> Params:
    """Params of the fully convolutional form: fc6 [w*w*C, F] -> [w, w, C, F], fc7 and fc8 [F, G] -> [1, 1, F, G].

    Same keys, nothing but reshapes; fc6's input runs in H, W, C order. Params in that form come back as they are.
    """
    dense = conv_kernels(params)
    for name in FC_LAYERS:
        if name not in params:
            raise InputError(f"params lack {name}: dense evaluation needs fc6, fc7 and fc8")
    return dense


def conv_kernels(params: Params) -> Params:
    """As `fc_to_conv`, for those of the fully connected layers that are there."""
    if not any(name.startswith("conv5_") for name in params):
        raise InputError(f"params have no conv5 layers but {', '.join(params)}: give model.init(...)['params']")
    channels = max((name, layer["bias"].shape[0]) for name, layer in params.items() if name.startswith("conv5_"))[1]
    dense = dict(params)
    for name in FC_LAYERS:
        if name in params and (kernel := params[name]["kernel"]).ndim == 2:
            inputs, outputs = kernel.shape
            window = round((inputs / channels) ** 0.5) if name == "fc6" else 1
            dense[name] = {**params[name], "kernel": kernel.reshape(window, window, -1, outputs)}
    return dense


def dense_scores(
    model: VGG,
    params: Params,
    images: Any,
    *,
    pool_rounding: str | None = None,
    batch_size: int | None = None,
    value_range: tuple[float, float] | None = None,
) -> Any:
    """Class score maps before any averaging: fc8's outputs at every position of the net's window.

    images: one array [N, H, W, 3] -> [N, h, w, K]; a list of [H, W, 3] -> a list of [h, w, K]; RGB 0..255, uint8 or
        float. A traced array is allowed, so that this works under jit, grad and vmap. h = H / 32 - crop_size / 32 + 1.
    pool_rounding: "floor" or "ceil" instead of the model's own. batch_size, value_range: as in `dense_eval`.
    Raises InputError for other shapes and for an image smaller than the window (with "ceil" a pooled side counts, as in
    Caffe: an image of 1x1 fills a window of 32).
    """
    dense_model = dense_form(model, pool_rounding)
    check_images(images)
    if is_traced(images, params):
        images = traced_images(images, value_range)
        _check_window(dense_model, [images.shape[1:3]])
        return dense_model.apply({"params": fc_to_conv(params)}, images)
    arrays = host_images(images, value_range)
    _check_window(dense_model, [a.shape[:2] for a in arrays])
    with at_once():
        conv_params = fc_to_conv(params)
    maps: list[Any] = [None] * len(arrays)
    static = (dense_model,)
    for indices, batch, sizes in padded_batches(arrays, (_scores, static), batch_size):
        scores = np.asarray(compiled(_scores)(static, conv_params, batch, sizes))
        for row, index in enumerate(indices):
            height, width = _map_size(dense_model, arrays[index].shape[:2])
            maps[index] = scores[row, :height, :width]
    return maps if isinstance(images, (list, tuple)) else jnp.asarray(np.stack(maps))


def dense_eval(
    model: VGG,
    params: Params,
    images: Any,
    *,
    scales: Sequence[int] | None = None,
    flip: bool = True,
    pool_rounding: str | None = None,
    spatial: str = "mean",
    batch_size: int | None = None,
    value_range: tuple[float, float] | None = None,
) -> np.ndarray:
    """Class posteriors by dense evaluation -> np.float32 [N, K], in the order of the images.

    At each scale: the score map averaged over space, then soft-max; then the mean over the image and its mirror image
    (``flip``) and over the scales (sec. 3.2, 4.2).

    images: one array [N, H, W, 3] or a list of [H, W, 3] of any sizes; RGB 0..255. One array may be traced (jit, grad,
        vmap); a traced array gives a traced result.
    scales: smallest sides Q to rescale to; None takes the images as they are.
    spatial: "mean" (the paper's), "sum" of the scores, or "posterior_mean", soft-max before the mean.
    batch_size: images computed at once, smaller groups being filled up; None lets the first call with images of a
        padded size choose (at most 16) for all later ones, so that a padded size compiles once in a process.
    value_range: what black and white are in the images; None means 0 and 255, and floats that look otherwise raise.
    Raises InputError for other shapes, unknown names, NaN pixels, or an image smaller than the net's window (as in
    `dense_scores`).
    """
    if spatial not in SPATIAL:
        raise InputError(f"unknown spatial {spatial!r}: choose one of {', '.join(SPATIAL)}")
    test_scales = check_scales(scales)
    check_images(images)
    dense_model = dense_form(model, pool_rounding)
    if is_traced(images, params):
        images, conv_params = traced_images(images, value_range), fc_to_conv(params)
        views = [images if q is None else _traced_rescale(images, q) for q in test_scales]
        traced = [_traced_posteriors(dense_model, conv_params, view, flip, spatial) for view in views]
        return cast(np.ndarray, sum(traced) / len(traced))
    arrays = host_images(images, value_range)
    with at_once():
        conv_params = fc_to_conv(params)
    return average_posteriors(
        [
            dense_posteriors(
                dense_model,
                conv_params,
                arrays if q is None else [rescale(a, q) for a in arrays],
                flip=flip,
                spatial=spatial,
                batch_size=batch_size,
            )
            for q in test_scales
        ]
    )


def dense_posteriors(
    model: VGG,
    conv_params: Params,
    images: Sequence[np.ndarray],
    *,
    flip: bool = True,
    spatial: str = "mean",
    batch_size: BatchSize = None,
    mesh: Mesh | None = None,
    advance: Callable[[float], object] = lambda images: None,
) -> np.ndarray:
    """Posteriors [N, K] of numpy images at the size they have, by a model in its dense form and `fc_to_conv` params.

    mesh: devices to split each batch over. advance: told after each batch how many images it held, for a progress bar.
    """
    _check_window(model, [image.shape[:2] for image in images])
    posteriors = np.empty((len(images), model.num_classes), np.float32)
    static = (model, flip, spatial)
    for indices, batch, sizes in padded_batches(images, (_posteriors, static), batch_size, mesh_size(mesh)):
        rows = compiled(_posteriors, mesh)(static, conv_params, batch, sizes)
        posteriors[indices] = np.asarray(rows)[: len(indices)]
        advance(len(indices))
    return posteriors


def dense_form(model: VGG, pool_rounding: str | None) -> VGG:
    """The fully convolutional form of a model, with another pool rounding unless None."""
    return model.clone(fully_convolutional=True, pool_rounding=pool_rounding or model.pool_rounding)


def _scores(model: VGG, conv_params: Params, images: Array, sizes: Array) -> Array:
    return cast(Array, model.apply({"params": conv_params}, images, valid_size=sizes))


def _posteriors(model: VGG, flip: bool, spatial: str, conv_params: Params, images: Array, sizes: Array) -> Array:
    """Posteriors [B, K] of padded images [B, H, W, 3] with valid sizes [B, 2]."""
    views = [images, flip_valid(images, sizes[:, 1])] if flip else [images]
    posteriors = [
        _pool_scores(_scores(model, conv_params, v, sizes), map_side(model, "fc8", sizes), spatial) for v in views
    ]
    return sum(posteriors[1:], posteriors[0]) / len(views)


def _traced_posteriors(model: VGG, conv_params: Params, images: Array, flip: bool, spatial: str) -> Array:
    _check_window(model, [images.shape[1:3]])
    sizes = jnp.broadcast_to(jnp.asarray(images.shape[1:3], jnp.int32), (len(images), 2))
    return _posteriors(model, flip, spatial, conv_params, images, sizes)


def _traced_rescale(images: Array, smallest_side: int) -> Array:
    height, width = rescaled_size(images.shape[1], images.shape[2], smallest_side)
    return jax.image.resize(images.astype(jnp.float32), (len(images), height, width, 3), "linear", antialias=True)


def flip_valid(images: Array, widths: Array) -> Array:
    """Mirror the valid part of each image, [B, H, W, 3] with valid widths [B]; the padding stays at the right."""
    shift = widths - images.shape[2]
    return jax.vmap(lambda image, s: jnp.roll(image[:, ::-1], s, axis=1))(images, shift)


def _pool_scores(scores: Array, map_sizes: Array, spatial: str) -> Array:
    """Posteriors [B, K] of score maps [B, h, w, K] over their valid parts [B, 2]."""
    rows = jnp.arange(scores.shape[1])[None] < map_sizes[:, :1]
    columns = jnp.arange(scores.shape[2])[None] < map_sizes[:, 1:]
    valid = (rows[:, :, None] & columns[:, None, :])[..., None]  # [B, h, w, 1]
    values = jax.nn.softmax(scores) if spatial == "posterior_mean" else scores
    total = jnp.where(valid, values, 0.0).sum((1, 2))
    if spatial == "sum":
        return jax.nn.softmax(total)
    mean = total / map_sizes.prod(axis=1, keepdims=True)
    return mean if spatial == "posterior_mean" else jax.nn.softmax(mean)


def _map_size(model: VGG, size: Sequence[int]) -> tuple[int, int]:
    height, width = (map_side(model, "fc8", side) for side in size)
    return height, width


def _check_window(model: VGG, sizes: Sequence[Sequence[int]]) -> None:
    for index, size in enumerate(sizes):
        if min(_map_size(model, size)) < 1:
            raise InputError(
                f"image {index} is {size[0]}x{size[1]}, smaller than the net's window of "
                f"{model.crop_size}x{model.crop_size}: rescale it, for example with scales=({model.crop_size},)"
            )
