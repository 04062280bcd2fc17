"""What is exported: a net in one of its forms, its params with it, from RGB images to one activation."""

import itertools
from typing import Any, NamedTuple

import flax.errors
import jax
import jax.numpy as jnp
from jax import Array

from vgg_jax.architectures import FC_LAYERS, layer_names
from vgg_jax.errors import InputError
from vgg_jax.eval.dense import Params, conv_kernels, dense_form
from vgg_jax.model import VGG, map_side

LAYOUTS = ("NHWC", "NCHW")


class Form(NamedTuple):
    """The activation that an exported net computes, its name in the file, and whether images may have any size."""

    layer: str
    output: str
    any_size: bool


FORMS = {
    "crop": Form("fc8", "logits", any_size=False),  # [N, crop, crop, 3] -> [N, K]
    "dense": Form("fc8", "scores", any_size=True),  # [N, H, W, 3] -> [N, h, w, K], see vgg_jax.eval.dense_scores
    "pool5": Form("pool5", "features", any_size=True),  # [N, H, W, 3] -> [N, h, w, C], without fc6 to fc8
}


class Program(NamedTuple):
    """A net ready to be exported: the model in its form, computing in float32, and the params of its layers alone."""

    model: VGG
    params: Params
    form: Form
    layout: str


def make_program(model: VGG, params: Params, form: str, layout: str) -> Program:
    """The program of a net; ``layout``: "NHWC" or "NCHW", of the images and of the maps that come out.

    Raises InputError for an unknown form or layout, for params that the form needs and that are not there, and for
    params of other shapes than the model's.
    """
    for name, value, known in (("form", form, tuple(FORMS)), ("layout", layout, LAYOUTS)):
        if value not in known:
            raise InputError(f"unknown {name} {value!r}: choose one of {', '.join(known)}")
    chosen = FORMS[form]
    names = [name for name in layer_names(model.arch) if chosen.layer == "fc8" or name not in FC_LAYERS]
    if missing := [name for name in names if name not in params]:
        body = "" if set(missing) - set(FC_LAYERS) else ": a convolutional body has the form pool5 alone"
        raise InputError(f"the params have no {', '.join(missing)}, which the form {form} needs{body}")
    needed = {name: params[name] for name in names}
    model = model.clone(dtype=jnp.float32)
    if chosen.any_size:
        model, needed = dense_form(model, None), conv_kernels(needed)
    program = Program(model, needed, chosen, layout)
    try:
        jax.eval_shape(lambda images: run(program, images), images_like(program, 1, model.crop_size, model.crop_size))
    except flax.errors.ScopeParamShapeError as reason:
        raise InputError(f"the params do not fit the net {model.arch}: {str(reason).splitlines()[0]}") from reason
    return program


def run(program: Program, images: Array) -> Array:
    """The program's activation, by jax, of float32 images with values 0..255 in its layout; it may be traced."""
    if program.layout == "NCHW":
        images = images.transpose(0, 2, 3, 1)
    layer = program.form.layer
    maps: Any = program.model.apply({"params": program.params}, images, (layer,), method=VGG.activations)
    return maps[layer].transpose(0, 3, 1, 2) if maps[layer].ndim == 4 and program.layout == "NCHW" else maps[layer]


def images_like(program: Program, count: Any, height: Any, width: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype of images in the program's layout; sides may be symbolic."""
    shape = (count, height, width, 3) if program.layout == "NHWC" else (count, 3, height, width)
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def least_side(program: Program) -> int:
    """The smallest side of an image that gives the activation one position."""
    if not program.form.any_size:
        return program.model.crop_size
    return next(side for side in itertools.count(1) if map_side(program.model, program.form.layer, side) > 0)
