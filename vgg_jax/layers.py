"""Layers without parameters: the 2x2 max-pool and local response normalisation."""

from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from vgg_jax.errors import InputError

POOL_ROUNDINGS = ("floor", "ceil")

# (k, alpha as it multiplies the plain sum of squares over n channels). Krizhevsky et al.: k=2, alpha=1e-4. Caffe
# divides alpha by n and had k=1 fixed at the paper's time; which of the two A-LRN used is not known.
LRN_CONVENTIONS = {"krizhevsky": (2.0, 1e-4), "caffe": (1.0, 1e-4 / 5)}
LRN_CHANNELS, LRN_BETA = 5, 0.75


def max_pool(x: Array, rounding: str = "floor") -> Array:
    """2x2 max-pool with stride 2, [N, H, W, C] -> [N, H/2, W/2, C].

    ``rounding`` says what becomes of an odd last row or column: "floor" drops it (torch, Keras), "ceil" pools what
    there is of the window (Caffe). The gradient goes to the first maximum in reading order, as in torch and Caffe; NaN
    propagates. Comparisons of the four strided views are several times faster than XLA's reduce_window and its
    select-and-scatter, and deterministic on GPUs.
    """
    height, width = x.shape[-3:-1]
    even_height, even_width = 2 * pooled_size(height, rounding), 2 * pooled_size(width, rounding)
    if rounding == "ceil":
        padding = [(0, 0)] * (x.ndim - 3) + [(0, even_height - height), (0, even_width - width), (0, 0)]
        x = jnp.pad(x, padding, constant_values=-jnp.inf)
    else:
        x = x[..., :even_height, :even_width, :]
    top = _first_max(x[..., 0::2, 0::2, :], x[..., 0::2, 1::2, :])
    bottom = _first_max(x[..., 1::2, 0::2, :], x[..., 1::2, 1::2, :])
    return _first_max(top, bottom)


def _first_max(a: Array, b: Array) -> Array:
    # b != b: a NaN in b must win, a NaN in a stays because no comparison with it holds
    return jnp.where((b > a) | (b != b), b, a)


def pooled_size(size: Any, rounding: str) -> Any:
    """Side of the pooled map, floor(size / 2) or ceil(size / 2)."""
    return size // 2 if rounding == "floor" else (size + 1) // 2


def local_response_norm(x: Array, convention: str = "krizhevsky") -> Array:
    """Normalise over 5 neighbouring channels: x / (k + alpha * sum x^2)^0.75 (Krizhevsky et al. 2012, sec. 3.3).

    x: [..., C]; computed in float32, returned in x's dtype. An unknown convention raises InputError.
    """
    if convention not in LRN_CONVENTIONS:
        raise InputError(f"unknown lrn {convention!r}: choose one of {', '.join(LRN_CONVENTIONS)}")
    k, alpha = LRN_CONVENTIONS[convention]
    values = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    half = LRN_CHANNELS // 2
    squares = jnp.pad(values**2, [(0, 0)] * (x.ndim - 1) + [(half, half)])
    channels = x.shape[-1]
    window_sum = sum(lax.slice_in_dim(squares, offset, offset + channels, axis=-1) for offset in range(LRN_CHANNELS))
    return (values / (k + alpha * window_sum) ** LRN_BETA).astype(x.dtype)
