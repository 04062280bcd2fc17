import jax
import numpy as np
import pytest
from test_model import narrow, photographs, random_params

from vgg_jax import InputError
from vgg_jax.eval import centre_crop_eval, dense_eval, dense_scores, multi_crop_eval

MODEL = narrow("A", crop_size=32)
IMAGES = photographs((2, 37, 40, 3)).astype(np.float32)


@pytest.mark.parametrize("function", [dense_eval, dense_scores, multi_crop_eval, centre_crop_eval])
@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (IMAGES / 255, r"lie in \[0, 1\]"),
        ((IMAGES / 255 - 0.45) / 0.22, "look divided by a standard deviation"),
        (IMAGES / 127.5 - 1, "look divided by a standard deviation"),
        (IMAGES - 120, "as if a mean was subtracted"),
        (IMAGES.astype(np.uint16) * 257, "are brighter than 8 bits hold"),
        ([IMAGES[0], IMAGES[1] / 255], r"image 1 has values .* which lie in \[0, 1\]"),
    ],
)
def test_floats_of_another_range_raise_a_sentence(function, images, sentence):
    with pytest.raises(InputError, match=sentence):
        function(MODEL, random_params(MODEL), images)


@pytest.mark.parametrize("function", [dense_eval, multi_crop_eval])
def test_value_range_maps_to_0_255_or_believes(function):
    params = random_params(MODEL)
    expected = function(MODEL, params, IMAGES)
    np.testing.assert_allclose(function(MODEL, params, IMAGES / 255, value_range=(0, 1)), expected, atol=1e-5)
    np.testing.assert_allclose(function(MODEL, params, IMAGES / 127.5 - 1, value_range=(-1, 1)), expected, atol=1e-5)
    dark = IMAGES / 255
    assert function(MODEL, params, dark, value_range=(0, 255)).shape == expected.shape
    black = np.zeros_like(IMAGES)
    assert np.isfinite(function(MODEL, params, black)).all()


def test_nan_pixels_and_odd_ranges():
    broken = [IMAGES[0], IMAGES[1].copy()]
    broken[1][3, 4, 1] = np.nan
    with pytest.raises(InputError, match="image 1 has NaN or infinite pixels"):
        dense_eval(MODEL, random_params(MODEL), broken)
    with pytest.raises(InputError, match="value_range is"):
        dense_eval(MODEL, random_params(MODEL), IMAGES, value_range=(0, np.inf))
    with pytest.raises(InputError, match="value_range is"):
        dense_eval(MODEL, random_params(MODEL), IMAGES, value_range=(1, 0))


@pytest.mark.parametrize("function", [dense_eval, dense_scores, multi_crop_eval, centre_crop_eval])
@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "3"])
def test_odd_batch_sizes(function, batch_size):
    with pytest.raises(InputError, match=r"batch_size is .* but a whole number from 1 is expected"):
        function(MODEL, random_params(MODEL), IMAGES, batch_size=batch_size)


def test_concrete_images_are_checked_under_traced_params():
    for images, sentence in ((IMAGES / 255, "lie in"), (np.full_like(IMAGES, np.nan), "NaN"), (list(IMAGES), "a list")):
        for function in (dense_eval, dense_scores):
            with pytest.raises(InputError, match=sentence):
                jax.jit(lambda p, f=function, x=images: f(MODEL, p, x))(random_params(MODEL))
    for function in (multi_crop_eval, centre_crop_eval):
        with pytest.raises(InputError, match="takes concrete images"):
            jax.jit(lambda x, f=function: f(MODEL, random_params(MODEL), x))(IMAGES)


def test_concrete_images_inside_a_jit_are_computed_at_once():
    """As for the fixed target of a loss that somebody differentiates."""
    params = random_params(MODEL)
    for function in (dense_eval, dense_scores, multi_crop_eval):
        expected = np.asarray(function(MODEL, params, IMAGES))
        inside = jax.jit(lambda x, f=function: x + f(MODEL, params, IMAGES))(np.zeros_like(expected))
        np.testing.assert_array_equal(inside, expected)
