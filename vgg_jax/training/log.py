"""The log of a stage: metrics.jsonl and TensorBoard scalars."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vgg_jax.processes import is_first
from vgg_jax.report import write_atomically


class StageLog:
    """Rows of scalars by step, in DIR/metrics.jsonl and as TensorBoard events; a context manager.

    On resume at a step, rows that lie after it are dropped: they will be written again. The first process alone writes.
    """

    def __init__(self, directory: Path, resume_step: int) -> None:
        self._file, self._events = None, None
        if not is_first():
            return
        from tensorboardX import SummaryWriter

        self._path = directory / "metrics.jsonl"
        kept = [row for row in read_log(directory) if row["step"] <= resume_step]
        write_atomically(self._path, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = self._path.open("a")
        self._events = SummaryWriter(str(directory / "tensorboard"), purge_step=resume_step + 1)

    def write(self, step: int, **scalars: float) -> None:
        """Append a row; the file is whole after each call."""
        if self._file is None or self._events is None:
            return
        self._file.write(json.dumps({"step": step, **scalars}) + "\n")
        self._file.flush()
        for name, value in scalars.items():
            self._events.add_scalar(name, value, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for output in (self._file, self._events):
            if output is not None:
                output.close()


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
