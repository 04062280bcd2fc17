"""What a chain needs, told before it runs: operations, memory and time of each stage (train.py --dry_run)."""

import copy
import datetime
import itertools
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from vgg_jax.checkpoint import find_step
from vgg_jax.compilation import barrier_options, compiler_options, quick_compiler_options
from vgg_jax.data.statistics import IMAGENET_STATISTICS, load_statistics
from vgg_jax.eval.posteriors import single_scale
from vgg_jax.eval.workdir import open_split
from vgg_jax.model import VGG, model_dtype
from vgg_jax.processes import is_first
from vgg_jax.progress import progress_bar
from vgg_jax.report import markdown_table
from vgg_jax.training import parallel, program
from vgg_jax.training.chain import build_model
from vgg_jax.training.config import check_config
from vgg_jax.training.estimate import Memory, device_memory, gigabytes, step_memory, step_operations
from vgg_jax.training.state import multiply_adds, params_shapes
from vgg_jax.training.workdir import finished_steps

_TRIED = 10.0  # seconds: a step that is predicted to take longer is not tried

Config = Any


class StageEstimate(NamedTuple):
    """What is left of a stage: optimizer steps, and of each step its operations, memory a device and seconds.

    measured: the compiled step was run; else the seconds are those of a matrix product of as many operations, which
    are no more than a guess. total_seconds: of steps, validations and the dense evaluation at the end, without waiting
    for data.
    """

    stage: str
    steps: int
    operations: float
    memory: Memory
    seconds: float
    measured: bool
    total_seconds: float


def estimate_chain(config: Config, workdir: Path) -> tuple[VGG, list[StageEstimate]]:
    """The model and what is left of each stage; of the data set only its lists are read, and nothing is written.

    Each stage's step is compiled once. Raises InputError for a config that `run_chain` would refuse.
    """
    check_config(config)
    images = {split: open_split(config.to_dict(), split) for split in ("train", "val", config.eval.split)}
    frozen = workdir / "colour_statistics.json"
    statistics = load_statistics(frozen) if frozen.exists() else IMAGENET_STATISTICS
    model = build_model(config, statistics, len(images["train"].class_names))
    counts = {split: len(source) for split, source in images.items()}
    with jax.debug_nans(False):
        mesh = parallel.data_mesh()
        rate = product_rate(config.model.dtype) * (jax.process_count() if _on_cpu() else mesh.size)
        return model, [_estimate(config, name, model, workdir, counts, mesh, rate) for name in config.chain]


def _estimate(
    config: Config, name: str, model: VGG, workdir: Path, counts: Mapping[str, int], mesh: Mesh, rate: float
) -> StageEstimate:
    stage, train = config.stages[name], config.train
    done = finished_steps(workdir / name) or find_step(workdir / name / "checkpoints", "latest") or 0
    steps = max(0, stage.steps - done)
    colours = some_colours(config)
    donate = not program.is_long(model, train.batch_size)
    lowered = program.lowered_step(config, name, model, colours, mesh, donate=donate)
    compiled, memory = program.compiled_step(lowered, program.batch_bytes(config, mesh), device_memory())
    operations = step_operations(model, train.batch_size, trained=stage.train_layers, remat=train.remat)
    seconds, measured = operations / rate, False
    if seconds < _TRIED and jax.process_count() == 1:
        seconds, measured = _measured(compiled, config, name, model, mesh), True
    validations = math.ceil(steps / (train.validate_every or max(1, counts["train"] // train.batch_size)))
    validated = math.ceil(counts["val"] / train.batch_size) * train.batch_size
    side = single_scale(stage.scale)
    forward = validations * validated * multiply_adds(model)
    forward += counts[config.eval.split] * 2 * multiply_adds(model, (side, side)) if steps else 0  # the flip too
    total = seconds * (steps + 2 * forward / operations)
    return StageEstimate(name, steps, operations, memory, seconds, measured, total)


def some_colours(config: Config) -> Any:
    """Some statistics for the colour shift, if there is one: which ones does not matter to time and memory."""
    return IMAGENET_STATISTICS if config.train.colour_shift else None


def product_rate(dtype: str) -> float:
    """Operations a second in a large matrix product on one device; CPU devices share theirs."""
    size = 2048 if _on_cpu() else 8192
    product = jax.jit(jnp.matmul, compiler_options=compiler_options())
    a = jnp.ones((size, size), model_dtype(dtype))
    return 2.0 * size**3 / _least_seconds(lambda: product(a, a))


def _measured(compiled: Any, config: Config, name: str, model: VGG, mesh: Mesh) -> float:
    """Seconds of a step on zeros."""

    def zeros(shapes: Any) -> Any:
        return jax.tree.map(
            lambda s: jax.make_array_from_callback(s.shape, s.sharding, lambda i: np.zeros(s.shape, s.dtype)[i]), shapes
        )

    state = zeros(program.state_shapes(config, name, model, mesh))
    batch = zeros(program.batch_shapes(config, mesh))

    def step() -> Any:
        nonlocal state
        state, metrics = compiled(state, batch, np.uint32(0))
        return metrics

    return _least_seconds(step)


def _least_seconds(run: Any) -> float:
    """Of three runs, of which the first may start slowly."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return min(times)


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def stages_table(model: VGG, stages: Sequence[StageEstimate], batch_size: int, available: int | None) -> str:
    """Estimates as a Markdown table, and what holds for the whole chain in words."""
    header = ["stage", "steps left", "images a step", "GFLOP a step", "memory a device", "s a step", "time left"]
    lines = [
        [
            *(stage.stage, f"{stage.steps}", f"{batch_size}", f"{stage.operations / 1e9:,.2f}"),
            *(gigabytes(stage.memory.peak), _in_words(stage, f"{stage.seconds:.3g}")),
            _in_words(stage, str(datetime.timedelta(seconds=round(stage.total_seconds)))),
        ]
        for stage in stages
    ]
    parameters = sum(math.prod(a.shape) for a in jax.tree.leaves(params_shapes(model)))
    total = datetime.timedelta(seconds=round(sum(stage.total_seconds for stage in stages)))
    there = gigabytes(available) if available is not None else "not known"
    return (
        f"net {model.arch}: {parameters:,} parameters, {model.num_classes} classes; "
        f"{jax.device_count()} devices, each with {there} of memory\n\n{markdown_table(header, lines)}\n\n"
        f"in all about {total}, if data arrive in time; a plateau may end a stage sooner"
    )


def _in_words(stage: StageEstimate, text: str) -> str:
    return text if stage.measured else f"about {text}"


def alternatives(config: Config) -> list[Config]:
    """Configs whose steps may need less memory: half the batch, more micro-batches, rematerialisation, bfloat16."""
    train = config.train
    batches = (train.batch_size, train.batch_size // 2)
    counts = (train.micro_batches, 2 * train.micro_batches, 4 * train.micro_batches)
    found = []
    for batch_size, count, remat, dtype in itertools.product(
        batches, counts, (False, True), dict.fromkeys((config.model.dtype, "bfloat16"))
    ):
        if batch_size and batch_size % count == 0:
            other = copy.deepcopy(config)
            other.train.update(batch_size=batch_size, micro_batches=count, remat=remat)
            other.model.dtype = dtype
            found.append(other)
    return found


def memory_rows(configs: Sequence[Config], num_classes: int) -> list[dict[str, Any]]:
    """The least memory of the first stage's step for each config, in bytes a device; compiled, not run.

    On a CPU a step that has memory enough takes more, see `program.compiled_step`.
    """
    mesh, rows = parallel.data_mesh(), []
    for config in progress_bar(configs, unit="program", desc="compiling", disable=not is_first()):
        model = build_model(config, IMAGENET_STATISTICS, num_classes)
        donate = not program.is_long(model, config.train.batch_size)
        lowered = program.lowered_step(config, config.chain[0], model, some_colours(config), mesh, donate=donate)
        options: dict[str, Any] = quick_compiler_options() | barrier_options()  # slow code, but the same places
        memory = step_memory(lowered.compile(compiler_options=options), program.batch_bytes(config, mesh))
        settings = {name: config.train[name] for name in ("batch_size", "micro_batches", "remat")}
        rows.append(
            {"arch": model.arch, **settings, "dtype": config.model.dtype, **memory._asdict(), "peak": memory.peak}
        )
    return rows


def memory_table(rows: Sequence[Mapping[str, Any]], available: int | None = None) -> str:
    """Rows of `memory_rows` as a Markdown table."""
    header = ["net", "batch", "micro-batches", "remat", "dtype", "activations and gradients", "in all", "fits"]
    lines = [
        [
            *(row["arch"], f"{row['batch_size']}", f"{row['micro_batches']}", "yes" if row["remat"] else "no"),
            *(row["dtype"], gigabytes(row["temporaries"]), gigabytes(row["peak"])),
            "?" if available is None else "yes" if row["peak"] <= available else "no",
        ]
        for row in rows
    ]
    return markdown_table(header, lines)
