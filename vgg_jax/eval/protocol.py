"""Protocols as data: a method at test scales is a set of views; a posterior is the mean of its views' (sec. 3.2, 4)."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vgg_jax.errors import InputError
from vgg_jax.eval.crops import GRID

# What each method averages, with equal weights (Table 5).
VIEW_METHODS = {
    "dense": ("dense",),
    "multi_crop": ("multi_crop",),
    "multi_crop+dense": ("multi_crop", "dense"),
    "centre_crop": ("centre_crop",),
}
METHODS = tuple(VIEW_METHODS)


class Member(NamedTuple):
    """One net of an evaluation, with its test scales; a fusion has several (sec. 4.4)."""

    stage: Path  # WORKDIR/STAGE, or a file of weights
    scales: tuple[int, ...]  # smallest sides Q
    checkpoint: str = "best"


class View(NamedTuple):
    """What is computed and stored at once: one method at one test scale."""

    method: str  # dense | multi_crop | centre_crop
    scale: int  # smallest side Q
    flip: bool
    pool_rounding: str  # floor | ceil

    @property
    def name(self) -> str:
        """Short and readable, for the folder of its posteriors."""
        return f"{self.method}-Q{self.scale}-{'flip' if self.flip else 'noflip'}-{self.pool_rounding}"


def views_of(method: str, scales: Sequence[int], flip: bool, pool_rounding: str) -> list[list[View]]:
    """The views of a method at test scales: a list for each of its parts, "multi_crop+dense" has two.

    The centre crop is never flipped. An unknown method or no scale raises InputError.
    """
    if method not in VIEW_METHODS:
        raise InputError(f"unknown method {method!r}: choose one of {', '.join(METHODS)}")
    if not scales:
        raise InputError("no test scales were given: at least one smallest side Q is expected")
    return [
        [View(part, scale, flip and part != "centre_crop", pool_rounding) for scale in scales]
        for part in VIEW_METHODS[method]
    ]


def grid_of(method: str) -> int | None:
    """Crops a side of a method's grid, for its row; None for dense evaluation."""
    return {"dense": None, "centre_crop": 1}.get(method, GRID)
