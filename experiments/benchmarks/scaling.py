"""What a training step sends between devices and how it would scale: by inspection of the compiled step, and on paper.

python experiments/benchmarks/scaling.py [--arch=D] [--json=FILE] [--plot=FILE.png]

Compiles the step on 8 virtual CPU devices, runs nothing, and reads the collectives out of the program. Then predicts
the efficiency on 1 to 256 GPUs in closed form (prediction.py has the machine and all assumptions). A minute on 2 cores.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags
from collectives import Collective, collectives, total_operations
from matplotlib.figure import Figure
from prediction import BATCH, Machine, Way, efficiency, layers_of, sharding_pays_below
from record import write_record

from vgg_jax import ARCHITECTURES, VGG
from vgg_jax.optimizer import sgd
from vgg_jax.progress import progress_bar
from vgg_jax.report import markdown_table
from vgg_jax.training.parallel import data_mesh, parallel_train_step
from vgg_jax.training.state import init_state, params_shapes
from vgg_jax.training.step import Objective

ARCH = flags.DEFINE_enum("arch", "D", list(ARCHITECTURES), "The net.")
WIDTH = flags.DEFINE_float("width", 1.0, "Its width multiplier.")
CROP = flags.DEFINE_integer("crop", 224, "Its crop size.")
JSON = flags.DEFINE_string("json", None, "File for the figures.")
PLOT = flags.DEFINE_string("plot", None, "PNG file for a picture of the prediction.")

DEVICES = 8
PROGRAMS = (("ordered", 8), ("ordered", 16), ("ordered_bf16", 8), ("all_reduce", 8))  # reduction, micro-batches
GPUS = tuple(2**i for i in range(9))
WAYS = (
    Way("f32, no overlap", overlap=False),
    Way("f32"),
    Way("bf16, no overlap", width=2, overlap=False),
    Way("bf16", width=2),
    Way("f32, two levels", "two_level"),
    Way("bf16, two levels", "two_level", width=2),
    Way("bf16, fc layers split", "two_level", width=2, sharded=True),
)


def main(_: object) -> None:
    """Inspect, predict, print, write."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", DEVICES)
    model = VGG(ARCH.value, width_multiplier=WIDTH.value, crop_size=CROP.value)
    inspected = [inspect(model, *program) for program in progress_bar(PROGRAMS, unit="program")]
    for row in inspected:
        print_program(row)
    predicted = [predict(model, cards, batch, gpus) for cards in (1, 8) for batch in (None, BATCH) for gpus in GPUS]
    print_prediction(predicted)
    pays = {
        f"fc layers split pay below a batch of, {8 * w} bits": sharding_pays_below(layers_of(model), w) for w in (4, 2)
    }
    print({name: round(value) for name, value in pays.items()})
    if JSON.value:
        setting = {"net": f"{ARCH.value}, width {WIDTH.value}, crop {CROP.value}", "predicted": "not measured"}
        sent = {f"bytes sent, {r['reduction']} / ordered": r["sent"] / inspected[0]["sent"] for r in inspected}
        write_record(JSON.value, inspected + predicted, sent | pays, {**setting, **Machine()._asdict()})
    if PLOT.value:
        plot(predicted, Path(PLOT.value))


def compiled(model: VGG, reduction: str, micro_batches: int) -> str:
    """The compiled step's HLO text, over all devices, with the paper's batch of 256; convolutions as on a GPU."""
    optimizer = sgd(1e-2)
    state = jax.eval_shape(lambda params: init_state(params, optimizer), params_shapes(model))
    batch = {
        "image": jax.ShapeDtypeStruct((BATCH, model.crop_size, model.crop_size, 3), jnp.uint8),
        **{name: jax.ShapeDtypeStruct((BATCH,), jnp.int32) for name in ("label", "index")},
    }
    options = {"batch_size": BATCH, "micro_batches": micro_batches, "reduction": reduction}
    step = parallel_train_step(Objective(model), optimizer, data_mesh(), **options)
    return step.lower(state, batch, 0).compile().as_text()


def inspect(model: VGG, reduction: str, micro_batches: int) -> dict[str, Any]:
    """What a step sends, beside the closed form, and for each collective the share of the step that may hide it."""
    text = compiled(model, reduction, micro_batches)
    found, total = collectives(text), total_operations(text)
    width = 2 if reduction == "ordered_bf16" else 4
    parameters = sum(layer.parameters for layer in layers_of(model))
    return {
        **{"reduction": reduction, "micro_batches": micro_batches, "devices": DEVICES, "exchanges": len(found)},
        "sent": sum(collective.sent for collective in found),
        "closed_form": 2 * (DEVICES - 1) / DEVICES * width * parameters,
        "operations": total,
        "collectives": [as_row(collective, total) for collective in found],
    }


def as_row(collective: Collective, total: int) -> dict[str, Any]:
    """A collective with shares of the step's arithmetic in place of operations."""
    row = collective._asdict()
    return {**row, "free": round(row["free"] / total, 4), "left": round(row["left"] / total, 4)}


def print_program(row: Mapping[str, Any]) -> None:
    """One program: what is sent in all, and its large collectives."""
    print(
        f"\n{row['reduction']}, {row['micro_batches']} micro-batches: {row['exchanges']} collectives, "
        f"each of {row['devices']} devices "
        f"sends {row['sent'] / 1e6:.3f} MB (closed form {row['closed_form'] / 1e6:.3f})"
    )
    header = ["collective", "dtype", "elements", "MB sent", "free to run beside it (%)", "left by the schedule (%)"]
    lines = [
        [
            c["kind"],
            c["dtype"],
            str(c["elements"]),
            f"{c['sent'] / 1e6:.1f}",
            f"{100 * c['free']:.1f}",
            f"{100 * c['left']:.1f}",
        ]
        for c in row["collectives"]
    ]
    print(markdown_table(header, lines))


def predict(model: VGG, cards: int, batch: int | None, gpus: int) -> dict[str, Any]:
    """Efficiencies of all ways on a number of GPUs."""
    layers, machine = layers_of(model), Machine(cards=cards)
    return {
        **{"cards": cards, "scaling": "strong" if batch else "weak", "gpus": gpus},
        "efficiency": {way.name: round(efficiency(layers, gpus, way, machine, batch=batch), 4) for way in WAYS},
    }


def print_prediction(rows: Sequence[Mapping[str, Any]]) -> None:
    """A table for each kind of scaling and number of network cards."""
    titles = {"weak": f"{BATCH} images a GPU", "strong": f"{BATCH} images in all"}
    for cards, scaling in dict.fromkeys((row["cards"], row["scaling"]) for row in rows):
        print(f"\npredicted, not measured: efficiency (%), {titles[scaling]}, {cards} x 400 Gb/s a node of 8")
        mine = [row for row in rows if (row["cards"], row["scaling"]) == (cards, scaling)]
        lines = [[str(row["gpus"]), *(f"{100 * e:.0f}" for e in row["efficiency"].values())] for row in mine]
        print(markdown_table(["GPUs", *(way.name for way in WAYS)], lines))


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Efficiency against GPUs, one network card a node."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    for axes, scaling in zip(figure.subplots(1, 2, sharey=True), ("weak", "strong")):
        mine = [row for row in rows if row["scaling"] == scaling and row["cards"] == 1]
        for way in WAYS:
            points = [100 * row["efficiency"][way.name] for row in mine]
            axes.plot(
                [row["gpus"] for row in mine], points, "o-" if way.overlap else "o--", ms=3, lw=1.2, label=way.name
            )
        axes.set(xlabel="GPUs", ylim=(0, 105))
        axes.set_xscale("log", base=2)
        axes.set_xticks(GPUS, [str(gpus) for gpus in GPUS])
        axes.set_title(f"{BATCH} images " + ("a GPU" if scaling == "weak" else "in all"), fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    figure.axes[0].set_ylabel("predicted efficiency (%)")
    figure.suptitle("predicted, not measured: H100, 8 a node, one 400 Gb/s card a node", fontsize=8)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    app.run(main)
