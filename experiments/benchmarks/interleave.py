"""Sides of a comparison, timed in turns: what disturbs the machine disturbs all of them."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

from tqdm import tqdm

Side = Callable[[], object]  # does its work and returns when it is done


def interleaved(sides: Mapping[str, Side], repeats: int, desc: str = "") -> dict[str, list[float]]:
    """Seconds of each side, ``repeats`` of them, taken in rounds after one call of each that is not timed."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    with tqdm(total=len(sides) * (repeats + 1), desc=desc, unit="call", leave=False) as bar:
        for timed in (False, *[True] * repeats):
            for name, side in sides.items():
                start = time.perf_counter()
                side()
                if timed:
                    seconds[name].append(time.perf_counter() - start)
                bar.update()
    return seconds


def speedup(seconds: Mapping[str, Sequence[float]], side: str, over: str) -> float:
    """How many times faster ``side`` is than ``over``: the median of the rounds' ratios."""
    return statistics.median(b / a for a, b in zip(seconds[side], seconds[over], strict=True))
