"""Images/s of whole trainings, files to updated params: train.py beside torch's usual loop, and the step alone.

python experiments/benchmarks/end_to_end.py [--data_path=DIR] [--batch=256] [--workers=16] [--json=FILE] [--plot=PNG]

train.py decodes, shifts colours, logs and counts as it does for its users; the torch side is torchvision's net behind
its DataLoader (pip install '.[peers]'). Each is a process of its own on the same files, in turns; the first steps of
each, which start the pipelines, do not count. "The step alone" is the same step on a batch that is there already: what
train.py would reach if its input cost nothing. On a CPU the step is the bound; --width=0.1 --crop=64 shows the input.
"""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import comparison
import numpy as np
import whole_runs
from absl import app, flags
from interleave import speedup
from ours import Variant, train
from record import write_record
from tqdm import tqdm

STEPS = flags.DEFINE_integer("steps", 6, "Steps that count.", 1)
UNTIMED = 4  # steps: pipelines fill, and caches of the disk

OURS, ALONE, TORCH = "train.py", "the step alone", "torchvision and its DataLoader"


def main(_: object) -> None:
    """Measure, print, write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = whole_runs.data(folder / "pictures")
        sides = [OURS, *([TORCH] if find_spec("torch") else []), ALONE]
        alone = step_alone()
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        for turn, side in tqdm(
            list(itertools.product(range(comparison.REPEATS.value), sides)), unit="run", leave=False
        ):
            if side == ALONE:
                seconds[side].append(alone())
            elif side == TORCH:
                seconds[side].append(a_step(whole_runs.torch(images, UNTIMED + STEPS.value)))
            else:
                seconds[side].append(a_step(whole_runs.ours(folder / f"run{turn}", images)))
    rows = [row_of(side, statistics.median(seconds[side]), speedup(seconds, OURS, side)) for side in sides]
    for row in rows:
        print(
            f"  {row['side']:32} batch {row['batch']:4} {1000 * row['seconds']:9.1f} ms "
            f"{row['images_per_s']:9.2f} images/s {row['ours_over_this']:6.2f}x"
        )
    ratios = {f"{OURS}/{row['side']}": row["ours_over_this"] for row in rows[1:]}
    if comparison.JSON.value:
        write_record(comparison.JSON.value, rows, ratios, {**whole_runs.setting(), "steps": STEPS.value})
    if comparison.PLOT.value:
        comparison.plot(rows, "whole trainings", Path(comparison.PLOT.value))


def row_of(side: str, seconds: float, ratio: float) -> dict[str, Any]:
    """A row of the table; seconds of a step."""
    batch = whole_runs.BATCH.value
    return {"side": side, "batch": batch, "seconds": seconds, "images_per_s": batch / seconds, "ours_over_this": ratio}


def a_step(ends: Generator[float]) -> float:
    """Mean seconds of a step of a training, once it runs."""
    times = list(itertools.islice(ends, UNTIMED + STEPS.value))
    ends.close()  # ends the process
    return (times[-1] - times[UNTIMED - 1]) / STEPS.value


def step_alone() -> Callable[[], float]:
    """Mean seconds of a step whose batch is on the device."""
    model = comparison.model_of_flags()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (whole_runs.BATCH.value, model.crop_size, model.crop_size, 3), np.uint8)
    labels = rng.integers(0, model.num_classes, whole_runs.BATCH.value, np.int32)
    step, _ = train(
        model, images, labels, Variant(dtype=comparison.dtype(), micro_batches=whole_runs.MICRO_BATCHES.value)
    )
    step()

    def measured() -> float:
        start = time.perf_counter()
        for _ in range(STEPS.value):
            step()
        return (time.perf_counter() - start) / STEPS.value

    return measured


if __name__ == "__main__":
    app.run(main)
