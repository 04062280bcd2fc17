"""Images/s from JPEG files to training crops and to evaluation's images, beside torchvision's path and the ceiling.

python experiments/benchmarks/input_pipeline.py [--data_path=DIR] [--json=FILE] [--plot=FILE.png]

Prints a table. The ceiling is libjpeg-turbo decoding the same files whole and nothing else, in the same run. What is
compared takes turns, and a ratio is the median of the ratios of the turns. One core: seconds of CPU. The
pipelines: seconds of the clock on all cores, batches of 32 of `training_batches`, against torch's DataLoader. Peers are
installed as input_peers.py says. About 5 minutes on 2 cores.
"""

import os
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from absl import app, flags
from input_timing import BATCH, CORES, JITTER, Rows, all_cores, evaluation, one_core, ordinary_files, pipeline
from matplotlib.figure import Figure
from record import device, write_record

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("VGG_JAX_DATA", REPOSITORY.parent / "shared" / "data"))

DATA_PATH = flags.DEFINE_string("data_path", str(DATA / "imagenet_sample"), "Folder of JPEGs, searched to any depth.")
ROUNDS = flags.DEFINE_integer("rounds", 7, "Turns of each side.", 1)
BATCHES = flags.DEFINE_integer("batches", 12, "Timed batches of a pipeline in a turn.", 1)
ONLY_THREADS = flags.DEFINE_bool(
    "only_threads", False, "Print images/s and peak MiB of the threads: what the benchmark starts."
)
JSON = flags.DEFINE_string("json", None, "File for the figures; history.jsonl beside it gets a line.")
PLOT = flags.DEFINE_string("plot", None, "PNG file for a picture.")


def peak_mib() -> float:
    """The largest resident set of this process; getrusage would give the parent's where that was larger."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def arenas() -> Rows:
    """What the scripts' limit on malloc's arenas costs the threads: processes that take turns."""
    command = [sys.executable, __file__, "--only_threads", f"--data_path={DATA_PATH.value}"]
    runs: dict[str, list[tuple[float, ...]]] = {"malloc's own number": [], "2": [], "4": []}
    for _ in range(ROUNDS.value):
        for number, measured in runs.items():
            environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
            environment |= {"MALLOC_ARENA_MAX": number} if number.isdigit() else {}
            run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            measured.append(tuple(map(float, run.stdout.split())))
    own, *_ = rates = {number: [rate for rate, _ in measured] for number, measured in runs.items()}
    return [
        {
            **{"what": f"{CORES} threads", "side": f"malloc arenas: {number}"},
            **{"images_per_s": statistics.median(rates[number]), "against": own},
            "ratio": statistics.median(a / b for a, b in zip(rates[number], rates[own], strict=True)),
            "peak_mib": max(peak for _, peak in measured),
        }
        for number, measured in runs.items()
    ]


def table(rows: Rows) -> str:
    """The rows as text."""
    lines = [f"{'':24}{'':38}{'img/s':>8}{'MB/s':>8}{'of ceiling':>12}{'ratio':>8}{'grey':>8}{'peak MiB':>10}"]
    for row in rows:
        shown = (
            ("megabytes_per_s", 8, 1),
            ("of_ceiling", 12, 2),
            ("ratio", 8, 2),
            ("grey_levels", 8, 3),
            ("peak_mib", 10, 0),
        )
        cells = (f"{row[name]:{width}.{digits}f}" if name in row else " " * width for name, width, digits in shown)
        lines.append(f"{row['what']:24}{row['side']:38}{row['images_per_s']:8.0f}{''.join(cells)}")
    return "\n".join(lines)


def plot(rows: Rows, path: Path) -> None:
    """Bars of images/s with the ratio to the peer."""
    figure = Figure(figsize=(9, 0.3 * len(rows) + 1), layout="constrained")
    axes = figure.subplots()
    kinds = list(dict.fromkeys(row["what"] for row in rows))
    colours = [f"C{kinds.index(row['what'])}" for row in rows]
    bars = axes.barh(range(len(rows)), [row["images_per_s"] for row in rows], color=colours)
    axes.bar_label(bars, [f"{row['images_per_s']:.0f}, x{row['ratio']:.2f}" for row in rows], padding=3, fontsize=8)
    axes.set_yticks(range(len(rows)), [f"{row['what']}: {row['side']}" for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel("images/s, and times the peer's")
    axes.set_title(device(), fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png", dpi=100)


def main(_: object) -> None:
    """Measure, print, write."""
    files = ordinary_files(Path(DATA_PATH.value))
    if ONLY_THREADS.value:
        rate = BATCHES.value * BATCH / pipeline(files, BATCHES.value, threads=CORES)()
        print(rate, peak_mib())
        return
    rows = [row for scale in ((256, 256), JITTER) for row in one_core(files, scale, ROUNDS.value)]
    rows += evaluation(files, (256, 384, 512), ROUNDS.value)
    rows += all_cores(files, ROUNDS.value, BATCHES.value)
    rows += arenas()
    print(table(rows))
    for row in rows:
        if row["side"] in ("exact", "fast"):
            print(f"16 cores at {row['what']}, {row['side']}: {16 * row['images_per_s']:.0f} images/s, if they scale")
    setting: dict[str, Any] = {"files": len(files), "rounds": ROUNDS.value, "batches": BATCHES.value}
    setting |= {"batch_size": BATCH}
    ratios = {f"{row['what']}: {row['side']} / {row['against']}": row["ratio"] for row in rows}
    if JSON.value:
        write_record(JSON.value, rows, ratios, setting)
    if PLOT.value:
        plot(rows, Path(PLOT.value))


if __name__ == "__main__":
    app.run(main)
