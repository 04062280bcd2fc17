import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score
from tolerances import SAME_PROGRAM, assert_close

from vgg_jax.metrics import class_recalls, cross_entropy, top_k_correct

ARRAYS = pytest.mark.parametrize("array", [np.asarray, jnp.asarray], ids=["numpy", "jax"])


def test_cross_entropy_equals_numpy():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 10, (20, 7)).astype(np.float32), rng.integers(0, 7, 20)
    exact = logits.astype(np.float64)
    probabilities = np.exp(exact) / np.exp(exact).sum(axis=1, keepdims=True)
    assert_close(cross_entropy(logits, labels), -np.log(probabilities[np.arange(20), labels]), SAME_PROGRAM)


def test_cross_entropy_of_large_logits_is_finite():
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32)
    np.testing.assert_allclose(cross_entropy(logits, np.array([0, 0])), [0, 2e4])


def test_cross_entropy_of_a_constant_net_is_ln_of_the_classes():
    np.testing.assert_allclose(cross_entropy(np.zeros((2, 10), np.float32), np.array([0, 9])), np.log(10), rtol=1e-6)


@ARRAYS
@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_correct_equals_a_sort(array, k):
    rng = np.random.default_rng(1)
    scores, labels = rng.permuted(np.tile(np.arange(9.0), (50, 1)), axis=1), rng.integers(0, 9, 50)  # no ties
    best = np.argsort(-scores, axis=1)[:, :k]
    expected = [label in row for label, row in zip(labels, best)]
    correct = top_k_correct(array(scores), array(labels), k)
    assert isinstance(correct, type(array(scores)))
    np.testing.assert_array_equal(correct, expected)


@ARRAYS
@pytest.mark.parametrize(
    "scores, k, expected",
    [
        ([3.0, 2.0, 1.0], 1, True),
        ([3.0, 3.0, 1.0], 1, False),  # a tie for the first place
        ([3.0, 3.0, 1.0], 2, True),
        ([3.0, 3.0, 3.0], 2, False),  # a tie that reaches out of the best two
        ([0.0, 0.0, 0.0], 1, False),
        ([1.0, 2.0, 3.0], 2, False),
        ([2.0, np.nan, 1.0], 1, False),
        ([np.nan, 1.0, 0.0], 1, False),
        ([np.nan, 1.0, 0.0], 2, False),
        ([np.nan, np.nan, np.nan], 2, False),
        ([np.inf, 0.0, -np.inf], 1, True),
    ],
)
def test_top_k_correct_under_ties_and_nan(array, scores, k, expected):
    assert bool(top_k_correct(array([scores]), array([0]), k)[0]) is expected


@ARRAYS
def test_a_constant_net_is_wrong_everywhere(array):
    labels = np.arange(10)
    assert not top_k_correct(array(np.ones((10, 10))), array(labels), 5).any()


def test_mean_class_recall_counts_every_class_the_same():
    labels = np.array([0] * 8 + [1] * 2 + [3])
    predicted = np.array([0] * 6 + [1] * 2 + [1, 0] + [3])
    recalls = class_recalls(labels, predicted == labels)
    np.testing.assert_allclose(recalls, [75, 50, 100])
    assert recalls.mean() == pytest.approx(100 * balanced_accuracy_score(labels, predicted))
