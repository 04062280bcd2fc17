"""The state of a training run: one immutable record of arrays."""

import functools
import math
from collections.abc import Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from vgg_jax.architectures import FC_LAYERS
from vgg_jax.compilation import quick_compiler_options
from vgg_jax.errors import InputError
from vgg_jax.model import VGG, map_side

Params = dict[str, dict[str, Array]]

TRAINED_LAYERS = ("all", "fc")


class TrainState(NamedTuple):
    """step: int32, optimizer steps done; params: all layers; opt_state: of the trained layers alone."""

    step: Array
    params: Params
    opt_state: Any


def init_params(model: VGG, seed: int) -> Params:
    """Freshly drawn params of a model, by its initialiser."""
    draw = jax.jit(functools.partial(draw_params, model), compiler_options=quick_compiler_options())
    return draw(jax.random.key(seed))


def draw_params(model: VGG, key: Array) -> Params:
    """`init_params` by a key, for use under jit and eval_shape."""
    return model.init(key, jnp.zeros((1, model.crop_size, model.crop_size, 3), jnp.uint8))["params"]


def params_shapes(model: VGG) -> Params:
    """The shapes of a model's params, nothing computed."""
    return jax.eval_shape(functools.partial(draw_params, model), jax.random.key(0))


def multiply_adds(model: VGG, size: tuple[int, int] | None = None) -> int:
    """Multiplications of one image's forward pass; a training step has three times as many.

    size: height and width of a whole image for the dense form, as if padded sides were free; the crop's if not given.
    """
    return sum(multiply_adds_of(model, size).values())


def multiply_adds_of(model: VGG, size: tuple[int, int] | None = None) -> dict[str, int]:
    """`multiply_adds` of each layer."""
    height, width = size or (model.crop_size, model.crop_size)
    return {
        name: math.prod(layer["kernel"].shape) * map_side(model, name, height) * map_side(model, name, width)
        for name, layer in params_shapes(model).items()
    }


def init_state(params: Params, optimizer: optax.GradientTransformation, trained: str = "all") -> TrainState:
    """State at step 0; ``trained`` names the layers that learn, see `split_params`."""
    opt_state = optimizer.init(split_params(params, trained)[0])
    return TrainState(jnp.zeros((), jnp.int32), params, opt_state)


def split_params(params: Params, trained: str) -> tuple[Params, Params]:
    """(trained, frozen) layers; ``trained`` is "all", or "fc" for the fully connected layers alone."""
    if trained not in TRAINED_LAYERS:
        raise InputError(f"unknown train_layers {trained!r}: choose one of {', '.join(TRAINED_LAYERS)}")
    names: Collection[str] = params if trained == "all" else FC_LAYERS
    return (
        {name: layer for name, layer in params.items() if name in names},
        {name: layer for name, layer in params.items() if name not in names},
    )
