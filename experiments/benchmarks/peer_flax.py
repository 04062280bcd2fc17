"""The peer that needs no installation: a VGG as flax's users write it, as sides of a comparison."""

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from interleave import Side
from jax import Array

from vgg_jax.architectures import FC_CHANNELS, blocks_of
from vgg_jax.model import VGG, scaled

RATE, MOMENTUM, DECAY = 0.01, 0.9, 5e-4
MEAN = (123.68, 116.779, 103.939)


class PlainVGG(nn.Module):
    """A VGG as flax's users write it: linen layers, reduce_window pooling, one dropout key, optax."""

    model: VGG  # for its net, width and number of classes

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        """Logits of images [N, crop, crop, 3]."""
        model = self.model
        x = (images.astype(jnp.float32) - jnp.asarray(MEAN).reshape(1, 1, 1, 3)).astype(model.dtype)
        for block in blocks_of(model.arch):
            for layer in block:
                channels = scaled(layer.channels, model.width_multiplier)
                x = nn.relu(nn.Conv(channels, (layer.kernel, layer.kernel), dtype=model.dtype)(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = x.reshape(len(x), -1)
        for _ in range(2):
            x = nn.relu(nn.Dense(scaled(FC_CHANNELS, model.width_multiplier), dtype=model.dtype)(x))
            x = nn.Dropout(model.dropout_rate, deterministic=not train)(x)
        return nn.Dense(model.num_classes, dtype=model.dtype)(x).astype(jnp.float32)


def flax_forward(model: VGG, images: np.ndarray) -> Side:
    """The jitted forward pass of `PlainVGG`."""
    plain = PlainVGG(model)
    params = jax.jit(plain.init)(jax.random.key(0), images[:1])
    forward = jax.jit(plain.apply)
    batch = jnp.asarray(images)
    return lambda: jax.block_until_ready(forward(params, batch))


def flax_train(model: VGG, images: np.ndarray, labels: np.ndarray) -> Side:
    """The jitted training step of `PlainVGG` with optax, its state donated."""
    plain = PlainVGG(model)
    optimizer = optax.chain(optax.add_decayed_weights(DECAY), optax.sgd(RATE, MOMENTUM))

    def step(params: Any, opt_state: Any, key: Array, images: Array, labels: Array) -> tuple[Any, Any, Array, Array]:
        key, dropout = jax.random.split(key)

        def loss(params: Any) -> Array:
            logits = cast(Array, plain.apply(params, images, train=True, rngs={"dropout": dropout}))
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, key, value

    params = jax.jit(plain.init)(jax.random.key(0), images[:1])
    state = (params, optimizer.init(params), jax.random.key(1))
    jitted = jax.jit(step, donate_argnums=(0, 1, 2))
    batch, targets = jnp.asarray(images), jnp.asarray(labels)

    def side() -> None:
        nonlocal state
        *state_, value = jitted(*state, batch, targets)
        state = (state_[0], state_[1], state_[2])
        value.block_until_ready()

    return side
