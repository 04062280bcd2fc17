"""What became of a training: a line for each start and end in WORKDIR/attempts.jsonl, its log, its results.

Whoever starts a training writes these lines, on this machine or in a Slurm job, so that any other process on the same
file system can tell the state.
"""

import json
import os
import re
import signal
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vgg_jax.report import read_rows
from vgg_jax.signals import PREEMPTED
from vgg_jax.sweep.plan import Run
from vgg_jax.training.workdir import finished_steps

STATES = ("done", "running", "preempted", "failed", "not started")
LOG = "train.log"
# Told to stop: by train.py itself, or by the signal before train.py listens to it; negative as subprocess tells it.
TOLD_TO_STOP = (PREEMPTED, 128 + signal.SIGTERM, 128 + signal.SIGINT, -signal.SIGTERM, -signal.SIGINT)
_TAIL = 8192  # bytes at a file's end that surely hold its last line

Queue = Mapping[str, str]  # Slurm's jobs that are not over: 17_3 -> PENDING, RUNNING, ...


def write_start(workdir: Path, pid: int) -> None:
    """Note that this machine starts the training as process ``pid``."""
    _write(workdir, {"start": _now(), "host": socket.gethostname(), "pid": pid})


def write_end(workdir: Path, status: int) -> None:
    """Note how it ended."""
    _write(workdir, {"end": _now(), "status": status})


def read_attempts(workdir: Path) -> list[dict[str, Any]]:
    """The attempts so far: each its "start", "host", "pid" or "job", and, where it has ended, "end" and "status"."""
    path = workdir / "attempts.jsonl"
    attempts: list[dict[str, Any]] = []
    for line in path.read_text().splitlines() if path.exists() else ():
        record = json.loads(line)
        if "start" in record:
            attempts.append(record)
        elif attempts:
            attempts[-1].update(record)
    return attempts


def is_done(run: Run) -> bool:
    """Whether the whole chain is finished and evaluated."""
    if any(finished_steps(run.workdir / stage) < steps for stage, steps in run.stages.items()):
        return False
    return set(run.stages) <= {row["stage"] for row in read_rows(run.workdir / "results.json")}


def state(run: Run, queue: Queue | None = None) -> str:
    """One of STATES. queue: Slurm's jobs, None where Slurm cannot be asked; what it started then counts as running."""
    if is_done(run):
        return "done"
    attempts = read_attempts(run.workdir)
    if not attempts:
        return "not started"
    last = attempts[-1]
    if "status" in last:
        return "preempted" if last["status"] in TOLD_TO_STOP else "failed"
    if "job" in last and queue is not None and queue.get(last["job"]) == "PENDING":
        return "preempted"  # by Slurm, which took the job back without a word
    return "running" if _is_alive(run, last, queue) else "failed"


def _is_alive(run: Run, attempt: Mapping[str, Any], queue: Queue | None) -> bool:
    """Whether an attempt that has no end still runs; of what runs on another machine that is taken for granted."""
    if "job" in attempt:
        return queue is None or attempt["job"] in queue
    if attempt["host"] != socket.gethostname():
        return True
    try:
        os.kill(attempt["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    file = Path(f"/proc/{attempt['pid']}/cmdline")  # numbers are used again; where there is no /proc, we trust it
    command = file.read_bytes() if file.exists() else b""
    return not command or run.name.encode() in command  # empty for a moment at its start


def last_words(run: Run) -> str:
    """The last line that a training wrote, or how it ended where it was not heard of again."""
    attempts = read_attempts(run.workdir)
    status = attempts[-1].get("status") if attempts else None
    if attempts and status is None:
        return "ended without a word: killed, or its machine was lost"
    if status is not None and status < 0:
        return f"ended by {signal.Signals(-status).name}"
    lines = [line.strip() for line in re.split(r"[\r\n]", _tail(run.workdir / LOG))]
    lines = [line for line in lines if line and not line.startswith(("srun: ", "slurmstepd"))]
    return lines[-1] if lines else f"ended with status {status}"


def is_mistake(status: int, words: str) -> bool:
    """Whether it ended with a sentence about the input: to start it again would change nothing."""
    return status == 1 and re.match(r"(process \d+: )?error: ", words) is not None


def images_seen(run: Run) -> int:
    """How many images of the chain are behind it, as its logs tell."""
    steps = 0
    for stage, wanted in run.stages.items():
        finished = finished_steps(run.workdir / stage) >= wanted
        steps += wanted if finished else min(wanted, _last_step(run.workdir / stage / "metrics.jsonl"))
    return steps * run.batch_size


def _last_step(path: Path) -> int:
    steps = re.findall(r'^\{"step": (\d+),.*\}$', _tail(path), re.MULTILINE)
    return int(steps[-1]) if steps else 0


def _tail(path: Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return file.read().decode(errors="replace")


def _write(workdir: Path, record: Mapping[str, Any]) -> None:
    with (workdir / "attempts.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
