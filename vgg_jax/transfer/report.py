"""Rows of transfer as a table beside the paper's figures, and the recall of each class as a picture."""

import os
from collections.abc import Sequence
from pathlib import Path

from vgg_jax.report import Row, add_rows, markdown_table, read_rows, write_atomically
from vgg_jax.transfer.evaluation import ROW_KEY

# Appendix B: fc7, stacked scales 256, 384, 512; mean class recall and its deviation over the splits, in percent.
PAPER = {"D": "91.8 ± 1.0", "E": "92.3 ± 0.5", "D & E": "92.7 ± 0.5"}
_WORST = 10


def write_results(folder: Path, rows: Sequence[Row]) -> None:
    """Add rows to FOLDER/results.json, and draw report.md and class_recalls.png anew.

    The table has all rows of the file, the best first, of which are the picture and the worst classes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    add_rows(folder / "results.json", rows, ROW_KEY)
    every = sorted(read_rows(folder / "results.json"), key=lambda row: -row["mean_class_recall"])
    _plot_class_recalls(every[0], folder / "class_recalls.png")
    write_atomically(folder / "report.md", report(every))


def transfer_table(rows: Sequence[Row]) -> str:
    """Rows as Markdown that reads well in a terminal."""
    header = ["weights", "layer", "pool", "scales (Q)", "combined", "flip", "D", "train/test a class", "splits", "C"]
    lines = [
        [
            " & ".join(row["weights"]),
            row["layer"],
            row["pool"],
            ",".join(map(str, row["scales"])),
            row["combine"] if len(row["scales"]) > 1 else "-",
            "yes" if row["flip"] else "no",
            str(row["dimensions"]),
            f"{row['train_images']}/{row['test_images']}",
            str(row["splits"]),
            ",".join(f"{cost:g}" for cost in row["costs"]),
            format_recall(row),
        ]
        for row in rows
    ]
    return markdown_table([*header, "mean class recall (%)"], lines)


def format_recall(row: Row) -> str:
    """Mean class recall and its deviation over the splits, as the paper prints them."""
    deviation = "" if row["deviation"] is None else f" ± {row['deviation']:.1f}"
    return f"{row['mean_class_recall']:.1f}{deviation}"


def report(rows: Sequence[Row]) -> str:
    """The report's Markdown: the table of all rows, the classes and confusions of the first."""
    shown = rows[0]
    worst = sorted(shown["class_recalls"].items(), key=lambda item: item[1])[:_WORST]
    classes = ", ".join(f"{name} {recall:.0f}" for name, recall in worst)
    confused = ", ".join(f"{true} as {given} ({count})" for true, given, count in shown["confusions"])
    scales = ",".join(map(str, shown["scales"]))
    net = f"{' & '.join(shown['weights'])}, {shown['layer']}, {shown['pool']}-pooled"
    paper = ", ".join(f"{arch} {figure}" for arch, figure in PAPER.items())
    return f"""# Transfer to {shown["dataset"]}

{transfer_table(rows)}

The paper on Caltech-101 (fc7, mean-pooled, Q = 256,384,512 stacked, flip, 30/50, 3 splits): {paper}.

## Classes

{net}, Q = {scales}, {format_recall(shown)}. Lowest recalls (%): {classes}.
Most frequent confusions, with the number of images over all splits: {confused or "none"}.

![recall of each class](class_recalls.png)
"""


def _plot_class_recalls(row: Row, path: Path) -> None:
    """The recall of each class, lowest first, as a PNG."""
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    classes = sorted(row["class_recalls"].items(), key=lambda item: item[1])
    figure = Figure(figsize=(max(4, 0.16 * len(classes)), 4), layout="constrained")
    axes = figure.subplots()
    axes.bar(range(len(classes)), [recall for _, recall in classes], color="C0")
    axes.set_xticks(range(len(classes)), [name for name, _ in classes], rotation=90, fontsize=6)
    axes.axhline(row["mean_class_recall"], color="C1", lw=1, label=f"mean, {format_recall(row)}")
    axes.set(ylabel="recall (%)", ylim=(0, 100), xlim=(-1, len(classes)))
    axes.legend(frameon=False, loc="lower right")
    temporary = path.with_name(f".{path.name}.tmp")
    figure.savefig(temporary, format="png", dpi=100)
    os.replace(temporary, path)
