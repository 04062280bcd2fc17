"""The trainings of a sweep on this machine: several at a time, one GPU each, restarted, ended cleanly."""

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import filelock

from vgg_jax.errors import InputError
from vgg_jax.signals import Stopped
from vgg_jax.sweep.attempts import (
    LOG,
    TOLD_TO_STOP,
    Queue,
    is_done,
    is_mistake,
    last_words,
    state,
    write_end,
    write_start,
)
from vgg_jax.sweep.plan import Run, Sweep
from vgg_jax.sweep.table import report
from vgg_jax.sweep.watch import show_progress, sweep_bar

logger = logging.getLogger(__name__)

POLL = 0.2  # seconds between looks at the processes
SHOW = 2.0  # seconds between looks at their files


class _Training(NamedTuple):
    run: Run
    device: str | None
    process: subprocess.Popen


def gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The GPUs that trainings may use, as CUDA_VISIBLE_DEVICES names them; jax is not asked, it would take them."""
    if environment.get("JAX_PLATFORMS", "cuda").split(",")[0] not in ("", "cuda", "gpu"):
        return []
    if (visible := environment.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [device.strip() for device in visible.split(",") if device.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]  # numbers would depend on CUDA_DEVICE_ORDER
    listed = subprocess.run(command, capture_output=True, text=True)
    return listed.stdout.split() if listed.returncode == 0 else []


def run_locally(
    sweep: Sweep,
    *,
    jobs: int | None = None,
    restarts: int = 0,
    devices: Sequence[str] | None = None,
    queue: Queue | None = None,
) -> None:
    """Run what is not done, ``jobs`` trainings at a time: one for each GPU if not given, one where there is none.

    Each has a GPU of its own, writes WORKDIR/train.log and is started again up to ``restarts`` times if it failed or
    was preempted, unless it ended with a sentence about its input. SIGINT, SIGTERM and SIGHUP are passed on as SIGTERM,
    and once all have saved and ended `Stopped` is raised; a second SIGINT kills them. Raises InputError for more jobs
    than GPUs, while another sweep runs the same trainings, and where a training still runs (queue: Slurm's jobs).
    """
    devices = gpus() if devices is None else devices
    if devices and jobs is not None and jobs > len(devices):
        raise InputError(
            f"--jobs is {jobs}, but a training needs a GPU of its own and there are {len(devices)}: give at most that"
        )
    places: list[str | None] = [*devices[:jobs]] or [None] * (jobs or 1)
    sweep.root.mkdir(parents=True, exist_ok=True)
    with _alone(sweep.root):
        for run in sweep.runs:
            if state(run, queue) == "running":
                raise InputError(
                    f"{run.workdir} is being trained already: wait for it to end; if it was lost with its machine, "
                    f"remove {run.workdir / 'attempts.jsonl'}"
                )
        report(sweep, queue)  # from now on --report knows the plan
        waiting = deque(run for run in sweep.runs if not is_done(run))
        _run_all(sweep, waiting, places, Counter({run.name: restarts for run in waiting}))


def _run_all(sweep: Sweep, waiting: deque[Run], free: list[str | None], restarts: Counter[str]) -> None:
    running: list[_Training] = []
    with sweep_bar(sweep) as bar, _signals() as received, _none_left_behind(running):
        told, shown = 0, 0.0
        while running or (waiting and not received):
            while waiting and free and not received:
                running.append(_start(waiting.popleft(), free.pop(0)))
            if len(received) > told:
                if not told or received[-1] == signal.SIGINT:
                    _stop(running, kill=told > 0)
                told = len(received)
            time.sleep(POLL)
            for training in [training for training in running if training.process.poll() is not None]:
                running.remove(training)
                free.append(training.device)
                if _again(training, Counter() if received else restarts):
                    waiting.append(training.run)
            if time.monotonic() > shown + SHOW:
                shown = time.monotonic()
                show_progress(bar, sweep, waiting=[run.name for run in waiting])
        show_progress(bar, sweep)
    if received:
        raise Stopped


def _start(run: Run, device: str | None) -> _Training:
    run.workdir.mkdir(exist_ok=True)
    environment = os.environ if device is None else {**os.environ, "CUDA_VISIBLE_DEVICES": device}
    with (run.workdir / LOG).open("ab") as log:
        # a session of its own: Ctrl-C in the terminal reaches us alone, and we pass it on once
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "start_new_session": True}
        process = subprocess.Popen(run.command, env=environment, **options)
    write_start(run.workdir, process.pid)
    logger.info("%s: started%s", run.name, "" if device is None else f" on GPU {device}")
    return _Training(run, device, process)


def _again(training: _Training, restarts: Counter[str]) -> bool:
    """Note the end of a training; whether it is to be started again."""
    run, status = training.run, training.process.returncode
    write_end(run.workdir, status)
    if status == 0:
        logger.info("%s: done", run.name)
        return False
    words = last_words(run)
    again = restarts[run.name] > 0 and not is_mistake(status, words)
    restarts[run.name] -= 1
    how = "preempted" if status in TOLD_TO_STOP else f"failed with status {status}, last saying: {words}"
    logger.warning("%s: %s%s", run.name, how, "; it is started again" if again else "")
    return again


def _stop(running: Sequence[_Training], *, kill: bool) -> None:
    logger.warning("killing" if kill else "stopping: the trainings save and end; a second Ctrl-C kills them")
    for training in running:
        with contextlib.suppress(ProcessLookupError):
            if kill:
                os.killpg(training.process.pid, signal.SIGKILL)  # with its workers
            else:
                training.process.terminate()


@contextlib.contextmanager
def _none_left_behind(running: Sequence[_Training]) -> Iterator[None]:
    """Where we fail ourselves, by a full disk say, the trainings save and end."""
    try:
        yield
    except BaseException:
        _stop(running, kill=False)
        for training in running:
            write_end(training.run.workdir, training.process.wait())
        raise


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Within, signals that ask for an end are only noted in the list."""
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda number, _: received.append(number)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    try:
        with filelock.FileLock(root / ".lock", timeout=0):
            yield
    except filelock.Timeout:
        raise InputError(f"another sweep runs in {root}: wait for it to end, or look with --report") from None
