import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from tolerances import SAME_PROGRAM, assert_close

from vgg_jax import InputError
from vgg_jax.layers import local_response_norm, max_pool

SIZES = [(4, 6), (5, 6), (4, 7), (7, 5), (1, 2)]


def with_ties(shape, seed=0):
    """Few different values, so that most windows hold ties."""
    return np.random.default_rng(seed).integers(-2, 2, shape).astype(np.float32)


def reduce_window(x, rounding):
    padding = [(0, 0), *((0, size % 2 if rounding == "ceil" else 0) for size in x.shape[1:3]), (0, 0)]
    return lax.reduce_window(x, -np.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), padding)


def gradient_to_first_maximum(x, cotangent):
    """The windows one by one; each gives its cotangent to the first maximum in reading order."""
    gradient = np.zeros_like(x)
    for n, i, j, c in np.ndindex(cotangent.shape):
        window = x[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c]
        row, column = np.unravel_index(np.argmax(window), window.shape)
        gradient[n, 2 * i + row, 2 * j + column, c] += cotangent[n, i, j, c]
    return gradient


@pytest.mark.parametrize("rounding", ["floor", "ceil"])
@pytest.mark.parametrize("size", SIZES)
def test_max_pool_equals_reduce_window_bit_for_bit(size, rounding):
    x = np.random.default_rng(1).standard_normal((2, *size, 3), np.float32)
    pooled = np.asarray(max_pool(x, rounding))
    expected = np.asarray(reduce_window(x, rounding))
    assert pooled.shape == expected.shape
    assert pooled.tobytes() == expected.tobytes()


@pytest.mark.parametrize("rounding", ["floor", "ceil"])
@pytest.mark.parametrize("size", SIZES)
def test_max_pool_gives_its_gradient_to_the_first_maximum(size, rounding):
    x = with_ties((2, *size, 3))
    pooled, vjp = jax.vjp(lambda x: max_pool(x, rounding), x)
    cotangent = np.random.default_rng(2).standard_normal(pooled.shape, np.float32)
    (gradient,) = vjp(cotangent)
    np.testing.assert_array_equal(gradient, gradient_to_first_maximum(x, cotangent))


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("others", [-np.inf, -1.0, 0.0, np.inf])
def test_max_pool_propagates_nan_from_any_place(place, others):
    window = np.full(4, others, np.float32)
    window[place] = np.nan
    assert np.isnan(max_pool(window.reshape(1, 2, 2, 1))).all()


def test_max_pool_keeps_bfloat16():
    x = jnp.asarray(with_ties((1, 4, 4, 2)), jnp.bfloat16)
    assert max_pool(x).dtype == jnp.bfloat16


@pytest.mark.parametrize("convention, k, alpha", [("krizhevsky", 2.0, 1e-4), ("caffe", 1.0, 1e-4 / 5)])
@pytest.mark.parametrize("channels", [3, 8])
def test_local_response_norm_is_its_formula(convention, k, alpha, channels):
    x = np.random.default_rng(3).normal(0, 100, (2, 3, 3, channels)).astype(np.float32)
    expected = np.empty(x.shape)
    for c in range(channels):
        neighbours = x[..., max(0, c - 2) : c + 3].astype(np.float64)
        expected[..., c] = x[..., c] / (k + alpha * (neighbours**2).sum(-1)) ** 0.75
    assert_close(local_response_norm(x, convention), expected, SAME_PROGRAM)


def test_local_response_norm_of_bfloat16_is_computed_in_float32():
    x = jnp.asarray(np.random.default_rng(4).normal(0, 100, (1, 2, 2, 8)), jnp.bfloat16)
    normalised = local_response_norm(x)
    assert normalised.dtype == jnp.bfloat16
    assert (normalised == local_response_norm(x.astype(jnp.float32)).astype(jnp.bfloat16)).all()


def test_unknown_lrn_convention():
    with pytest.raises(InputError, match=r"unknown lrn 'torch': choose one of krizhevsky, caffe"):
        local_response_norm(np.zeros((1, 1, 1, 3), np.float32), "torch")
