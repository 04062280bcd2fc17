"""What the checksums of a checkpoint cost: net D at full width with its velocity, saved, recorded, verified, restored.

python experiments/benchmarks/checksums.py [--directory=DIR] [--json=FILE]
"""

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags
from absl import logging as absl_logging
from record import write_record

from vgg_jax import VGG, checkpoint
from vgg_jax.checksums import NAME, find_damage, write_checksums
from vgg_jax.training.state import params_shapes

DIRECTORY = flags.DEFINE_string("directory", None, "The disk to use; the one of temporary files if not given.")
JSON = flags.DEFINE_string("json", None, "File for the figures.")
REPEATS = flags.DEFINE_integer("repeats", 3, "Timed rounds; the median counts.")
WIDTH = flags.DEFINE_float("width", 1.0, "Of net D.")


def measure(directory: Path, step: int, items: dict[str, Any]) -> dict[str, float]:
    """Seconds of a round: save (with its checksums), the checksums alone, their verification, a restore."""
    times, folder = {}, directory / str(step)
    with checkpoint.open_checkpoints(directory) as manager:
        start = time.perf_counter()
        checkpoint.save(manager, step, items, {}, None)
        times["save"] = time.perf_counter() - start
    for name, action in (
        ("checksums", lambda: write_checksums(folder)),
        ("verification", lambda: find_damage(folder)),
        ("restore", lambda: checkpoint.restore(directory, step, items)),
    ):
        start = time.perf_counter()
        action()
        times[name] = time.perf_counter() - start
    return times


def main(_: object) -> None:
    """Measure, print, write."""
    absl_logging.set_verbosity(absl_logging.ERROR)
    rng = np.random.default_rng(0)
    shapes = params_shapes(VGG("D", num_classes=1000, width_multiplier=WIDTH.value))

    def draw(shape: jax.ShapeDtypeStruct) -> np.ndarray:
        return rng.standard_normal(shape.shape, np.float32)

    items = {name: jax.tree.map(draw, shapes) for name in ("params", "velocity")}
    with tempfile.TemporaryDirectory(dir=DIRECTORY.value) as folder:
        rounds = [measure(Path(folder), step, items) for step in range(REPEATS.value)]
        latest = Path(folder) / str(REPEATS.value - 1)
        files = json.loads((latest / NAME).read_text())["files"]
    row = {name: statistics.median(times[name] for times in rounds) for name in rounds[0]}
    row |= {"gigabytes": sum(file["bytes"] for file in files.values()) / 1e9, "files": len(files)}
    ratios = {f"{a}/{b}": row[a] / row[b] for a, b in (("verification", "restore"), ("checksums", "save"))}
    print({name: round(value, 2) for name, value in (row | ratios).items()})
    if JSON.value:
        write_record(JSON.value, [row], ratios)


if __name__ == "__main__":
    app.run(main)
