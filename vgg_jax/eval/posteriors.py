"""Posteriors: their mean, their errors, and the paper's rules for the test scales Q (sec. 3.2, 4)."""

from collections.abc import Sequence

import numpy as np

from vgg_jax.errors import InputError
from vgg_jax.metrics import top_k_correct


def average_posteriors(posteriors: Sequence[np.ndarray]) -> np.ndarray:
    """Mean with equal weights over flips, scales, methods or nets: arrays [N, K] of one shape -> float32 [N, K].

    An empty list or arrays of different shapes raise InputError (sec. 4.4).
    """
    arrays = [np.asarray(p) for p in posteriors]
    shapes = {a.shape for a in arrays}
    if len(shapes) != 1:
        raise InputError(f"average_posteriors takes arrays of one shape, but got {sorted(shapes) or 'an empty list'}")
    return np.asarray(np.mean(np.stack(arrays), axis=0, dtype=np.float64), np.float32)


def top_k_errors(probs: np.ndarray, labels: np.ndarray, ks: Sequence[int] = (1, 5)) -> dict[int, float]:
    """Top-k errors in percent: probs [N, K], labels int [N] in [0, K) -> {k: error}. Ties and NaN count as wrong.

    No examples, lengths that differ, or a label outside [0, K) raise InputError.
    """
    probs, labels = np.asarray(probs), np.asarray(labels)
    if probs.ndim != 2 or labels.shape != probs.shape[:1] or not len(labels):
        raise InputError(
            f"top_k_errors takes probs [N, K] and labels [N] with N > 0, but got {probs.shape} and {labels.shape}"
        )
    outside = labels[(labels < 0) | (labels >= probs.shape[1])]
    if len(outside):
        raise InputError(f"label {outside[0]} lies outside the {probs.shape[1]} classes (0 to {probs.shape[1] - 1})")
    return {k: 100.0 * (1.0 - float(top_k_correct(probs, labels, k).mean())) for k in ks}


def single_scale(train_scale: Sequence[int]) -> int:
    """Q of Table 3: S for a fixed training scale (S, S), the middle of a range (S_min, S_max) (sec. 4.1)."""
    low, high = train_scale
    return round((low + high) / 2)


def three_scales(train_scale: Sequence[int], crop_size: int = 224) -> tuple[int, int, int]:
    """The three Q of Table 4: S - 32, S, S + 32 for a fixed S; S_min, their middle, S_max for a range (sec. 4.2).

    The 32 belongs to crops of 224 and shrinks with the crop.
    """
    low, high = train_scale
    delta = round(32 * crop_size / 224)
    return (low - delta, low, low + delta) if low == high else (low, single_scale(train_scale), high)


def scale_numbers(scales: Sequence[str | int] | None) -> tuple[int, ...] | None:
    """Test scales as they were typed -> numbers; None for none. Raises InputError for what is no whole number."""
    try:
        numbers = tuple(int(scale) for scale in scales or ())
    except ValueError:
        numbers = (0,)
    if any(number < 1 for number in numbers):
        raise InputError(f"scales are {','.join(map(str, scales or ()))}, but whole numbers are expected: 256,384,512")
    return numbers or None
