"""Rows of results: results.json, text tables, learning-curve pictures."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import filelock

from vgg_jax.errors import InputError

Row = dict[str, Any]

# What tells one result from another; a new row with the same key replaces the old one.
ROW_KEY = (
    *("dataset", "split", "workdir", "stage", "arch", "seed", "train_scale", "checkpoint"),
    *("method", "test_scales", "grid", "flip", "pool_rounding", "members"),
)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8", errors="surrogateescape")  # file names need not be valid text
    os.replace(temporary, path)


def read_rows(path: Path) -> list[Row]:
    """The rows of a results.json, none if it does not exist; a broken file raises InputError."""
    if not path.exists():
        return []
    try:
        return json.loads(path.read_text())["rows"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no results file ({error}): move it away and evaluate again") from None


def add_rows(path: Path, rows: Sequence[Row], fields: Sequence[str] = ROW_KEY) -> None:
    """Add rows to a results.json; a row that agrees in all fields is replaced, not doubled."""
    fresh = json.loads(json.dumps(list(rows)))  # tuples as lists, as they will be read back
    keys = [_key(row, fields) for row in fresh]
    with filelock.FileLock(path.with_name(f".{path.name}.lock")):
        kept = [row for row in read_rows(path) if _key(row, fields) not in keys]
        write_atomically(path, json.dumps({"rows": kept + fresh}, indent=1) + "\n")


def _key(row: Row, fields: Sequence[str]) -> list[Any]:
    members = [{**member, "step": None} for member in row.get("members") or ()]  # retrained, it is the same protocol
    return [members if field == "members" else row.get(field) for field in fields]


def format_scale(scale: Sequence[int] | None) -> str:
    """A training scale as the paper prints it: 256, or [256;512]; "-" where it is not known."""
    if scale is None:
        return "-"
    low, high = scale
    return str(low) if low == high else f"[{low};{high}]"


def results_table(rows: Sequence[Row]) -> str:
    """Rows in the form of the paper's Tables 3 to 6, each with its protocol, as Markdown that reads well in a terminal.

    A fusion's net names each member as the paper does: (net/S/Q).
    """
    header = ["stage", "net", "train (S)", "test (Q)", "method", "crops", "flip", "pool", "data", "split", "images"]
    header += ["checkpoint", "top-1 error (%)", "top-5 error (%)"]
    lines = [
        [
            row["stage"] or "fusion",
            _net(row),
            format_scale(row["train_scale"]),
            ",".join(map(str, row["test_scales"] or ())) or "-",
            row["method"],
            str(row["grid"] ** 2 * (1 + row["flip"])) if row["grid"] else "-",
            "yes" if row["flip"] else "no",
            row["pool_rounding"],
            row["dataset"],
            row["split"],
            str(row["num_images"]),
            row["checkpoint"] or "-",
            _percent(row["top1_error"]),
            _percent(row["top5_error"]),
        ]
        for row in rows
    ]
    return markdown_table(header, lines)


def _net(row: Row) -> str:
    members = [
        f"({m['arch']}/{format_scale(m['train_scale'])}/{','.join(map(str, m['test_scales']))})"
        for m in row.get("members") or ()
    ]
    return ", ".join(members) or row["arch"]


def _percent(value: float | None) -> str:
    return "no labels" if value is None else f"{value:.2f}"


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table with padded columns."""
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]

    def render(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |"

    return "\n".join([render(header), render(["-" * width for width in widths]), *map(render, lines)])


_CURVE_STYLES: dict[str, dict[str, Any]] = {
    "train": {"color": "C0", "alpha": 0.5, "lw": 1},
    "val": {"color": "C1", "marker": "o", "ms": 3, "lw": 1.5},
}


def plot_learning_curves(curves: dict[str, list[Row]], path: Path) -> None:
    """Picture of the chain's learning curves as PNG: loss, top-1 error and learning rate against steps.

    curves: stage name -> rows with "step" and any of "train_loss", "train_top1_error", "val_loss", "val_top1_error",
        "learning_rate"; the stages follow each other along the axis.
    """
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    figure = Figure(figsize=(10, 7), layout="constrained")
    loss, error, rate = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1))
    start = 0
    for number, (stage, rows) in enumerate(curves.items()):
        for axes, quantity in ((loss, "loss"), (error, "top1_error")):
            for split, style in _CURVE_STYLES.items():
                points = [(start + row["step"], row[key]) for row in rows if (key := f"{split}_{quantity}") in row]
                if points:
                    axes.plot(*zip(*points), label=split if number == 0 else None, **style)
        rates = [(start + row["step"], row["learning_rate"]) for row in rows if "learning_rate" in row]
        if rates:
            rate.plot(*zip(*rates), color="C2")
        for axes in (loss, error, rate):
            axes.axvline(start, color="0.7", lw=0.8, ls="--")
        loss.annotate(f" {stage}", (start, 1), xycoords=("data", "axes fraction"), va="bottom", fontsize=9)
        start += max((row["step"] for row in rows), default=0)
    loss.set_ylabel("loss")
    error.set_ylabel("top-1 error (%)")
    rate.set_ylabel("learning rate")
    rate.set_yscale("log")
    rate.set_xlabel("step")
    if loss.get_legend_handles_labels()[0]:
        loss.legend(frameon=False)
    temporary = path.with_name(f".{path.name}.tmp")
    figure.savefig(temporary, format="png", dpi=100)
    os.replace(temporary, path)
