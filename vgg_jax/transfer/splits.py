"""Random splits of a data set into training and test images, class by class (appendix B)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vgg_jax.errors import InputError

HELD_OUT = 0.2  # of the training images, to choose the regularisation on


class Split(NamedTuple):
    """Records of a random split, disjoint, each in rising order."""

    train: np.ndarray  # int64
    test: np.ndarray  # int64


def random_split(
    labels: np.ndarray, class_names: Sequence[str], number: int, *, train_images: int, test_images: int, seed: int = 0
) -> Split:
    """Draw split ``number``: ``train_images`` of each class, and of the others at most ``test_images`` to test on.

    The same seed and number give the same split; fewer test images are a part of more. Raises InputError for a class
    that has no image left to test on.
    """
    if train_images < 2 or test_images < 1:
        raise InputError(
            f"{train_images} training and {test_images} test images a class were asked for, but at least 2 and 1 are "
            "expected: some training images are held out to choose the SVM's regularisation"
        )
    counts = np.bincount(labels, minlength=len(class_names))
    if counts.min() <= train_images:
        smallest = int(counts.argmin())
        raise InputError(
            f"class {class_names[smallest]} has {counts[smallest]} images, but {train_images} to train and at least 1 "
            "to test are needed: ask for fewer training images"
        )
    rng = np.random.default_rng([seed, number])
    dealt = [rng.permutation(np.flatnonzero(labels == label)) for label in range(len(class_names))]
    train = np.concatenate([members[:train_images] for members in dealt])
    test = np.concatenate([members[train_images : train_images + test_images] for members in dealt])
    return Split(np.sort(train), np.sort(test))


def hold_out(labels: np.ndarray, fraction: float = HELD_OUT, seed: int = 0) -> np.ndarray:
    """Bool [N]: which training images are held out, the fraction of each class, at least one and never all."""
    rng = np.random.default_rng(seed)
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        held_out[members[: min(max(1, round(fraction * len(members))), len(members) - 1)]] = True
    return held_out
