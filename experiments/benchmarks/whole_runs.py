"""Trainings as their users start them, and when each of their steps was finished: for startup.py and end_to_end.py."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from comparison import ARCH, CROP, WIDTH, dtype
from PIL import Image

from vgg_jax.training.log import read_log

HERE = Path(__file__).resolve().parent

BATCH = flags.DEFINE_integer("batch", 8, "Images a step, a multiple of 8.", 8)
WORKERS = flags.DEFINE_integer("workers", 0, "Processes that decode; 0: threads for vgg_jax, 2 processes for torch.", 0)
MICRO_BATCHES = flags.DEFINE_integer("micro_batches", 8, "Parts of a step, as train.micro_batches.", 1)
DATA_PATH = flags.DEFINE_string("data_path", None, "Folder of class folders; noise of 375 x 500 if not given.")

_POLL = 5e-3  # seconds


def data(folder: Path) -> Path:
    """The images of the flag, else noise, smooth enough to be JPEGs of a photograph's size."""
    if DATA_PATH.value:
        return Path(DATA_PATH.value)
    rng = np.random.default_rng(0)
    for label, i in itertools.product(range(10), range(max(10, BATCH.value // 4))):
        (folder / f"class{label}").mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (47, 63, 3), np.uint8))
        small.resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"class{label}" / f"{i}.jpg", quality=90)
    return folder


def setting() -> dict[str, Any]:
    """What is trained, for the record."""
    return {
        **{"arch": ARCH.value, "width": WIDTH.value, "crop": CROP.value, "dtype": dtype(), "batch": BATCH.value},
        **{"micro_batches": MICRO_BATCHES.value, "workers": WORKERS.value, "data_path": DATA_PATH.value or "noise"},
    }


def smallest_side() -> int:
    """S = 256 for a crop of 224."""
    return round(CROP.value * 8 / 7)


def ours(workdir: Path, images: Path, *arguments: str) -> Generator[float]:
    """Seconds from the command to the end of each step of train.py."""
    fields = {
        **{"model.arch": ARCH.value, "model.width_multiplier": WIDTH.value, "model.crop_size": CROP.value},
        **{"model.dtype": dtype(), "train.batch_size": BATCH.value, "train.log_every": 1},
        **{"train.micro_batches": MICRO_BATCHES.value, "train.validate_every": 10**6},  # torch's loop does not validate
        **{"data.source": "folder", "data.path": images, "data.val_fraction": 0.1, "data.statistics": "imagenet"},
        **{"data.workers": WORKERS.value, "stages.s256.scale": f"({smallest_side()}, {smallest_side()})"},
    }
    command = [sys.executable, str(HERE.parent / "train.py"), f"--workdir={workdir}", *arguments]
    command += ["--config=configs/vgg16_jitter.py", *(f"--config.{name}={value}" for name, value in fields.items())]
    start = time.perf_counter()
    with _running(command) as run:
        for step in itertools.count(1):
            while not any(row["step"] >= step for row in read_log(workdir / "s256")):
                if run.poll() is not None:
                    raise RuntimeError(f"train.py ended with {run.returncode} before step {step}")
                time.sleep(_POLL)
            yield time.perf_counter() - start


def torch(images: Path, steps: int) -> Generator[float]:
    """The same of a training with torch; raises RuntimeError where it cannot be."""
    command = [sys.executable, str(HERE / "peer_torch_loop.py"), f"--arch={ARCH.value}", f"--width={WIDTH.value}"]
    command += [f"--crop={CROP.value}", f"--batch={BATCH.value}", f"--data_path={images}", f"--steps={steps}"]
    command += [f"--workers={WORKERS.value or 2}", f"--amp={dtype() != 'float32'}"]
    start = time.perf_counter()
    with _running(command, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        for _ in range(steps):
            if not run.stdout.readline():
                raise RuntimeError(f"peer_torch_loop.py ended with {run.wait()}")
            yield time.perf_counter() - start


@contextlib.contextmanager
def _running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is killed with its children at the end of the context."""
    run = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True, **options)
    try:
        yield run
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
