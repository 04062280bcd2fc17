import numpy as np
import pytest

from vgg_jax import InputError
from vgg_jax.transfer.representation import Representation, check_representation, represent

# one image, two scales of a net and two of another: [N, view, pool, C]
FIRST = [np.array([[[[3.0, 0], [9, 9]], [[1, 4], [7, 5]]]]), np.array([[[[0.0, 6], [9, 9]], [[2, 0], [7, 5]]]])]
SECOND = [np.array([[[[8.0], [9]], [[0], [7]]]]), np.array([[[[3.0], [9]], [[3], [7]]]])]


def unit(*values):
    return np.array(values) / np.linalg.norm(values)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, unit(2, 2, 1, 3)),
        ({"flip": False}, unit(3, 0, 0, 6)),
        ({"combine": "average"}, unit(1.5, 2.5)),
        ({"combine": "average", "flip": False}, unit(1.5, 3)),
        ({"pool": "max"}, unit(8, 7, 8, 7)),
    ],
)
def test_mirror_images_scales_and_length(fields, expected):
    representation = Representation(**{"layer": "fc7", "pool": "mean", "scales": (8, 9), "combine": "stack"} | fields)
    np.testing.assert_allclose(represent([FIRST], representation), expected[None])


def test_two_nets_are_stacked_with_equal_weight():
    representation = Representation("fc7", "mean", (8, 9), "average")
    stacked = represent([FIRST, SECOND], representation)
    np.testing.assert_allclose(stacked, np.concatenate([unit(1.5, 2.5), unit(3.5)])[None] / 2**0.5)


def test_nothing_seen_stays_nothing():
    assert not represent([[np.zeros((1, 2, 2, 5))]], Representation("fc7", "mean", (8,), "stack")).any()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"pool": "median"}, "unknown pool 'median': choose one of mean, max"),
        ({"combine": "vote"}, "unknown combine 'vote': choose one of stack, average"),
        ({"scales": ()}, r"scales is \(\), but different smallest sides"),
        ({"scales": (256, 256)}, r"scales is \(256, 256\), but different"),
        ({"scales": (0, 256)}, r"scales is \(0, 256\)"),
    ],
)
def test_bad_input_gives_one_sentence(fields, sentence):
    with pytest.raises(InputError, match=sentence):
        check_representation(Representation("fc7", "mean", (8,), "stack")._replace(**fields))
