import numpy as np
import pytest
from test_model import narrow, photographs, random_params

from vgg_jax import InputError
from vgg_jax.eval import dense_eval, top_k_errors
from vgg_jax.eval.dataset import dense_set_errors

MODEL = narrow("A", crop_size=32, num_classes=8)


def views(count, label=lambda i: i % 8, unreadable=()):
    for i in range(count):
        image = photographs((40 + i % 3, 45, 3), seed=i)
        yield (i, -1, None) if i in unreadable else (i, label(i), [image, image[:35]])


def test_errors_of_a_stream_are_those_of_all_images_at_once():
    params = random_params(MODEL)
    errors = dense_set_errors(MODEL, params, views(20), 20)
    at_q = zip(*(images for _, _, images in views(20)))
    probs = np.mean([dense_eval(MODEL, params, list(images)) for images in at_q], axis=0)
    expected = top_k_errors(probs, np.arange(20) % 8)
    assert (errors.top1_error, errors.top5_error) == pytest.approx((expected[1], expected[5]))
    assert (errors.num_images, errors.num_skipped) == (20, 0)


def test_unreadable_images_are_left_out_and_counted():
    errors = dense_set_errors(MODEL, random_params(MODEL), views(6, unreadable=(1, 4)), 6)
    assert (errors.num_images, errors.num_skipped) == (4, 2)


def test_unlabelled_images_have_no_errors():
    errors = dense_set_errors(MODEL, random_params(MODEL), views(4, label=lambda i: -1), 4)
    assert errors == (None, None, 4, 0)


def test_each_image_must_come_exactly_once():
    params = random_params(MODEL)
    with pytest.raises(AssertionError, match="5 records were to be evaluated"):
        dense_set_errors(MODEL, params, views(4), 5)
    with pytest.raises(AssertionError, match="twice"):
        dense_set_errors(MODEL, params, [*views(4), *views(1)], 5)


def test_bad_input_gives_one_sentence():
    params = random_params(MODEL)
    with pytest.raises(InputError, match="label 8 lies outside the net's 8 classes"):
        dense_set_errors(MODEL, params, views(4, label=lambda i: 8), 4)
    with pytest.raises(InputError, match="no image of the split could be read"):
        dense_set_errors(MODEL, params, views(2, unreadable=(0, 1)), 2)
