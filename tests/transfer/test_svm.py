import sys

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score
from sklearn.svm import LinearSVC

from vgg_jax import InputError
from vgg_jax.transfer.splits import hold_out
from vgg_jax.transfer.svm import fit

COSTS = (1e-4, 0.01, 1.0, 100.0)


@pytest.fixture(scope="module")
def blurred():
    """(vectors, labels): four classes that overlap, so that C matters."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 30)
    return rng.normal(size=(4, 20))[labels] + 2.0 * rng.normal(size=(120, 20)), labels


def test_c_is_the_best_on_the_held_out_part_of_the_training_images(blurred):
    vectors, labels = blurred
    fitted = fit(vectors, labels, costs=COSTS)
    held_out = hold_out(labels)
    expected = {}
    for cost in COSTS:
        svm = LinearSVC(C=cost, random_state=0).fit(vectors[~held_out], labels[~held_out])
        expected[cost] = 100 * balanced_accuracy_score(labels[held_out], svm.predict(vectors[held_out]))
    assert fitted.held_out_recalls == pytest.approx(expected)
    assert fitted.cost == max(sorted(COSTS), key=expected.__getitem__) == 0.01
    assert expected[0.01] > expected[100.0]
    everything = LinearSVC(C=0.01, random_state=0).fit(vectors, labels)
    np.testing.assert_array_equal(fitted.predict(vectors), everything.predict(vectors))


def test_of_equals_the_smaller_c_and_every_fit_is_told(blurred):
    vectors = 10.0 * np.eye(4)[blurred[1]]
    told = []
    fitted = fit(vectors, blurred[1], costs=(10.0, 1.0), advance=lambda: told.append(1))
    assert fitted.held_out_recalls == {1.0: 100.0, 10.0: 100.0}
    assert fitted.cost == 1.0
    assert len(told) == 3


def test_without_scikit_learn_one_sentence(blurred, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    with pytest.raises(InputError, match=r"needs scikit-learn: pip install 'vgg_jax\[transfer\]'"):
        fit(*blurred)
