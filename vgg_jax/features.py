"""Features: the activations of any layers, for images of any size."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from vgg_jax.architectures import FC_LAYERS, activation_names, layer_names
from vgg_jax.errors import InputError
from vgg_jax.eval.dense import Params, conv_kernels, dense_form
from vgg_jax.eval.programs import (
    at_once,
    check_images,
    compiled,
    host_images,
    is_traced,
    padded_batches,
    to_rgb_range,
)
from vgg_jax.model import VGG, map_side


def features(
    model: VGG,
    params: Params,
    images: Any,
    layers: Sequence[str],
    *,
    pool_rounding: str | None = None,
    batch_size: int | None = None,
    value_range: tuple[float, float] | None = None,
) -> Any:
    """Activations by layer: a dict in the order of ``layers``; nothing beyond the deepest of them is computed.

    images: one array [N, H, W, 3] -> {layer: [N, h, w, C]}; a list of [H, W, 3] of any sizes -> a list of dicts of
        [h, w, C]; RGB 0..255. A traced array is allowed: this works under jit, grad and vmap. h and w are H and W
        halved by each pool before the layer, as if every image were computed alone. Concrete arrays are computed at
        once, also inside somebody's jit. Values come in the model's dtype.
    layers: ``convX_Y``, ``fc6`` and ``fc7`` after their ReLU, ``convX_Y/pre``, ``fc6/pre`` and ``fc7/pre`` before it;
        ``pool1`` to ``pool5``; ``fc8``. In A-LRN conv1_1 is taken before the LRN. Fully connected layers are
        [N, F] for images of the model's crop size, else maps [N, h, w, F] of its window's positions.
    params: those of the layers that are computed; a convolutional body without fc6 to fc8 has all up to pool5.
    pool_rounding: "floor" or "ceil" instead of the model's own. batch_size: images computed at once, see `dense_eval`;
        early layers of large images need much memory. value_range: what black and white are, as in `dense_eval`.
    Raises InputError for unknown layers, missing params, other shapes, NaN or odd pixels, and for an image that is too
    small to have one position in a layer.
    """
    names = check_layers(model.arch, layers)
    check_images(images)
    model, as_list = dense_form(model, pool_rounding), isinstance(images, (list, tuple))
    if is_traced(images, params):
        needed = needed_params(model.arch, params, names)
        if not is_traced(images):
            host_images(images, value_range)  # for its checks
        frames = [jnp.asarray(image)[None] for image in images] if as_list else [jnp.asarray(images)]
        check_sizes(model, names, [frame.shape[1:3] for frame in frames])
        maps = [_traced_maps(model, names, needed, to_rgb_range(frame, value_range)) for frame in frames]
        return [{name: each[name][0] for name in names} for each in maps] if as_list else maps[0]
    with at_once():  # the fixed target of a perceptual loss, inside the jit or grad of that loss
        needed = needed_params(model.arch, params, names)
        arrays = host_images(images, value_range)
        check_sizes(model, names, [array.shape[:2] for array in arrays])
        of_images = _host_maps(model, names, needed, arrays, batch_size)
        return of_images if as_list else {n: jnp.asarray(np.stack([each[n] for each in of_images])) for n in names}


def _activations(
    model: VGG, names: tuple[str, ...], params: Params, images: Array, sizes: Array | None = None
) -> dict[str, Array]:
    maps: Any = model.apply({"params": params}, images, names, valid_size=sizes, method=VGG.activations)
    return maps


def _traced_maps(model: VGG, names: tuple[str, ...], params: Params, images: Array) -> dict[str, Array]:
    maps = _activations(model, names, params, images)
    return {name: _valid_part(model, name, maps[name], images.shape[1:3]) for name in names}


def _host_maps(
    model: VGG, names: tuple[str, ...], params: Params, images: Sequence[np.ndarray], batch_size: int | None
) -> list[dict[str, np.ndarray]]:
    of_images: list[dict[str, np.ndarray]] = [{} for _ in images]
    static = (model, names)
    for indices, batch, sizes in padded_batches(images, (_activations, static), batch_size):
        maps = compiled(_activations)(static, params, batch, sizes)
        for name in names:
            values = np.asarray(maps[name])
            for row, index in enumerate(indices):
                of_images[index][name] = _valid_part(model, name, values[row], images[index].shape[:2])
    return of_images


def _valid_part(model: VGG, name: str, values: Any, size: Sequence[int]) -> Any:
    """What belongs to an image of this size in a layer's map [..., h, w, C]; [..., C] for fc layers at crop size."""
    if name.startswith("fc") and tuple(size) == (model.crop_size, model.crop_size):
        return values[..., 0, 0, :]
    height, width = (map_side(model, name, side) for side in size)
    return values[..., :height, :width, :]


def check_layers(arch: str, layers: Any) -> tuple[str, ...]:
    """Names of layers as a tuple, each once; anything but known names raises InputError."""
    if isinstance(layers, str) or not isinstance(layers, Iterable) or not (names := list(layers)):
        raise InputError(f"layers is {layers!r}, but a sequence of names is expected, as ('conv4_2', 'pool5')")
    known = activation_names(arch)
    for name in names:
        if name not in known:
            after = ", ".join(k for k in known if not k.endswith("/pre"))
            raise InputError(
                f"unknown layer {name!r}: net {arch} has {after}; before their ReLU the convolutions, fc6 and fc7 are "
                f"named as in 'conv1_1/pre'"
            )
    return tuple(dict.fromkeys(names))


def needed_params(arch: str, params: Params, names: tuple[str, ...]) -> Params:
    """The params of the layers up to the deepest asked for, the fully connected ones as convolutions."""
    deepest = _deepest(arch, names)
    known = activation_names(arch)
    computed = {name.removesuffix("/pre") for name in known[: known.index(deepest) + 1]}
    needed = [name for name in layer_names(arch) if name in computed]
    if missing := [name for name in needed if name not in params]:
        body = ": a convolutional body has activations up to pool5" if missing[0] in FC_LAYERS else ""
        raise InputError(f"params lack {', '.join(missing)}, needed for {deepest} of net {arch}{body}")
    chosen = {name: params[name] for name in needed}
    return conv_kernels(chosen) if deepest.startswith("fc") else chosen


def check_sizes(model: VGG, names: tuple[str, ...], sizes: Sequence[Sequence[int]]) -> None:
    """Raise InputError for an image that has no position in the deepest layer."""
    deepest = _deepest(model.arch, names)
    for index, (height, width) in enumerate(sizes):
        if map_side(model, deepest, min(height, width)) < 1:
            least = next(side for side in itertools.count(1) if map_side(model, deepest, side) > 0)
            raise InputError(
                f"image {index} is {height}x{width}, too small for {deepest}, which takes at least {least}x{least}: "
                "rescale it, or ask for earlier layers"
            )


def _deepest(arch: str, names: tuple[str, ...]) -> str:
    return max(names, key=activation_names(arch).index)
