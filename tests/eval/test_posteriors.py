import numpy as np
import pytest

from vgg_jax import InputError
from vgg_jax.eval import average_posteriors, top_k_errors
from vgg_jax.eval.posteriors import single_scale, three_scales


def test_top_k_errors_by_hand():
    probs = np.array([[0.5, 0.3, 0.1, 0.05, 0.03, 0.02]] * 4)
    assert top_k_errors(probs, np.array([0, 1, 4, 5])) == {1: 75.0, 5: 25.0}


def test_top_k_errors_equal_a_sort_where_there_are_no_ties():
    rng = np.random.default_rng(0)
    probs, labels = rng.random((500, 20)), rng.integers(0, 20, 500)
    best = np.argsort(-probs, axis=1)
    for k, error in top_k_errors(probs, labels, ks=(1, 3, 5)).items():
        assert error == pytest.approx(100 * np.mean([label not in row[:k] for row, label in zip(best, labels)]))


def test_ties_and_nan_count_as_wrong():
    constant = np.full((3, 10), 0.1)
    assert top_k_errors(constant, np.array([0, 1, 9])) == {1: 100.0, 5: 100.0}
    tied = np.array([[0.4, 0.4, 0.2, 0, 0, 0, 0]])
    assert top_k_errors(tied, np.array([0])) == {1: 100.0, 5: 0.0}
    broken = np.array([[0.9, np.nan, 0, 0, 0, 0, 0]])
    assert top_k_errors(broken, np.array([0])) == {1: 100.0, 5: 100.0}


@pytest.mark.parametrize("labels", [np.array([0, 6]), np.array([-1, 0]), np.array([0])])
def test_labels_that_do_not_fit_raise(labels):
    with pytest.raises(InputError):
        top_k_errors(np.ones((2, 6)), labels)


def test_average_of_posteriors():
    a, b = np.array([[0.2, 0.8]], np.float32), np.array([[0.6, 0.4]], np.float32)
    mean = average_posteriors([a, b])
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean, [[0.4, 0.6]], rtol=1e-6)
    for wrong in ([], [a, np.ones((1, 3))]):
        with pytest.raises(InputError, match="arrays of one shape"):
            average_posteriors(wrong)


def test_the_papers_two_rules_for_q():
    assert single_scale((256, 256)) == 256
    assert single_scale((256, 512)) == 384
    assert three_scales((256, 256)) == (224, 256, 288)
    assert three_scales((384, 384)) == (352, 384, 416)
    assert three_scales((256, 512)) == (256, 384, 512)
    assert three_scales((74, 74), 64) == (65, 74, 83)
    assert three_scales((37, 37), 32) == (32, 37, 42)
