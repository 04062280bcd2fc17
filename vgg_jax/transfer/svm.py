"""The linear SVM on a representation, its regularisation chosen on held-out training images (appendix B)."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from vgg_jax.errors import InputError
from vgg_jax.metrics import class_recalls
from vgg_jax.transfer.splits import HELD_OUT, hold_out

COSTS = (0.1, 1.0, 10.0, 100.0)  # candidates for C, the weight of the training errors against the regularisation
_ITERATIONS = 100_000  # at most; separable classes need many where C is large


class Fitted(NamedTuple):
    """A linear SVM for each class against the others, and how its C was chosen."""

    predict: Callable[[np.ndarray], np.ndarray]  # vectors [N, D] -> labels [N]
    cost: float
    held_out_recalls: dict[float, float]  # by C: mean class recall on the held-out training images, in percent


def fit(
    vectors: np.ndarray,
    labels: np.ndarray,
    *,
    costs: Sequence[float] = COSTS,
    held_out_fraction: float = HELD_OUT,
    seed: int = 0,
    advance: Callable[[], object] = lambda: None,
) -> Fitted:
    """Fit the training vectors [N, D] with labels [N], C being the best of ``costs`` on images held out of them.

    The held-out images are a fraction of each class; ties go to the smaller C; the SVM is then fitted to all training
    vectors. advance: told after each fit, of which there are len(costs) + 1.
    """
    held_out = hold_out(labels, held_out_fraction, seed)
    recalls = {}
    for cost in sorted(costs):
        svm = _fit(vectors[~held_out], labels[~held_out], cost)
        correct = svm.predict(vectors[held_out]) == labels[held_out]
        recalls[cost] = float(class_recalls(labels[held_out], correct).mean())
        advance()
    best = max(recalls, key=recalls.__getitem__)  # the first, so the smallest, of equals
    svm = _fit(vectors, labels, best)
    advance()
    return Fitted(svm.predict, best, recalls)


def _fit(vectors: np.ndarray, labels: np.ndarray, cost: float) -> Any:
    try:
        from sklearn.svm import LinearSVC
    except ImportError as error:
        raise InputError("the linear SVM needs scikit-learn: pip install 'vgg_jax[transfer]'") from error
    return LinearSVC(C=cost, max_iter=_ITERATIONS, random_state=0).fit(vectors, labels)
