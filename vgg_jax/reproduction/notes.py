"""What stands below a table: the protocol of our figures, and what must be known of the paper's."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from vgg_jax.report import Row

# What must be known beside the paper's own figures.
NOTES = {
    "4": ("The paper gives the top-5 test error of E with jitter in the text (sec. 4.2).",),
    "6": (
        "First row: the ILSVRC submission; the others came after it. fc: jitter in the fully connected layers alone.",
    ),
    "7": (
        "The paper prints GoogLeNet's 7.9 and 6.7 in the validation column; its text compares the 7.9 with VGG's 7.0, "
        "which is a test error. VGG's single net is E: 7.1 on the validation set, 7.0 on the test set.",
        "Figures of other systems are the paper's; here stand only the paper's own systems.",
    ),
}
_FLIP = {True: "averaged with the mirror image", False: "without the mirror image"}
_ROUNDING = {"floor": "down", "ceil": "up"}


def _flips(rows: Sequence[Row]) -> list[str]:
    """With or without the mirror image, by method where the methods differ."""
    of_method: dict[str, str] = {row["method"].replace("_", " "): _FLIP[row["flip"]] for row in rows}
    if len(set(of_method.values())) == 1:
        return [next(iter(of_method.values()))]
    return [f"{method}: {flip}" for method, flip in of_method.items()]


def protocol_notes(measured: Sequence[Sequence[Row]]) -> list[str]:
    """Under which protocol our figures of a table were taken, and how exact one is; measured: our rows, by seed."""
    rows = [row for seeds in measured for row in seeds]
    if not rows:
        return ["The nets of this table were not trained here."]

    def values(field: str, words: Mapping[Any, str] | None = None) -> str:
        return " or ".join(dict.fromkeys((words or {}).get(row[field], str(row[field])) for row in rows))

    grids = sorted({row["grid"] for row in rows if "multi_crop" in row["method"]})
    conditions = [
        f"{values('dataset')}, {values('split')} split, {values('num_images')} images",
        *(f"multi-crop: {grid}x{grid} crops a scale" for grid in grids),
        *_flips(rows),
        f"pooling rounds {values('pool_rounding', _ROUNDING)}",
        f"{values('checkpoint')} checkpoint",
    ]
    notes = [
        f"Here: {'; '.join(conditions)}. The paper's figures: ILSVRC-2012, 50,000 validation images, crops of 224."
    ]
    if any(row["num_skipped"] for row in rows):
        notes.append(f"Unreadable images left out: {values('num_skipped')}.")
    errors = [row["top1_error"] for row in rows if row["top1_error"] is not None]
    if errors:
        rate, count = statistics.fmean(errors) / 100, min(row["num_images"] for row in rows)
        points = 100 * (rate * (1 - rate) / count) ** 0.5
        notes.append(f"The number of images alone gives a single top-1 error a standard error of {points:.1f} points.")
    if max(map(len, measured)) > 1:
        notes.append("Figures are means over the seeds, ± their standard deviation.")
    return notes
