"""Errors and their differences with standard errors: over the test images, and over seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vgg_jax.errors import InputError


class Estimate(NamedTuple):
    """A mean and its standard error, both in percent points."""

    points: float
    standard_error: float


def estimate(values: np.ndarray) -> Estimate:
    """Mean of values [seeds, images], the same images for each seed, in percent.

    Values are 0 or 1 (was the image wrong), or differences of such. The standard error has two parts, added in
    quadrature: that of the mean over images of the values averaged over seeds, and, with several seeds, that of
    the mean over seeds. With a single seed the spread of the training is not in it.
    """
    seeds, images = values.shape
    if images < 2:
        raise InputError(f"{images} labelled images were evaluated: a standard error needs at least two")
    variance = values.mean(axis=0).var(ddof=1) / images
    if seeds > 1:
        variance += values.mean(axis=1).var(ddof=1) / seeds
    return Estimate(100.0 * float(values.mean()), 100.0 * float(np.sqrt(variance)))


def paired_differences(worse: Sequence[np.ndarray], better: Sequence[np.ndarray]) -> np.ndarray:
    """wrong(worse) - wrong(better), image by image: two lists of bool [images] -> float64 [pairs, images].

    Positive where ``better`` errs less often. Arrays of different lengths, which cannot be of the same test images,
    raise InputError.
    """
    lengths = sorted({len(wrong) for wrong in (*worse, *better)})
    if len(lengths) != 1:
        raise InputError(
            f"nets to be compared were evaluated on different numbers of images ({', '.join(map(str, lengths))}): "
            "evaluate them on one split of one data set"
        )
    return np.array(worse, np.float64) - np.array(better, np.float64)
