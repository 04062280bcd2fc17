"""From stored descriptors to what the SVM sees: mirror images, scales and nets combined, length 1 (appendix B)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vgg_jax.errors import InputError
from vgg_jax.transfer.descriptors import POOLS, VIEWS

COMBINATIONS = ("stack", "average")


class Representation(NamedTuple):
    """How the descriptors of an image become one vector."""

    layer: str
    pool: str  # mean | max, over the positions of the layer
    scales: tuple[int, ...]  # smallest sides Q
    combine: str  # stack | average, of the scales
    flip: bool = True  # the mean of the image's and the mirror image's


def check_representation(representation: Representation) -> None:
    """Raise InputError for an unknown pooling or combination, and for scales that are none or come twice."""
    for field, known in (("pool", POOLS), ("combine", COMBINATIONS)):
        if (value := getattr(representation, field)) not in known:
            raise InputError(f"unknown {field} {value!r}: choose one of {', '.join(known)}")
    scales = representation.scales
    if not scales or min(scales) < 1 or len(set(scales)) < len(scales):
        raise InputError(f"scales is {scales!r}, but different smallest sides from 1 are expected, as (256, 384, 512)")


def represent(nets: Sequence[Sequence[np.ndarray]], representation: Representation) -> np.ndarray:
    """Unit vectors [N, D] from each net's descriptors [N, 2, 2, C] at each of the scales (see `vgg_jax.transfer`).

    A net's scales are combined and its vector is brought to length 1; the nets' vectors are stacked, with equal weight.
    """
    of_nets = []
    for of_scales in nets:
        pooled = [_mean_of_views(descriptors, representation) for descriptors in of_scales]
        stacked = representation.combine == "stack"
        of_nets.append(unit_length(np.concatenate(pooled, axis=1) if stacked else np.mean(pooled, axis=0)))
    return unit_length(np.concatenate(of_nets, axis=1))


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """Vectors [N, D] divided by their Euclidean length; zero vectors stay zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def _mean_of_views(descriptors: np.ndarray, representation: Representation) -> np.ndarray:
    pooled = descriptors[:, :, POOLS.index(representation.pool)]  # [N, 2, C]
    return pooled.mean(axis=1) if representation.flip else pooled[:, VIEWS.index("image")]
