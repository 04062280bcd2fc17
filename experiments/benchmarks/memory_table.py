"""Memory of a training step by net, batch, micro-batches, rematerialisation and dtype, as its compiler lays it out.

python experiments/benchmarks/memory_table.py [--nets=A,B,C,D,E] [--batches=1,16,64,256] [--micro_batches=1,8]
    [--dtypes=float32,bfloat16] [--json=FILE] [--plot=FILE.png]

Full width, crops of 224, 1000 classes. Programs are compiled for this machine's device and not run, so no memory is
needed for the batch; a program takes 5 to 60 s, and more with more micro-batches.
"""

import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags
from matplotlib.figure import Figure
from record import device, write_record

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from configs.base import paper_s256
from vgg_jax.training.dry_run import memory_rows, memory_table

NETS = flags.DEFINE_list("nets", ["A", "B", "C", "D", "E"], "Nets of Table 1.")
BATCHES = flags.DEFINE_list("batches", ["1", "16", "64", "256"], "Images a step.")
MICRO_BATCHES = flags.DEFINE_list(
    "micro_batches", ["1", "8"], "Parts of a step; counts that do not divide are left out."
)
DTYPES = flags.DEFINE_list("dtypes", ["float32", "bfloat16"], "Of the computation.")
JSON = flags.DEFINE_string("json", None, "File for the figures.")
PLOT = flags.DEFINE_string("plot", None, "File for a picture of them, as PNG.")


def main(_: object) -> None:
    """Compile, print, write."""
    rows = memory_rows(configs(), num_classes=1000)
    print(memory_table(rows))
    if JSON.value:
        write_record(JSON.value, rows, savings(rows), {"width": 1.0, "crop": 224, "classes": 1000})
    if PLOT.value:
        plot(rows, Path(PLOT.value))


def configs() -> list[Any]:
    """One for each program."""
    found = []
    numbers = [[int(text) for text in flag.value] for flag in (BATCHES, MICRO_BATCHES)]
    for net, batch, count, dtype, remat in itertools.product(NETS.value, *numbers, DTYPES.value, (False, True)):
        if batch % count == 0:
            config = paper_s256(net)
            config.model.dtype = dtype
            config.train.update(batch_size=batch, micro_batches=count, remat=remat)
            found.append(config)
    return found


def savings(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What rematerialisation leaves of each peak."""
    pairs = zip(rows[0::2], rows[1::2])  # without and with
    return {
        f"remat/kept {row['arch']} {row['dtype']} batch {row['batch_size']}/{row['micro_batches']}": with_remat["peak"]
        / row["peak"]
        for row, with_remat in pairs
    }


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Bars of the peaks, as PNG."""
    figure = Figure(figsize=(9, 1 + 0.22 * len(rows)), layout="constrained")
    axes = figure.subplots()
    names = [
        f"{row['arch']} {row['dtype']}, {row['batch_size']} in {row['micro_batches']}{', remat' * row['remat']}"
        for row in rows
    ]
    axes.barh(names, [row["peak"] / 1e9 for row in rows])
    axes.invert_yaxis()
    axes.set(xlabel="GB", title=f"memory of a training step, {device()}")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    app.run(main)
