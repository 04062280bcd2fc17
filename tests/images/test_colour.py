"""The colour shift against the closed form of its distribution (sec. 3.1)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vgg_jax.images.colour import IMAGENET_EIGENVALUES, IMAGENET_EIGENVECTORS, colour_shift

KEY = jax.random.key(7)
VALUES, VECTORS = np.array(IMAGENET_EIGENVALUES), np.array(IMAGENET_EIGENVECTORS)


def shifts(n, **options):
    zeros = np.zeros((n, 1, 1, 3), np.uint8)
    return np.asarray(colour_shift(zeros, KEY, np.arange(n, dtype=np.int32), VALUES, VECTORS, **options))[:, 0, 0]


def test_published_vectors_are_orthonormal():
    np.testing.assert_allclose(VECTORS.T @ VECTORS, np.eye(3), atol=1e-3)


@pytest.mark.parametrize("std", [0.1, 0.3])
def test_standard_deviation(std):
    n = 20000
    drawn = shifts(n, std=std)
    tolerance = 5 / np.sqrt(n)  # relative, of a mean or a standard deviation
    expected = 255 * std * VALUES
    along = drawn @ VECTORS
    np.testing.assert_allclose(along.std(axis=0), expected, rtol=tolerance)
    assert (np.abs(along.mean(axis=0)) < tolerance * expected).all()
    covariance = VECTORS @ np.diag(expected**2) @ VECTORS.T
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=2 * tolerance * covariance.max())


def test_first_axis_is_about_five_and_a_half_grey_levels():
    assert 5.3 < (shifts(20000) @ VECTORS)[:, 0].std() < 5.8


def test_one_draw_an_image_added_to_every_pixel():
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    index = np.array([3, 1, 1, 90], np.int32)
    difference = np.asarray(colour_shift(images, KEY, index, VALUES, VECTORS)) - images
    np.testing.assert_allclose(difference, np.broadcast_to(difference[:, :1, :1], difference.shape), atol=1e-4)
    np.testing.assert_allclose(difference[1, 0, 0], difference[2, 0, 0], atol=1e-4)
    assert np.abs(difference[0, 0, 0] - difference[1, 0, 0]).max() > 0.01
    assert np.abs(difference).max() > 0.1


@pytest.mark.parametrize("split", [1, 2, 3, 5, 8])
def test_any_split_gives_the_same_bits(split):
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), dtype=np.uint8)
    index = np.arange(100, 116, dtype=np.int32)
    shift = jax.jit(lambda images, index: colour_shift(images, KEY, index, VALUES, VECTORS))
    parts = [shift(images[i : i + split], index[i : i + split]) for i in range(0, 16, split)]
    np.testing.assert_array_equal(np.concatenate(parts), shift(images, index))


def test_float_images_under_jit_equal_the_eager_result():
    images = jnp.linspace(0, 255, 2 * 4 * 4 * 3, dtype=jnp.float32).reshape(2, 4, 4, 3)
    index = jnp.arange(2)
    eager = colour_shift(images, KEY, index, VALUES, VECTORS)
    assert eager.dtype == jnp.float32
    np.testing.assert_allclose(jax.jit(colour_shift)(images, KEY, index, VALUES, VECTORS), eager, atol=1e-4)


def test_other_keys_other_shifts():
    zeros, index = np.zeros((8, 1, 1, 3)), np.arange(8)
    one, two = (colour_shift(zeros, jax.random.key(k), index, VALUES, VECTORS) for k in (0, 1))
    assert (np.abs(np.asarray(one - two)).max(axis=(1, 2, 3)) > 0.01).all()
