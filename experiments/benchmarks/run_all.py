"""Every benchmark that compares speeds, one after the other, the cheapest first, within a time.

python experiments/benchmarks/run_all.py --minutes=30 [--output=DIR] [--only=forward,train_step] [--list]

Each is a process of its own and writes DIR/NAME_DEVICE.json and .png when it has something to tell, and a line of
DIR/history.jsonl, so that nothing is lost where the time ends. What will not fit into the rest of the time by its usual
length is passed over for a shorter one; what runs when the time ends is ended. Peers: pip install -e '.[peers]'.
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
from absl import app, flags

HERE = Path(__file__).resolve().parent

MINUTES = flags.DEFINE_float("minutes", 60.0, "Time for all of it.", 0.0)
OUTPUT = flags.DEFINE_string("output", str(HERE.parent / "results"), "Folder for the figures.")
ONLY = flags.DEFINE_list("only", None, "Names of those to run; all if not given.")
LIST = flags.DEFINE_bool("list", False, "Only say what would run.")


class Benchmark(NamedTuple):
    """A run: a name, its script, its arguments, and its usual minutes (2 CPU cores, or a GPU with 16)."""

    name: str
    script: str
    arguments: tuple[str, ...]
    minutes: float


FULL = ("--width=1", "--crop=224", "--limit=4", "--repeats=1")
CPU = (
    Benchmark("forward", "forward", ("--batches=1,8",), 4),
    Benchmark("forward_dense", "forward", ("--batches=1,4", "--dense=256x340"), 3),
    Benchmark("layers", "layers", (), 4),
    Benchmark("train_step", "train_step", ("--batches=2,8,16",), 20),
    Benchmark("train_step_switches", "train_step", ("--batches=8", "--switches", "--nopeers", "--repeats=3"), 6),
    Benchmark("dense_eval", "dense_eval", (), 4),
    Benchmark("dense_eval_Q256", "dense_eval", (*FULL, "--scale=256"), 6),
    Benchmark("dense_eval_Q384", "dense_eval", (*FULL, "--scale=384"), 7),
    Benchmark("dense_eval_Q512", "dense_eval", (*FULL, "--scale=512"), 9),
    Benchmark("input_pipeline", "input_pipeline", (), 6),
    Benchmark("end_to_end", "end_to_end", ("--micro_batches=1", "--steps=3", "--repeats=3"), 8),
    Benchmark("end_to_end_narrow", "end_to_end", ("--width=0.1", "--crop=64", "--batch=32", "--steps=20"), 2),
    Benchmark("startup", "startup", (), 10),
)
GPU = (
    Benchmark("forward", "forward", ("--batches=1,64,256", "--switches"), 4),
    Benchmark("forward_dense", "forward", ("--batches=1,16", "--dense=256x340"), 2),
    Benchmark("layers", "layers", ("--batch=256",), 3),
    Benchmark("train_step", "train_step", ("--batches=64,256",), 5),
    Benchmark("train_step_E", "train_step", ("--arch=E", "--batches=256"), 3),
    Benchmark("train_step_switches", "train_step", ("--batches=256", "--switches", "--nopeers"), 6),
    Benchmark("dense_eval", "dense_eval", ("--width=1", "--crop=224", "--scale=256", "--limit=300"), 4),
    Benchmark("input_pipeline", "input_pipeline", ("--rounds=3",), 4),
    Benchmark("end_to_end", "end_to_end", ("--batch=256", "--workers=16", "--steps=20"), 5),
    Benchmark("startup", "startup", ("--batch=256",), 5),
)


def main(_: object) -> None:
    """Run what fits, and say at the end what ran."""
    kind = jax.default_backend()
    order = in_order(GPU if kind == "gpu" else CPU, ONLY.value)
    if LIST.value:
        for benchmark in order:
            print(f"{benchmark.minutes:5.0f} min  {' '.join(command(benchmark, kind)[1:])}")
        return
    output = Path(OUTPUT.value)
    output.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * MINUTES.value
    told = []
    for benchmark in order:
        left = (end - time.monotonic()) / 60
        if benchmark.minutes > left:
            told.append((benchmark.name, f"passed over: it takes {benchmark.minutes:g} minutes, {left:.1f} were left"))
            continue
        print(f"\n{benchmark.name}, {left:.1f} minutes left", flush=True)
        start = time.monotonic()
        outcome = run(command(benchmark, kind), 60 * left)
        told.append((benchmark.name, f"{outcome} after {(time.monotonic() - start) / 60:.1f} minutes"))
    print("\n" + "\n".join(f"{name:24} {outcome}" for name, outcome in told))


def in_order(benchmarks: Sequence[Benchmark], only: Sequence[str] | None) -> list[Benchmark]:
    """Those that are wanted, the cheapest first."""
    names = {benchmark.name for benchmark in benchmarks}
    if unknown := set(only or ()) - names:
        sys.exit(f"error: --only names {', '.join(sorted(unknown))}: choose of {', '.join(sorted(names))}")
    return sorted((b for b in benchmarks if only is None or b.name in only), key=lambda b: b.minutes)


def command(benchmark: Benchmark, kind: str) -> list[str]:
    """How a benchmark is started."""
    figures = Path(OUTPUT.value) / f"{benchmark.name}_{kind}"
    script = str(HERE / f"{benchmark.script}.py")
    return [sys.executable, script, *benchmark.arguments, f"--json={figures}.json", f"--plot={figures}.png"]


def run(arguments: Sequence[str], seconds: float) -> str:
    """Run a command, but not for longer; in words, how it ended."""
    try:
        status = subprocess.run(arguments, timeout=seconds).returncode
    except subprocess.TimeoutExpired:
        return "cut off"
    return "done" if status == 0 else f"failed (exit status {status})"


if __name__ == "__main__":
    app.run(main)
