"""Time of each layer of a training step: forward, gradient of its weights, gradient of its input; and the optimizer's.

python experiments/benchmarks/layers.py [--arch=D] [--batch=8] [--dtype=bfloat16] [--json=FILE] [--plot=FILE.png]

Each pass is a program of its own on arrays of the layer's shapes, timed in turns with a matrix product, the machine's
ceiling. Bias, ReLU and pool are rows of their own, as the compiler fuses them; dropout and loss are left out.
"""

import functools
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ceilings
import comparison
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from absl import app, flags
from interleave import interleaved
from jax import Array, lax
from ours import DECAY, MOMENTUM, RATE
from record import device, write_record

from vgg_jax import VGG, winograd
from vgg_jax.architectures import FC_LAYERS, blocks_of
from vgg_jax.compilation import training_options
from vgg_jax.layers import local_response_norm, max_pool
from vgg_jax.model import map_side
from vgg_jax.optimizer import sgd
from vgg_jax.training.state import init_params, multiply_adds_of, params_shapes

BATCH = flags.DEFINE_integer("batch", 8, "Images.", 1)
PASSES = ("forward", "weights", "input")


class Part(NamedTuple):
    """A layer, or what follows it."""

    name: str
    function: Callable[[Array, Array], Array]  # of weights and input
    weights: tuple[int, ...]  # shapes
    input: tuple[int, ...]
    operations: float = 0.0  # of one pass; 0: bound by memory


def main(_: object) -> None:
    """Measure layer by layer, print, write."""
    model = comparison.model_of_flags()
    rows = [measured(part, part.name != "conv1_1") for part in parts(model, BATCH.value)]
    rows.append(optimizer_row(model))
    total = sum(row["seconds"] for row in rows)
    for row in rows:
        row["share"] = row["seconds"] / total
        times = "".join(f"{name} {1000 * row[name]:8.2f} ms  " if name in row else 22 * " " for name in PASSES)
        speed = "".join(f" {100 * share:4.0f}%" for share in row["of_product"])
        print(f"  {row['layer']:24} {times} {100 * row['share']:5.1f}% of all   of the product's rate:{speed}")
    print(f"  all layers {total:.3f} s, {BATCH.value / total:.2f} images/s")
    setting = {"arch": model.arch, "width": model.width_multiplier, "crop": model.crop_size, "batch": BATCH.value}
    if comparison.JSON.value:
        write_record(comparison.JSON.value, rows, {}, {**setting, "dtype": comparison.dtype(), "seconds": total})
    if comparison.PLOT.value:
        plot(rows, f"net {model.arch}, batch {BATCH.value}, {device()}", Path(comparison.PLOT.value))


def parts(model: VGG, batch: int) -> Iterator[Part]:
    """From the images to fc8."""
    kernels = {name: layer["kernel"].shape for name, layer in params_shapes(model).items()}
    operations = {name: 2.0 * batch * count for name, count in multiply_adds_of(model).items()}
    for block in blocks_of(model.arch):
        for layer in block:
            name, side = layer.name, map_side(model, layer.name, model.crop_size)
            *_, inputs, outputs = kernels[name]
            yield Part(name, convolution, kernels[name], (batch, side, side, inputs), operations[name])
            lrn, pool = layer.lrn, layer is block[-1]
            after = functools.partial(after_convolution, lrn=lrn, pool=pool, rounding=model.pool_rounding)
            words = f"{name} bias, ReLU{', LRN' * lrn}{', pool' * pool}"
            yield Part(words, after, (outputs,), (batch, side, side, outputs))
    for name in FC_LAYERS:
        yield Part(name, lambda w, x: x @ w, kernels[name], (batch, kernels[name][0]), operations[name])


def after_convolution(bias: Array, x: Array, *, lrn: bool, pool: bool, rounding: str) -> Array:
    """As in the model's blocks."""
    x = nn.relu(x + bias)
    x = local_response_norm(x) if lrn else x
    return max_pool(x, rounding) if pool else x


def convolution(kernel: Array, x: Array) -> Array:
    """As the training step's."""
    if winograd.pays() and winograd.suits(x, kernel.shape):
        return winograd.convolve_3x3(x, kernel)
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def measured(part: Part, with_input: bool) -> dict[str, Any]:
    """Median seconds of each pass of a part, and their share of a matrix product's rate."""
    weights, x = (jax.random.normal(jax.random.key(i), shape, comparison.dtype()) for i, shape in enumerate(part[2:4]))
    shape = jax.eval_shape(part.function, weights, x)
    cotangent = jnp.ones(shape.shape, shape.dtype)
    passes: dict[str, Callable[..., Any]] = {"forward": lambda w, x, _: part.function(w, x)}
    if part.operations:
        passes["weights"] = lambda w, x, c: jax.vjp(lambda w: part.function(w, x), w)[1](c)
        passes |= {"input": lambda w, x, c: jax.vjp(lambda x: part.function(w, x), x)[1](c)} if with_input else {}
    else:  # both gradients are one pass
        passes["input"] = lambda w, x, c: jax.vjp(part.function, w, x)[1](c)
    product, product_flops = ceilings.matrix_product(comparison.dtype())
    sides = {name: program(function, weights, x, cotangent) for name, function in passes.items()}
    seconds = interleaved({**sides, "product": product}, comparison.REPEATS.value, part.name)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    ceiling = product_flops / medians.pop("product")
    shares = [part.operations / time / ceiling for time in medians.values()] if part.operations else []
    return {"layer": part.name, **medians, "seconds": sum(medians.values()), "of_product": shares}


def program(function: Callable[..., Any], *arguments: Array) -> Callable[[], object]:
    """A compiled function of arguments, as a side."""
    compiled = jax.jit(function, compiler_options=training_options()).lower(*arguments).compile()
    return lambda: jax.block_until_ready(compiled(*arguments))


def optimizer_row(model: VGG) -> dict[str, Any]:
    """SGD with momentum and weight decay over all params, in place."""
    params, optimizer = init_params(model, 0), sgd(RATE, MOMENTUM, DECAY)
    gradients = jax.tree.map(jnp.ones_like, params)
    state = params, optimizer.init(params)

    @functools.partial(jax.jit, donate_argnums=0, compiler_options=training_options())
    def update(state: Any, gradients: Any) -> Any:
        params, opt_state = state
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    def side() -> None:
        nonlocal state
        state = jax.block_until_ready(update(state, gradients))

    seconds = statistics.median(interleaved({"update": side}, comparison.REPEATS.value, "optimizer")["update"])
    return {"layer": "SGD of all params", "forward": seconds, "seconds": seconds, "of_product": []}


def plot(rows: list[dict[str, Any]], title: str, path: Path) -> None:
    """Bars of milliseconds, passes on top of each other."""
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    figure = Figure(figsize=(8, 1 + 0.24 * len(rows)), layout="constrained")
    axes = figure.subplots()
    names, left = [row["layer"] for row in rows], [0.0] * len(rows)
    for name in PASSES:
        width = [1000 * row.get(name, 0.0) for row in rows]
        axes.barh(names, width, left=left, label={"weights": "weights' gradient", "input": "gradients"}.get(name, name))
        left = [a + b for a, b in zip(left, width, strict=True)]
    axes.invert_yaxis()
    axes.set(xlabel="ms", title=title)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png", dpi=110)


if __name__ == "__main__":
    app.run(main)
