"""The log of a stage: metrics.jsonl and TensorBoard scalars."""

import json
import logging
import socket
import struct
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vgg_jax.errors import InputError
from vgg_jax.processes import is_first
from vgg_jax.report import write_atomically

logger = logging.getLogger(__name__)


class StageLog:
    """Rows of scalars by step, in DIR/metrics.jsonl and as TensorBoard events; a context manager.

    On resume at a step, rows that lie after it are dropped: they will be written again. The first process alone writes.
    may_fail: rows that a full or read-only disk does not take are kept, and written when it does; else InputError.
    """

    def __init__(self, directory: Path, resume_step: int, *, may_fail: bool = False) -> None:
        self._may_fail, self._failed = may_fail, False
        self._files: list[_Appended] = []
        if not is_first():
            return
        rows, events = directory / "metrics.jsonl", directory / "tensorboard"
        kept = [row for row in read_log(directory) if row["step"] <= resume_step]
        write_atomically(rows, "".join(json.dumps(row) + "\n" for row in kept))
        events.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
        self._files = [_Appended(rows), _Appended(events / name, _opening_events(resume_step + 1))]

    def write(self, step: int, **scalars: float) -> None:
        """Append a row; the files are whole after each call."""
        if self._files:
            self._files[0].unwritten += json.dumps({"step": step, **scalars}).encode() + b"\n"
            self._files[1].unwritten += b"".join(_scalar_event(step, *scalar) for scalar in scalars.items())
            self._flush(self._may_fail)

    def _flush(self, may_fail: bool) -> None:
        try:
            for file in self._files:
                file.flush()
            self._failed = False
        except OSError as error:
            told = f"{file.path} cannot be written ({error.strerror}): free some disk space"
            if not may_fail:
                raise InputError(f"{told}; a run that stopped goes on by the same command") from error
            if not self._failed:
                logger.warning("%s; the training goes on, and rows wait until they can be written", told)
            self._failed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._flush(may_fail=error is not None)  # what went wrong before is what to tell


class _Appended:
    """A file that grows by whole pieces: what a failing disk took of one is written over by the next try.

    Not through SummaryWriter: a thread of its own writes, which a full disk ends, and all who log then wait for ever.
    """

    def __init__(self, path: Path, unwritten: bytes = b"") -> None:
        self.path, self.unwritten = path, unwritten
        self._size = path.stat().st_size if path.exists() else 0

    def flush(self) -> None:
        if not self.unwritten:
            return
        with self.path.open("r+b" if self.path.exists() else "wb") as file:
            file.seek(self._size)
            file.write(self.unwritten)
        self._size += len(self.unwritten)
        self.unwritten = b""


def _opening_events(purge_step: int) -> bytes:
    """What a file of events begins with; TensorBoard hides the events of earlier files from ``purge_step`` on."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    session = SessionLog(status=SessionLog.START)
    return _record(Event(wall_time=time.time(), file_version="brain.Event:2")) + _record(
        Event(wall_time=time.time(), step=purge_step, session_log=session)
    )


def _scalar_event(step: int, name: str, value: float) -> bytes:
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.summary import scalar

    return _record(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))


def _record(event: Any) -> bytes:
    """TensorFlow's record: length, its checksum, the bytes, their checksum."""
    from tensorboardX.record_writer import masked_crc32c

    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))


def read_log(directory: Path) -> list[dict[str, Any]]:
    """The rows of a stage's metrics.jsonl; a last line that a kill cut off is left out."""
    path = directory / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
