"""Cross entropy and top-k errors, per example, so that callers add up sums and counts."""

from typing import TypeVar

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

AnyArray = TypeVar("AnyArray", Array, np.ndarray)


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Multinomial logistic loss of each example: logits [N, K], labels int [N] in [0, K) -> [N] (sec. 3.1)."""
    chex.assert_rank([logits, labels], [2, 1])
    label_logits = jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
    return jax.nn.logsumexp(logits, axis=-1) - label_logits


def top_k_correct(scores: AnyArray, labels: AnyArray, k: int) -> AnyArray:
    """Whether each example's class is strictly among the k best: scores [N, K], labels int [N] -> bool [N].

    A class that ties with the label stands before it, and a row with a NaN is wrong, so that a constant or a broken
    net scores 100% error. Works on numpy and jax arrays alike.
    """
    label_scores = scores[np.arange(len(labels)), labels]
    rank = (scores >= label_scores[:, None]).sum(axis=-1)  # 1 for a sole winner
    return (rank <= k) & ~(scores != scores).any(axis=-1)


def class_recalls(labels: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """For each class that occurs, in order, the part of its images that are correct, in percent.

    labels int [N], correct bool [N] -> float64. Their mean, in which each class counts the same however many images it
    has, is the measure of Caltech-101 (appendix B).
    """
    return np.array([100.0 * correct[labels == label].mean() for label in np.unique(labels)])
