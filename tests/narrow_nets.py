"""Narrow nets for the tests of exporting, their images, and what the graph in onnx_reference makes of them."""

import jax
import numpy as np
from onnx_reference import reference

from vgg_jax import VGG

FC = ("fc6", "fc7", "fc8")


def narrow(arch, **fields):
    """(model, params): crop 64, so that fc6 sees a window of 2x2; params are drawn by numpy."""
    std = (2.0, 3.0, 4.0)
    model = VGG(arch=arch, num_classes=5, width_multiplier=0.03, crop_size=64, std_rgb=std, **fields)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), np.uint8)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    rng = np.random.default_rng(0)

    def draw(array):
        return rng.normal(0.02, 1.4 / np.sqrt(np.prod(array.shape[:-1])), array.shape).astype(np.float32)

    return model, jax.tree.map(draw, shapes)


def noise(count, height, width):
    return np.random.default_rng(1).uniform(0, 255, (count, height, width, 3)).astype(np.float32)


def expected(model, params, form, images):
    """Logits, score maps or pool5 [N, h, w, C] by the reference, which knows no std."""
    mean, std = np.array(model.mean_rgb), np.array(model.std_rgb)
    options = {"mean_rgb": mean / std, "pool_rounding": model.pool_rounding, "lrn": model.lrn}
    if form == "pool5":
        return reference(model.arch, params, images / std, dense=True, layers=("pool5",), **options)["pool5"]
    return reference(model.arch, params, images / std, dense=form == "dense", **options)


def in_layout(images, layout):
    return images if layout == "NHWC" else images.transpose(0, 3, 1, 2)


def as_nhwc(result, layout):
    return result.transpose(0, 2, 3, 1) if layout == "NCHW" and result.ndim == 4 else result
