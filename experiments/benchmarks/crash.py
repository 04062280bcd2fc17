"""Crash harness: a small training is killed (kill -9) at random moments until it ends; is its end what it should be?

python experiments/benchmarks/crash.py [--kills=30] [--targets=main,save,worker,process] [--json=FILE]

Targets: main, the training process; save, the same while a checkpoint is being written; worker, a process that decodes
images; process, one of two that train as one. After each kill the same command is given again. A training survived its
kills if its last checkpoint equals, byte by byte, that of an undisturbed run, and if neither processes nor shared
memory are left behind.
"""

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging
from orbax.checkpoint import StandardCheckpointer
from PIL import Image
from record import write_record
from tqdm import tqdm

TARGETS = ("main", "save", "worker", "process")
KILLS = flags.DEFINE_integer("kills", 30, "How often each target is killed.", 1)
TARGETS_FLAG = flags.DEFINE_multi_enum("targets", TARGETS, TARGETS, "What is killed; may be repeated.")
STEPS = flags.DEFINE_integer("steps", 60, "Steps of the training.", 1)
SEED = flags.DEFINE_integer("seed", 0, "Of the random moments.")
JSON = flags.DEFINE_string("json", None, "File for the figures.")

TRAIN = Path(__file__).resolve().parents[1] / "train.py"
KILLS_OF_A_RUN = 3
LONGEST_SECONDS = 600  # a training that takes longer than that hangs: it takes some 10 s on a quiet machine
SHARED_MEMORY = Path("/dev/shm")
CONFIG = """
from configs.base import base, stage


def get_config():
    config = base()
    config.model.update(arch="A", width_multiplier=0.03, crop_size=32)
    config.data.update(source="folder", path={path!r}, val_fraction=0.25, threads=2, workers={workers})
    config.train.update(batch_size=16, validate_every=10, checkpoint_every=4)
    config.stages.s256 = stage((37, 45), 0.01, {steps})
    config.chain = ("s256",)
    return config
"""


def main(_: object) -> None:
    """Kill, compare, print, write."""
    logging.set_verbosity(logging.ERROR)  # orbax
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder) / "pictures")
        for target in dict.fromkeys(TARGETS_FLAG.value):
            rows.append(crash(target, Path(folder)))
            print(f"{target:8} survived {rows[-1]['survived']} of {rows[-1]['tried']} kills", flush=True)
    if JSON.value:
        write_record(JSON.value, rows, {}, {"kills": KILLS.value, "steps": STEPS.value, "seed": SEED.value})
    if any(row["survived"] < row["tried"] for row in rows):
        sys.exit("error: some trainings did not survive")


def crash(target: str, folder: Path) -> dict[str, Any]:
    """Trainings whose ``target`` is killed a few times each, until there were enough kills."""
    rng = random.Random(f"{SEED.value} {target}")
    config = folder / f"{target}.py"
    workers = 2 if target == "worker" else 0
    config.write_text(CONFIG.format(path=str(folder / "pictures"), workers=workers, steps=STEPS.value))
    before = shared_memory()
    began = time.monotonic()
    with running(config, folder / target / "straight", 2 if target == "process" else 1) as runs:
        assert [run.wait() for run in runs] == [0] * len(runs), "the undisturbed training failed"
    seconds = time.monotonic() - began
    expected = last_checkpoint(folder / target / "straight")
    row: dict[str, Any] = {"target": target, "tried": 0, "survived": 0, "straight_seconds": seconds, "failures": []}
    with tqdm(total=KILLS.value, desc=f"kills of {target}", unit="kill") as bar:
        for number in itertools.count():
            if row["tried"] >= KILLS.value:
                break
            workdir, began = folder / target / str(number), time.monotonic()
            kills, failure = disturbed(target, config, workdir, seconds, rng, KILLS.value - row["tried"], bar.update)
            if kills == 0:  # it ended before its moment came: the undisturbed run was slower than this one
                seconds = min(seconds, time.monotonic() - began)
            failure = failure or difference(expected, last_checkpoint(workdir), shared_memory() - before)
            row["tried"] += kills
            row["survived"] += 0 if failure else kills
            row["failures"] += [failure] if failure else []
    return row


def disturbed(
    target: str, config: Path, workdir: Path, seconds: float, rng: random.Random, most: int, advance: Callable[..., Any]
) -> tuple[int, str]:
    """Run a training to its end, killing it on the way; how often it was killed, and what was wrong."""
    kills = 0
    while True:
        with running(config, workdir, 2 if target == "process" else 1) as runs:
            victim = None
            if kills < min(KILLS_OF_A_RUN, most):
                victim = chosen(target, runs, workdir, rng, rng.uniform(0.1, 0.9) * seconds)
            if victim is not None:
                family = descendants(*(run.pid for run in runs))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                kills += 1
                advance()
            try:
                statuses = [run.wait(timeout=LONGEST_SECONDS) for run in runs]
            except subprocess.TimeoutExpired:
                said = (workdir / "output.txt").read_text(errors="replace")[-2000:]
                return kills, f"no end within {LONGEST_SECONDS} s; its last words: {said}"
            if victim is None:
                return kills, "" if statuses == [0] * len(runs) else f"the training ended with {statuses}"
            if left := still_running(family):
                return kills, f"processes are left behind: {left}"


def chosen(target: str, runs: list[subprocess.Popen], workdir: Path, rng: random.Random, delay: float) -> int | None:
    """Wait for the moment and return the process to kill; None if the training ended before."""
    deadline = time.monotonic() + delay
    while time.monotonic() < deadline or target == "save":
        if any(run.poll() is not None for run in runs):
            return None
        if target == "save" and any(workdir.glob("s256/checkpoints/*tmp*")) and rng.random() < 0.2:
            time.sleep(rng.uniform(0, 0.1))  # somewhere in this save
            break
        time.sleep(0.002)
    if target == "worker":
        workers = [pid for pid in descendants(runs[0].pid) if "spawn_main" in command_of(pid)]
        return rng.choice(workers) if workers else runs[0].pid
    victim = rng.choice(runs).pid
    children = descendants(victim)
    return rng.choice([victim, *children[:1]]) if target == "process" else victim


@contextlib.contextmanager
def running(config: Path, workdir: Path, count: int) -> Iterator[list[subprocess.Popen]]:
    """train.py in one process, or several as one; ended with the block."""
    command = [sys.executable, str(TRAIN), f"--config={config}", f"--workdir={workdir}"]
    shares: list[list[str]] = [[]]
    if count > 1:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            coordinator = f"--coordinator=localhost:{free.getsockname()[1]}"
        several = ["--distributed=manual", coordinator, f"--process_count={count}", "--local_devices=0"]
        shares = [[*several, f"--process_id={i}"] for i in range(count)]
    workdir.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    with (workdir / "output.txt").open("a") as output:
        runs = [subprocess.Popen([*command, *share], env=environment, stdout=output, stderr=output) for share in shares]
        try:
            yield runs
        finally:
            for run in runs:
                run.kill()
                run.wait()


def descendants(*pids: int) -> list[int]:
    """The processes below some, nearest first."""
    found: list[int] = []
    for pid in pids:
        with contextlib.suppress(OSError):
            children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            found += [*children, *descendants(*children)]
    return found


def command_of(pid: int) -> str:
    """A process's command line, empty if it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return ""


def still_running(pids: list[int]) -> list[int]:
    """Those of some processes that are there after ten seconds."""
    deadline = time.monotonic() + 10
    while left := [pid for pid in pids if command_of(pid)]:
        if time.monotonic() > deadline:
            return left
        time.sleep(0.1)
    return []


def shared_memory() -> set[str]:
    """The names of the shared memory segments of this machine."""
    return {path.name for path in SHARED_MEMORY.iterdir()} if SHARED_MEMORY.is_dir() else set()


def last_checkpoint(workdir: Path) -> dict[str, bytes]:
    """Every array of the latest checkpoint, as bytes."""
    steps = [int(path.name) for path in (workdir / "s256" / "checkpoints").iterdir() if path.name.isdecimal()]
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    arrays = {}
    with StandardCheckpointer() as reader:
        for item in ("params", "optimizer"):
            folder = (workdir / "s256" / "checkpoints" / str(max(steps)) / item).absolute()
            tree = reader.metadata(folder).item_metadata.tree
            target = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here), tree)
            arrays[item] = reader.restore(folder, target)
    return {
        jax.tree_util.keystr(path): np.asarray(a).tobytes() for path, a in jax.tree_util.tree_leaves_with_path(arrays)
    }


def difference(expected: dict[str, bytes], found: dict[str, bytes], leaked: set[str]) -> str:
    """What is wrong with a training that came to its end; empty if nothing is."""
    differing = [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]
    if differing:
        return f"{len(differing)} arrays differ, as {min(differing)}"
    return f"shared memory is left behind: {', '.join(sorted(leaked))}" if leaked else ""


def write_pictures(folder: Path) -> None:
    """Two classes of noise."""
    rng = np.random.default_rng(0)
    for label in range(2):
        (folder / f"class{label}").mkdir(parents=True)
        for i in range(30):
            pixels = rng.integers(0, 256, (45, 50, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"class{label}" / f"{i}.jpg")


if __name__ == "__main__":
    app.run(main)
