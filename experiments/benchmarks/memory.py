"""Resident memory of a training of 2,000 steps and of an evaluation of 9,000 photographs: does it grow?

python experiments/benchmarks/memory.py --data_path=CALTECH101 [--workers=0] [--json=FILE] [--plot=FILE.png]

Runs train.py as a user does (net D at 1/16 of its width, crop 32), then a process that evaluates what was trained on
twice, and looks at /proc every few seconds: the resident set of the process and its children. Warm-up is the first
quarter of the training, and the first evaluation, which compiles a program for each padded size. Growth is the median
of the last third of what follows less that of its first third. It takes about 8 minutes on 2 cores.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import app, flags
from matplotlib.figure import Figure
from record import device, write_record

from vgg_jax.eval.workdir import evaluate_stages

DATA_PATH = flags.DEFINE_string("data_path", None, "A folder of classes; Caltech-101 has 9,092 images.")
STEPS = flags.DEFINE_integer("steps", 2000, "Steps of the training.", 1)
WORKERS = flags.DEFINE_integer("workers", 0, "data.workers of the training.", 0)
SCALES = flags.DEFINE_list("scales", ["37"], "Test scales of the evaluation.")
EVALUATE = flags.DEFINE_string("evaluate", None, "Only evaluate this workdir twice: what the benchmark starts.")
EVERY = flags.DEFINE_float("every", 2.0, "Seconds between looks.")
JSON = flags.DEFINE_string("json", None, "File for the figures.")
PLOT = flags.DEFINE_string("plot", None, "PNG file for a picture of the samples.")

EXPERIMENTS = Path(__file__).resolve().parents[1]
SECOND = "second_evaluation"  # a file that the child makes when it begins
Samples = list[tuple[float, float]]  # seconds from the start, MiB


def main(_: object) -> None:
    """Run both, print, write."""
    if EVALUATE.value:
        evaluate_twice(Path(EVALUATE.value))
        return
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "run"
        stage = workdir / "s256"  # before there is one, colour statistics; after it is finished, an evaluation
        train = sampled(train_command(workdir), lambda: stage.exists() and not (stage / "finished.json").exists())
        images = len_of_split(workdir)
        command = [sys.executable, __file__, f"--evaluate={workdir}", f"--scales={','.join(SCALES.value)}"]
        evaluation = sampled(command, lambda: True, workdir / SECOND)
    runs = {f"training, {STEPS.value} steps": train, f"evaluation, {images} photographs": evaluation}
    rows = [summary(name, *run) for name, run in runs.items()]
    ratios = {f"{row['run']}: end / after warm-up": row["end_mib"] / row["after_warm_up_mib"] for row in rows}
    for row in rows:
        print({name: round(value, 1) if isinstance(value, float) else value for name, value in row.items()})
    print({name: round(value, 4) for name, value in ratios.items()})
    if JSON.value:
        setting = {"steps": STEPS.value, "images": images, "scales": SCALES.value, "workers": WORKERS.value}
        with_samples = [{**row, "samples": rounded(samples)} for row, (samples, _) in zip(rows, runs.values())]
        write_record(JSON.value, with_samples, ratios, setting)
    if PLOT.value:
        plot(runs, device(), Path(PLOT.value))


def train_command(workdir: Path) -> list[str]:
    """A stage of a narrow net D; all but one image a class (at least) are for training."""
    return [
        *(sys.executable, str(EXPERIMENTS / "train.py"), "--config=configs/quickstart.py", f"--workdir={workdir}"),
        *("--config.data.source=folder", f"--config.data.path={DATA_PATH.value}", "--config.data.val_fraction=0.001"),
        *(f"--config.data.workers={WORKERS.value}", "--config.model.width_multiplier=0.0625"),
        *("--config.chain=('s256',)", f"--config.stages.s256.steps={STEPS.value}"),
        *("--config.stages.s256.learning_rate=0.001", "--config.train.validate_every=250"),
    ]


def evaluate_twice(workdir: Path) -> None:
    """Dense evaluation of what was trained on, with all programs compiled the second time."""
    for again in (False, True):
        if again:
            (workdir / SECOND).touch()
        evaluate_stages([workdir / "s256"], split="train", scales=SCALES.value)


def len_of_split(workdir: Path) -> int:
    """How many images the training split has, by the workdir's record."""
    return json.loads((workdir / "data.json").read_text())["train"]


def sampled(command: list[str], counts: Callable[[], bool], warm: Path | None = None) -> tuple[Samples, int]:
    """Run a command to its end and look at its memory as long as `counts` says that it counts.

    Returns the samples, and how many are warm-up: a quarter, or those before the file `warm` came.
    """
    start, samples, cold = time.monotonic(), [], 0
    environment = {"MALLOC_ARENA_MAX": "2", **os.environ}  # as the scripts set it
    with subprocess.Popen(command, env=environment) as process:
        while process.poll() is None:
            if counts():
                samples.append((time.monotonic() - start, resident(process.pid) / 2**20))
                cold += warm is not None and not warm.exists()
            time.sleep(EVERY.value)
    if process.returncode:
        sys.exit(f"error: {' '.join(command)} ended with status {process.returncode}")
    return samples[:-1], cold if warm else len(samples) // 4  # the last look may meet the end


def resident(pid: int) -> int:
    """Bytes of the resident sets of a process and its descendants; pages that they share count in each."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # ended meanwhile
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(resident(int(child)) for child in children)


def summary(name: str, samples: Samples, cold: int) -> dict[str, Any]:
    """Growth between the first and the last third of what follows the warm-up, and the slope of all of it, in MiB."""
    warm = samples[cold:]
    third = len(warm) // 3
    after, end = (statistics.median(mib for _, mib in part) for part in (warm[:third], warm[-third:]))
    slope = statistics.linear_regression([t for t, _ in warm], [mib for _, mib in warm]).slope
    return {
        **{"run": name, "seconds": samples[-1][0], "warm_up_seconds": warm[0][0], "looks": len(samples)},
        **{"after_warm_up_mib": after, "end_mib": end, "growth_mib": end - after},
        **{"slope_mib_per_minute": 60 * slope, "peak_mib": max(mib for _, mib in samples)},
    }


def rounded(samples: Samples) -> list[list[float]]:
    """Samples as they are written down."""
    return [[round(seconds, 1), round(mib, 1)] for seconds, mib in samples]


def plot(runs: dict[str, tuple[Samples, int]], device: str, path: Path) -> None:
    """A small picture: resident memory against time."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    for axes, (name, (samples, cold)) in zip(figure.subplots(1, len(runs)), runs.items()):
        axes.plot(*zip(*samples), lw=1.2)
        axes.axvspan(0, samples[cold][0], color="0.9", lw=0)
        axes.set(title=name, xlabel="seconds (gray: warm-up)", ylabel="resident set (MiB)", ylim=(0, None))
    figure.suptitle(device, fontsize=8)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    app.run(main)
