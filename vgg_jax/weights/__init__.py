"""Weights: a stage's checkpoint or a file <-> (model, params), and the warm start of one net from another."""

from vgg_jax.weights.load import load_weights
from vgg_jax.weights.save import save_weights
from vgg_jax.weights.warm_start import warm_start

__all__ = ["load_weights", "save_weights", "warm_start"]
