"""Seconds from the command to the first step: train.py with an empty and a filled cache of programs, and torch.

python experiments/benchmarks/startup.py [--batch=8] [--repeats=5] [--json=FILE] [--plot=FILE.png]

Each is a process of its own on the same pictures, the sides in turns. The first step is where it begins: the end of the
first step less the time of the second. The torch side (pip install '.[peers]') is torchvision's net with its
DataLoader; it is left out where torch is missing. About 10 minutes for the full net D on 2 cores.
"""

import itertools
import statistics
import tempfile
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import whole_runs
from absl import app
from comparison import JSON, PLOT, REPEATS
from interleave import speedup
from matplotlib.figure import Figure
from record import device, write_record
from tqdm import tqdm

GOAL = 15.0  # seconds, for the full net D with a filled cache


def main(_: object) -> None:
    """Measure, print, write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = whole_runs.data(folder / "pictures")
        first_step(whole_runs.ours(folder / "filling", images, f"--compilation_cache={folder / 'filled'}"))
        sides = ["vgg_jax, filled cache", "vgg_jax, empty cache", *(["torchvision"] if find_spec("torch") else [])]
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        turns = list(itertools.product(range(REPEATS.value), sides))
        for turn, side in tqdm(turns, unit="start", leave=False):
            if side == "torchvision":
                ends = whole_runs.torch(images, 2)
            else:
                cache = folder / ("filled" if "filled" in side else f"empty{turn}")
                ends = whole_runs.ours(folder / f"run{turn}{cache.name}", images, f"--compilation_cache={cache}")
            seconds[side].append(first_step(ends))
    rows = [{"side": side, "seconds": statistics.median(times), "all": times} for side, times in seconds.items()]
    for row in rows:
        print(f"  {row['side']:24} {row['seconds']:7.1f} s to the first step")
    ratios = {f"{sides[0]}/{side}": speedup(seconds, sides[0], side) for side in sides[1:]}
    print({name: round(value, 2) for name, value in ratios.items()})
    if JSON.value:
        write_record(JSON.value, rows, ratios, {**whole_runs.setting(), "goal": GOAL})
    if PLOT.value:
        plot(rows, Path(PLOT.value))


def first_step(ends: Generator[float]) -> float:
    """Seconds until the first step began, of a training that is ended after the second."""
    first, second = itertools.islice(ends, 2)
    ends.close()  # ends the process
    return 2 * first - second


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Bars of seconds, with the goal as a line."""
    figure = Figure(figsize=(7, 1.2 + 0.4 * len(rows)), layout="constrained")
    axes = figure.subplots()
    colours = ["C0" if row["side"].startswith("vgg_jax") else "0.6" for row in rows]
    bars = axes.barh([row["side"] for row in rows], [row["seconds"] for row in rows], color=colours)
    axes.bar_label(bars, fmt="%.1f s", padding=2)
    axes.axvline(GOAL, color="C3", linewidth=1)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set(xlabel="seconds from the command to the first step", title=device())
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png", dpi=110)


if __name__ == "__main__":
    app.run(main)
