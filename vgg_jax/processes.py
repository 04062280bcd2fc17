"""Several processes that work as one, on one machine or many (jax.distributed): start, agreement, and their end."""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from vgg_jax.errors import InputError
from vgg_jax.report import write_atomically
from vgg_jax.signals import PREEMPTED

logger = logging.getLogger(__name__)

MODES = ("none", "auto", "slurm", "manual")
HEARTBEAT = 30  # seconds without a sign of life after which a process counts as lost
GRACE = 25  # seconds that a stopping process gets; Slurm kills 30 s after SIGTERM
LOST = 76  # exit status when another process was lost
_WATCHED = "VGG_JAX_WATCHED"  # set by the watching parent for its child


def start(
    mode: str,
    *,
    coordinator: str | None = None,
    process_count: int | None = None,
    process_id: int | None = None,
    local_devices: Sequence[int] | None = None,
) -> None:
    """Join this process with the others; to be called before anything is computed.

    mode: "auto" and "slurm" ask the environment, "manual" takes what is given: the coordinator's HOST:PORT (process 0
    opens it), the number of processes and this one's. local_devices: numbers of this process's GPUs; on the CPU it gets
    as many devices. Raises InputError for contradictions and where the others are not found.
    """
    given = {"coordinator": coordinator, "process_count": process_count, "process_id": process_id}
    _check(mode, given)
    if is_watched():
        end_with_parent(int(os.environ[_WATCHED]))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent has it too, and passes SIGTERM on
        _keep_tables_clean()
    if local_devices is not None:
        jax.config.update("jax_num_cpu_devices", len(local_devices))
    try:
        jax.distributed.initialize(
            *(coordinator, process_count, process_id, None if local_devices is None else list(local_devices)),
            cluster_detection_method=None if mode == "manual" else {"auto": None, "slurm": "slurm"}[mode],
            heartbeat_timeout_seconds=HEARTBEAT,
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"--distributed={mode} found no other processes ({reason}): start all of them, or say --distributed=manual "
            "with --coordinator=HOST:PORT, --process_count and --process_id"
        ) from error
    if is_first():
        logger.info("%s", device_map())
    else:
        logging.getLogger("vgg_jax").setLevel(logging.WARNING)


def _keep_tables_clean() -> None:
    """Standard output is Python's alone: what the runtime's C++ prints there (Gloo does) goes to standard error."""
    sys.stdout.flush()
    sys.stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)


def _check(mode: str, given: Mapping[str, object]) -> None:
    if mode not in MODES[1:]:
        raise InputError(f"unknown mode {mode!r} of several processes: choose one of {', '.join(MODES[1:])}")
    flags = ", ".join(f"--{name}" for name in given)
    if mode == "manual" and None in given.values():
        raise InputError(f"--distributed=manual needs {flags}")
    if mode != "manual" and any(value is not None for value in given.values()):
        raise InputError(f"--distributed={mode} asks the environment: {flags} belong to --distributed=manual")
    count, number = given["process_count"], given["process_id"]
    if isinstance(count, int) and isinstance(number, int) and not 0 <= number < count:
        raise InputError(f"--process_id is {number}, but with --process_count={count} it runs from 0 to {count - 1}")


def device_map() -> str:
    """Which devices each process has, in a line."""
    of_process: dict[int, list[str]] = {}
    for device in jax.devices():
        of_process.setdefault(device.process_index, []).append(str(device))
    return "; ".join(f"process {process}: {', '.join(devices)}" for process, devices in sorted(of_process.items()))


def is_first() -> bool:
    """Whether this process writes logs, tables and checkpoints' records."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Wait until all processes are here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def first_alone(action: Callable[[], object]) -> None:
    """Run an action in the first process while the others wait; its failure ends all of them."""
    failure: BaseException | None = None
    if is_first():
        try:
            action()
        except (InputError, OSError) as error:
            failure = error
    if jax.process_count() > 1:
        succeeded = bool(multihost_utils.broadcast_one_to_all(np.array(failure is None)))
        if not succeeded and not is_first():
            raise InputError("process 0 stopped with an error: see its message")
    if failure is not None:
        raise failure


def check_agreement(what: str, value: str) -> None:
    """Raise InputError in every process unless all have the same value."""
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(value.encode()).digest()[:4], np.int32)
    if len(np.unique(multihost_utils.process_allgather(digest))) > 1:
        raise InputError(f"the processes have different {what}: start all of them with one command")


def gathered(value: Any, folder: Path) -> list[Any]:
    """What each process has, JSON of any size, in the order of the processes; it goes through a folder that all see."""
    if jax.process_count() == 1:
        return [value]
    folder.mkdir(exist_ok=True)
    write_atomically(folder / f"{jax.process_index()}.json", json.dumps(value))
    barrier("values written")
    values = [json.loads((folder / f"{process}.json").read_text()) for process in range(jax.process_count())]
    barrier("values read")
    first_alone(lambda: shutil.rmtree(folder))
    return values


def total(count: int) -> int:
    """The sum of a whole number below 2^31 over all processes."""
    if jax.process_count() == 1:
        return count
    return int(multihost_utils.process_allgather(np.array(count, np.int32)).astype(np.int64).sum())


def least(count: int | None) -> int | None:
    """The smallest of a number of bytes over all processes, to a MiB; None where one of them does not know its own."""
    if jax.process_count() == 1:
        return count
    known = np.array(-1 if count is None else count >> 20, np.int32)
    smallest = int(multihost_utils.process_allgather(known).min())
    return None if smallest < 0 else smallest << 20


def is_watched() -> bool:
    """Whether `watch` started this process."""
    return _WATCHED in os.environ


def watch() -> int:
    """Run this command once more as a child, pass signals on to it, and tell how it ended; returns the exit status.

    The runtime of jax ends a process from within when another one is lost; the parent remains to say so. SIGTERM and
    SIGINT tell the child to stop; if it has not after GRACE seconds, or at a second SIGINT, it is killed: its last
    checkpoint holds.
    """
    environment = {**os.environ, _WATCHED: str(os.getpid())}
    child = subprocess.Popen([sys.executable, *sys.orig_argv[1:]], env=environment)
    stopped_at: list[float] = []

    def stop(number: int, _: object) -> None:
        if stopped_at and number == signal.SIGINT:
            child.kill()
        elif not stopped_at:
            stopped_at.append(time.monotonic())
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    while True:
        try:
            return _told(child.wait(timeout=0.5), bool(stopped_at))
        except subprocess.TimeoutExpired:
            if stopped_at and time.monotonic() > stopped_at[0] + GRACE:
                child.kill()


def _told(status: int, stopped: bool) -> int:
    """The exit status of the parent for its child's, with a sentence on standard error where there was none."""
    again = "start all processes again with the same command: they go on from the last checkpoint"
    if stopped and status != 0:
        return PREEMPTED
    if status in (-signal.SIGABRT, LOST):
        print(f"error: another process was lost or stopped with an error (see its messages): {again}", file=sys.stderr)
        return LOST
    if status < 0:
        name = signal.Signals(-status).name
        print(f"error: the process was ended by {name} (out of memory?): {again}", file=sys.stderr)
        return LOST
    return status


def end_with_parent(parent: int) -> None:
    """End this process when its parent is gone: a killed run must not leave children behind."""

    def watch_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch_parent, daemon=True).start()
