"""Descriptors: a layer's activations pooled over all positions, of the image and of its mirror image (appendix B)."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from vgg_jax.eval.dense import Params, dense_form, flip_valid
from vgg_jax.eval.programs import (
    BatchSize,
    check_images,
    compiled,
    host_images,
    local_mesh,
    mesh_size,
    padded_batches,
    replicated,
    set_rows,
)
from vgg_jax.features import check_layers, check_sizes, needed_params
from vgg_jax.model import VGG, map_side

VIEWS = ("image", "mirror")
POOLS = ("mean", "max")

Descriptors = dict[str, np.ndarray]  # layer -> float32 [N, 2, 2, C]: image, view, pooling, channel


def descriptors(
    model: VGG,
    params: Params,
    images: Sequence[np.ndarray],
    layers: Sequence[str],
    *,
    batch_size: BatchSize = set_rows,
    advance: Callable[[int], object] = lambda count: None,
) -> Descriptors:
    """Pooled activations by layer: float32 [N, 2, 2, C] in the order of the images, see VIEWS and POOLS.

    The net is applied densely to each image and its mirror image; the mean and the largest value are taken over the
    positions that belong to the image, within the compiled program, over all devices of this process.

    images: a list of [H, W, 3] of any sizes, RGB 0..255. layers: names as in `vgg_jax.features`; params up to the
    deepest of them. batch_size: images computed at once on each device, by default from their size alone, so that
    resumed work gives the same bits. advance: told after each batch how many images it held, for a progress bar.
    Raises InputError as `vgg_jax.features`.
    """
    names = check_layers(model.arch, layers)
    check_images(images)
    arrays = host_images(images)
    model, mesh = dense_form(model, None), local_mesh()
    check_sizes(model, names, [array.shape[:2] for array in arrays])
    needed = replicated(needed_params(model.arch, params, names), mesh)
    static = (model, names)
    rows: list[dict[str, np.ndarray]] = [{} for _ in arrays]
    for indices, batch, sizes in padded_batches(arrays, (_pooled, static), batch_size, mesh_size(mesh)):
        values = {name: np.asarray(a) for name, a in compiled(_pooled, mesh)(static, needed, batch, sizes).items()}
        for row, index in enumerate(indices):
            rows[index] = {name: values[name][row] for name in names}
        advance(len(indices))
    return {name: np.stack([row[name] for row in rows]).astype(np.float32) for name in names}


def _pooled(model: VGG, names: tuple[str, ...], params: Params, images: Array, sizes: Array) -> dict[str, Array]:
    """[B, 2, 2, C] by layer, of padded images [B, H, W, 3] with valid sizes [B, 2]."""
    views = jnp.concatenate([images, flip_valid(images, sizes[:, 1])])  # [2B, H, W, 3]
    both = jnp.concatenate([sizes, sizes])
    maps: Any = model.apply({"params": params}, views, names, valid_size=both, method=VGG.activations)
    pooled = {name: _mean_and_max(maps[name], map_side(model, name, both)) for name in names}  # [2B, 2, C]
    return {name: a.reshape(2, len(images), *a.shape[1:]).swapaxes(0, 1) for name, a in pooled.items()}


def _mean_and_max(maps: Array, map_sizes: Array) -> Array:
    """[B, 2, C]: mean and largest value of maps [B, h, w, C] over their valid parts [B, 2]; in float32."""
    rows = jnp.arange(maps.shape[1])[None] < map_sizes[:, :1]
    columns = jnp.arange(maps.shape[2])[None] < map_sizes[:, 1:]
    valid = (rows[:, :, None] & columns[:, None, :])[..., None]  # [B, h, w, 1]
    precise = maps.astype(jnp.float32)
    mean = jnp.where(valid, precise, 0.0).sum((1, 2)) / map_sizes.prod(axis=1, keepdims=True)
    return jnp.stack([mean, jnp.where(valid, precise, -jnp.inf).max((1, 2))], axis=1)
