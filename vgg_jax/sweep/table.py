"""The table of a sweep: its trainings by validation error."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from vgg_jax.report import markdown_table, read_rows
from vgg_jax.sweep.attempts import Queue, last_words, read_attempts, state
from vgg_jax.sweep.plan import Run, Sweep, write_sweep
from vgg_jax.training.log import read_log

Row = dict[str, Any]

LONGEST_WORDS = 100  # characters of a failure in the table; sweep.json has it whole


def result_rows(sweep: Sweep, queue: Queue | None = None) -> list[Row]:
    """One row a training, the lowest validation error first, those without one last and in the sweep's order.

    The validation error is the best one of the last stage that was validated, in percent, on crops: the one that
    chooses the checkpoint. The top-1 and top-5 errors are those that train.py ends the chain's last stage with.
    """
    rows = [_row(run, queue) for run in sweep.runs]
    return sorted(rows, key=lambda row: math.inf if row["val_top1_error"] is None else row["val_top1_error"])


def _row(run: Run, queue: Queue | None) -> Row:
    stage, error = None, None
    for name in run.stages:
        errors = [row["val_top1_error"] for row in read_log(run.workdir / name) if "val_top1_error" in row]
        stage, error = (name, min(errors)) if errors else (stage, error)
    last = list(run.stages)[-1]
    result = next(filter(lambda row: _is_single_scale(row, last), read_rows(run.workdir / "results.json")), {})
    now = state(run, queue)
    return {
        "name": run.name,
        "fields": run.fields,
        "state": now,
        "stage": stage,
        "val_top1_error": error,
        **{key: result.get(key) for key in ("split", "top1_error", "top5_error")},
        "attempts": len(read_attempts(run.workdir)),
        "error": last_words(run) if now == "failed" else None,
    }


def _is_single_scale(row: Row, stage: str) -> bool:
    """Whether it is the row that train.py writes at a stage's end."""
    return (row["stage"], row["method"], row["checkpoint"]) == (stage, "dense", "best") and len(row["test_scales"]) == 1


def sweep_table(rows: Sequence[Row]) -> str:
    """Rows as Markdown that reads well in a terminal; the swept fields are columns."""
    labels = list(dict.fromkeys(label for row in rows for label in row["fields"]))
    header = [*labels, "state", "stage", "val top-1 (%)", "data", "top-1 error (%)", "top-5 error (%)", "attempts"]
    lines = [
        [
            *(str(row["fields"].get(label, "-")) for label in labels),
            *(row["state"], row["stage"] or "-", _percent(row["val_top1_error"]), row["split"] or "-"),
            *(_percent(row["top1_error"]), _percent(row["top5_error"]), str(row["attempts"])),
            textwrap.shorten((row["error"] or "-").replace("|", r"\|"), LONGEST_WORDS, placeholder=" ..."),
        ]
        for row in rows
    ]
    return markdown_table([*header, "last words"], lines)


def report(sweep: Sweep, queue: Queue | None = None) -> tuple[list[Row], str]:
    """Take in what all trainings have so far, write sweep.json and sweep.md, and return the rows and the table."""
    rows = result_rows(sweep, queue)
    table = sweep_table(rows)
    write_sweep(sweep, rows, table)
    return rows, table


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
