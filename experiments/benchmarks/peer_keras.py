"""The VGG of keras.applications on keras's jax backend as sides of a comparison; needs the extra "peers"."""

import os

os.environ["KERAS_BACKEND"] = "jax"  # keras reads it when it is imported

from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from interleave import Side
from jax import Array
from peer_flax import MEAN, MOMENTUM, RATE

from vgg_jax.errors import InputError
from vgg_jax.model import VGG

KERAS = {"D": "VGG16", "E": "VGG19"}


def keras_forward(model: VGG, images: np.ndarray) -> Side:
    """The forward pass of keras.applications' net on keras's jax backend."""
    net, jax_images = _keras_net(model), jnp.asarray(images)

    def forward(trainable: Any, fixed: Any, images: Array) -> Array:
        return net.stateless_call(trainable, fixed, images[..., ::-1] - jnp.asarray(MEAN[::-1]).reshape(1, 1, 1, 3))[0]

    weights = [[v.value for v in vs] for vs in (net.trainable_variables, net.non_trainable_variables)]
    jitted = jax.jit(forward)
    return lambda: jax.block_until_ready(jitted(*weights, jax_images))


def keras_train(model: VGG, images: np.ndarray, labels: np.ndarray) -> Side:
    """Keras's own train_on_batch, SGD with momentum; keras.applications' net has neither dropout nor decay."""
    net = _keras_net(model)
    net.compile(keras.optimizers.SGD(RATE, MOMENTUM), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batch = (images[..., ::-1] - np.asarray(MEAN[::-1])).astype(np.float32)
    return lambda: net.train_on_batch(batch, labels)


def _keras_net(model: VGG) -> Any:
    if model.arch not in KERAS or model.width_multiplier != 1:
        raise InputError(
            f"keras.applications has nets D and E at full width, not {model.arch} at {model.width_multiplier}"
        )
    shape = (model.crop_size, model.crop_size, 3)
    build = getattr(keras.applications, KERAS[model.arch])
    return build(weights=None, classes=model.num_classes, input_shape=shape, classifier_activation=None)
