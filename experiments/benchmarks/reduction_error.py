"""What rounding gradients to bfloat16 between devices (train.reduction=ordered_bf16) does to updates and to losses.

python experiments/benchmarks/reduction_error.py [--steps=200] [--json=FILE] [--plot=FILE.png]

Trains a narrow net D on 8 virtual CPU devices, on noisy coloured pictures, in three ways from the same start: ordered,
ordered_bf16, and all_reduce, which shows what another order of float32 sums does. Beside the losses it compares the
update of each layer, from one state, at the first and at the middle step. Some minutes on 2 cores.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from matplotlib.figure import Figure
from record import write_record

from vgg_jax import VGG
from vgg_jax.optimizer import sgd
from vgg_jax.progress import progress_bar
from vgg_jax.report import markdown_table
from vgg_jax.training.parallel import REDUCTIONS, Step, data_mesh, parallel_train_step, replicate, shard_batch
from vgg_jax.training.state import TrainState, init_params, init_state
from vgg_jax.training.step import Batch, Objective

STEPS = flags.DEFINE_integer("steps", 200, "Steps of each training.", 5)
JSON = flags.DEFINE_string("json", None, "File for the figures.")
PLOT = flags.DEFINE_string("plot", None, "PNG file for a picture of the losses.")

DEVICES, BATCH, CLASSES, RATE = 8, 64, 10, 1e-3
MODEL = {"arch": "D", "num_classes": CLASSES, "width_multiplier": 0.125, "crop_size": 32}


def main(_: object) -> None:
    """Train, compare, print, write."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", DEVICES)
    model, optimizer, mesh = VGG(**MODEL), sgd(RATE), data_mesh()
    options = {"batch_size": BATCH, "micro_batches": DEVICES, "donate": False}
    steps = {r: parallel_train_step(Objective(model), optimizer, mesh, reduction=r, **options) for r in REDUCTIONS}
    data = [shard_batch(batch, mesh) for batch in itertools.islice(batches(), STEPS.value)]
    at_rest = lambda params: replicate(init_state(jax.tree.map(np.asarray, params), optimizer), mesh)  # noqa: E731
    start = at_rest(init_params(model, 0))
    with progress_bar(total=len(steps) * STEPS.value, unit="step") as bar:
        runs = {reduction: train(step, start, data, bar) for reduction, step in steps.items()}
    middle = at_rest(runs["ordered"][1].params)
    rows = [
        {"step": number, "reduction": reduction, "layer": layer, "relative_error": error}
        for number, state in ((1, start), (STEPS.value // 2 + 1, middle))
        for reduction in REDUCTIONS[1:]
        for layer, error in update_errors(steps[reduction], steps["ordered"], state, data[number - 1]).items()
    ]
    losses = {reduction: losses for reduction, (losses, _) in runs.items()}
    report(rows, losses)
    if JSON.value:
        largest = {
            f"largest error of a layer's update, {r}": max(
                row["relative_error"] for row in rows if row["reduction"] == r
            )
            for r in REDUCTIONS[1:]
        }
        rounded = [{"reduction": r, "losses": [round(loss, 4) for loss in values]} for r, values in losses.items()]
        write_record(JSON.value, rows + rounded, largest, {**MODEL, "batch": BATCH, "rate": RATE, "devices": DEVICES})
    if PLOT.value:
        plot(losses, Path(PLOT.value))


def train(step: Step, state: TrainState, data: Sequence[Batch], bar: Any) -> tuple[list[float], TrainState]:
    """The losses of all steps, and the state before the middle one."""
    losses, middle = [], state
    for number, batch in enumerate(data):
        middle = state if number == len(data) // 2 else middle
        state, metrics = step(state, batch, np.uint32(0))
        losses.append(float(metrics["loss"]))
        bar.update()
    return losses, middle


def update_errors(step: Step, reference: Step, at_rest: TrainState, batch: Batch) -> dict[str, float]:
    """For each layer the norm of the difference of two steps' updates over that of the reference's.

    at_rest: a state without velocity, so that the velocity after the step is its update.
    """
    ours, theirs = (optax.tree.get(f(at_rest, batch, np.uint32(0))[0].opt_state, "trace") for f in (step, reference))
    difference = jax.tree.map(jnp.subtract, ours, theirs)
    return {layer: float(optax.tree.norm(difference[layer]) / optax.tree.norm(theirs[layer])) for layer in theirs}


def report(rows: Sequence[Mapping[str, Any]], losses: Mapping[str, Sequence[float]]) -> None:
    """Errors layer by layer, and losses, means over each fifth of the steps."""
    columns = list(dict.fromkeys((row["reduction"], row["step"]) for row in rows))
    errors = {(row["layer"], row["reduction"], row["step"]): row["relative_error"] for row in rows}
    layers = dict.fromkeys(row["layer"] for row in rows)
    lines = [[layer, *(f"{errors[layer, *column]:.2e}" for column in columns)] for layer in layers]
    print(markdown_table(["update of", *(f"{reduction}, step {step}" for reduction, step in columns)], lines))
    fifths = {reduction: np.array_split(values, 5) for reduction, values in losses.items()}
    lines = [[reduction, *(f"{part.mean():.4f}" for part in parts)] for reduction, parts in fifths.items()]
    print(markdown_table(["loss, mean of each fifth", *"12345"], lines))


def plot(losses: Mapping[str, Sequence[float]], path: Path) -> None:
    """Losses against steps."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    for reduction, values in losses.items():
        axes.plot(values, lw=1, label=reduction)
    axes.set(xlabel="step", ylabel="training loss", yscale="log")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=90)


def batches() -> Iterator[dict[str, np.ndarray]]:
    """Pictures of a colour for each class under noise, the same in every call."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (CLASSES, 3))
    for step in itertools.count():
        labels = rng.integers(0, CLASSES, BATCH).astype(np.int32)
        pixels = colours[labels][:, None, None] + rng.normal(0, 60, (BATCH, 32, 32, 3))
        index = np.arange(step * BATCH, (step + 1) * BATCH, dtype=np.int32)
        yield {"image": pixels.clip(0, 255).astype(np.uint8), "label": labels, "index": index}


if __name__ == "__main__":
    app.run(main)
