"""Gradients of micro-batches: unrolled, as the training step has them, against the same sum in a lax.scan.

Unrolled they run at once on a CPU, or one after the other where barriers hold: what a step does that has little memory.

python experiments/benchmarks/micro_batches.py [--json=FILE]
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from jax import lax
from record import write_record

from vgg_jax import VGG, winograd
from vgg_jax.compilation import barrier_options, training_options
from vgg_jax.training.state import init_params
from vgg_jax.training.step import Objective, loss_sums, sum_over_parts

JSON = flags.DEFINE_string("json", None, "File for the figures.")
REPEATS = flags.DEFINE_integer("repeats", 5, "Timed runs of each side; the median counts.")

CASES = ((0.125, 32, 64, 8), (0.25, 64, 32, 4), (1.0, 96, 32, 8))  # width, crop, batch, micro-batches
WIDEST_SCANNED = 0.25  # a step of the full width would take minutes


def scanned(f: Callable[[Any], Any], parts: Any, count: int) -> Any:
    """Sum of f over the leading axis of parts, in a loop."""
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(f, jax.tree.map(lambda a: a[0], parts)))
    return lax.scan(lambda total, part: (jax.tree.map(jnp.add, total, f(part)), None), zeros, parts)[0]


def compare(width: float, crop: int, batch_size: int, count: int) -> dict[str, Any]:
    """Milliseconds of the sides, interleaved, on net D; temporaries in MB and seconds of compilation."""
    model = VGG("D", num_classes=10, width_multiplier=width, crop_size=crop)
    params, rng = init_params(model, 0), np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (batch_size, crop, crop, 3), np.uint8),
        "label": np.zeros(batch_size, np.int32),
        "index": np.arange(batch_size, dtype=np.int32),
    }
    parts = jax.tree.map(lambda a: a.reshape(count, -1, *a.shape[1:]), batch)
    row: dict[str, Any] = {"width": width, "crop": crop, "batch": batch_size, "micro_batches": count}
    programs = {}
    objective = Objective(model, winograd=winograd.pays())
    held = training_options() | barrier_options()
    sides = {"unrolled": (sum_over_parts, training_options()), "in_turn": (sum_over_parts, held)}
    sides |= {"scanned": (scanned, training_options())} if width <= WIDEST_SCANNED else {}
    for name, (add_up, options) in sides.items():

        def gradients(params: Any, parts: Any, add_up: Any = add_up) -> Any:
            return add_up(lambda part: jax.grad(lambda p: loss_sums(objective, p, part, 0)[0])(params), parts, count)

        start = time.perf_counter()
        programs[name] = jax.jit(gradients, compiler_options=options).lower(params, parts).compile()
        row[f"{name}_compile_s"] = time.perf_counter() - start
        row[f"{name}_temporaries_mb"] = programs[name].memory_analysis().temp_size_in_bytes / 1e6
        jax.block_until_ready(programs[name](params, parts))
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(REPEATS.value):
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(params, parts))
            times[name].append(1e3 * (time.perf_counter() - start))
    return row | {f"{name}_ms": statistics.median(values) for name, values in times.items()}


def main(_: object) -> None:
    """Compare, print, write."""
    rows = [compare(*case) for case in CASES]
    ratios = {
        f"{side}/unrolled width {row['width']} crop {row['crop']}": row[f"{side}_ms"] / row["unrolled_ms"]
        for row in rows
        for side in ("in_turn", "scanned")
        if f"{side}_ms" in row
    }
    for row in rows:
        print({name: round(value, 3) for name, value in row.items()})
    print({name: round(value, 2) for name, value in ratios.items()})
    if JSON.value:
        write_record(JSON.value, rows, ratios)


if __name__ == "__main__":
    app.run(main)
