"""A comparison of one net's sides, batch size by batch size: what forward.py and train_step.py share."""

import os
import resource
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch needs a GPU's memory too

import ceilings
import jax
from absl import flags
from interleave import interleaved, speedup
from ours import BACKEND_SWITCHES, SWITCHES, Variant
from record import device, write_record

from vgg_jax import ARCHITECTURES, VGG
from vgg_jax.errors import InputError
from vgg_jax.model import DTYPES

ARCH = flags.DEFINE_enum("arch", "D", list(ARCHITECTURES), "The net.")
WIDTH = flags.DEFINE_float("width", 1.0, "Its width multiplier.")
CROP = flags.DEFINE_integer("crop", 224, "Its crop size.")
DTYPE = flags.DEFINE_enum("dtype", None, DTYPES, "Of our computation; bfloat16 on a GPU, else float32, if not given.")
WITH_SWITCHES = flags.DEFINE_bool("switches", False, "Measure each of our switches too.")
PEERS = flags.DEFINE_bool("peers", True, "Measure torchvision, keras and plain flax too.")
REPEATS = flags.DEFINE_integer("repeats", 5, "Rounds; the median counts.", lower_bound=1)
JSON = flags.DEFINE_string("json", None, "File for the figures.")
PLOT = flags.DEFINE_string("plot", None, "File for a picture of them, as PNG.")

OURS = "vgg_jax"
Build = Callable[[], tuple[Callable[[], object], int | None]]  # -> a side, and the bytes that its program needs


def model_of_flags() -> VGG:
    """The net that is measured."""
    return VGG(ARCH.value, width_multiplier=WIDTH.value, crop_size=CROP.value)


def on_gpu() -> bool:
    """Whether jax computes on a GPU."""
    return jax.default_backend() == "gpu"


def dtype() -> str:
    """Of our computation."""
    return DTYPE.value or ("bfloat16" if on_gpu() else "float32")


def variants() -> dict[str, Variant]:
    """Our sides by name: the default, and where asked for each switch that changes it."""
    default = Variant(dtype=dtype())
    known = {**SWITCHES, **BACKEND_SWITCHES.get(jax.default_backend(), {})} if WITH_SWITCHES.value else {}
    switched = {f"{OURS}, {name}": default._replace(**changes) for name, changes in known.items()}
    return {OURS: default, **{name: variant for name, variant in switched.items() if variant != default}}


def torch_ways() -> dict[str, dict[str, bool]]:
    """How torchvision's net is run: on a GPU also in bfloat16 and compiled."""
    ways = {"torchvision": {}}
    if on_gpu():
        ways |= {"torchvision, amp": {"amp": True}, "torchvision, amp, compiled": {"amp": True, "compiled": True}}
    return ways


def run(what: str, batches: Iterable[int], sides: Callable[[int], Mapping[str, Build]], flops: float) -> None:
    """Measure, print and write after each batch size; ``flops``: of one image."""
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for batch in batches:
        of_batch, of_peers = compare(sides(batch), batch, flops * batch)
        for row in of_batch:
            print_row(row)
        rows, ratios = rows + of_batch, ratios | of_peers
        setting = {"what": what, "arch": ARCH.value, "width": WIDTH.value, "crop": CROP.value, "repeats": REPEATS.value}
        if JSON.value:
            argv = [argument for argument in sys.argv[1:] if not argument.startswith(("--json", "--plot"))]
            write_record(JSON.value, rows, ratios, {**setting, "argv": argv})
        if PLOT.value:
            plot(rows, f"{what} of net {ARCH.value}, {device()}", Path(PLOT.value))


def compare(builds: Mapping[str, Build], batch: int, flops: float) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """The rows of a batch size, the machine's ceilings last, and how many times faster we are than each side."""
    sides, needed = built({name: build for name, build in builds.items() if PEERS.value or name.startswith(OURS)})
    product, product_flops = ceilings.matrix_product(variants()[OURS].dtype)
    copy, copied = ceilings.copy()
    seconds = interleaved({**sides, "product": product, "copy": copy}, REPEATS.value, f"batch {batch}")
    ceiling = product_flops / statistics.median(seconds["product"])
    rows: list[dict[str, Any]] = []
    for name in sides:
        speed = batch / statistics.median(seconds[name]), flops / statistics.median(seconds[name])
        row = {"side": name, "batch": batch, "seconds": statistics.median(seconds[name]), "images_per_s": speed[0]}
        row |= {"tflops": speed[1] / 1e12, "of_product": speed[1] / ceiling, "program_mib": mib(needed[name])}
        rows.append({**row, "ours_over_this": speedup(seconds, OURS, name)})
    ratios = {f"{OURS}/{r['side']}, batch {batch}": r["ours_over_this"] for r in rows if r["side"] != OURS}
    bandwidth = copied / statistics.median(seconds["copy"]) / 1e9
    machine = {"tflops": ceiling / 1e12, "gb_per_s": bandwidth, "peak_mib": mib(peak_bytes())}
    return [*rows, {"side": "machine", "batch": batch, **machine}], ratios


def built(builds: Mapping[str, Build]) -> tuple[dict[str, Callable[[], object]], dict[str, int | None]]:
    """The sides that can be built here, and their programs' bytes; of the others it is said why not."""
    sides, needed = {}, {}
    for name, build in builds.items():
        try:
            sides[name], needed[name] = build()
        except (InputError, ImportError) as reason:
            print(f"  {name}: left out, {reason}", file=sys.stderr)
        except RuntimeError as reason:  # too little memory, or an option that this XLA does not know: the others go on
            print(f"  {name}: failed, {next(iter(str(reason).splitlines()), '')}", file=sys.stderr)
    return sides, needed


def mib(size: int | None) -> float | None:
    """Bytes as MiB."""
    return None if size is None else size / 2**20


def peak_bytes() -> int:
    """The most memory so far: of the accelerator where there is one, else of this process."""
    of_device = jax.devices()[0].memory_stats() or {}
    return of_device.get("peak_bytes_in_use") or 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def print_row(row: Mapping[str, Any]) -> None:
    """One line of the table."""
    if row["side"] == "machine":
        print(
            f"  ceilings: matrix product {row['tflops']:.3f} TFLOP/s, copy {row['gb_per_s']:.1f} GB/s; "
            f"peak memory of all {row['peak_mib']:.0f} MiB",
            flush=True,
        )
        return
    program = "" if row["program_mib"] is None else f"{row['program_mib']:.0f} MiB"
    milliseconds = 1000 * row["seconds"]
    print(
        f"  {row['side']:34} batch {row['batch']:4} {milliseconds:9.1f} ms {row['images_per_s']:9.2f} images/s "
        f"{row['tflops']:8.3f} TFLOP/s ({100 * row['of_product']:3.0f}%) {row['ours_over_this']:6.2f}x {program:>10}"
    )


def plot(rows: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Bars of images/s, sides by batch size."""
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    measured = [row for row in rows if row["side"] != "machine"]
    batches = sorted({row["batch"] for row in measured})
    figure = Figure(
        figsize=(3 + 3 * len(batches), 1.2 + 0.3 * len({row["side"] for row in measured})), layout="constrained"
    )
    for axes, batch in zip(figure.subplots(1, len(batches), sharey=True, squeeze=False)[0], batches):
        of_batch = [row for row in measured if row["batch"] == batch]
        colours = ["C0" if row["side"].startswith(OURS) else "0.6" for row in of_batch]
        bars = axes.barh([row["side"] for row in of_batch], [row["images_per_s"] for row in of_batch], color=colours)
        axes.bar_label(bars, fmt="%.3g", padding=2)
        axes.set(title=f"batch {batch}", xlabel="images/s")
        axes.margins(x=0.2)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].invert_yaxis()
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, format="png", dpi=110)
