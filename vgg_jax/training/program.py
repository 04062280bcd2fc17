"""A stage's training step: made from the config, and compiled before the first batch is waited for."""

import zlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from vgg_jax import optimizer, winograd
from vgg_jax.compilation import barrier_options
from vgg_jax.data.statistics import ColourStatistics
from vgg_jax.model import VGG
from vgg_jax.training import parallel
from vgg_jax.training.estimate import Memory, check_fits, device_memory, step_memory
from vgg_jax.training.state import TrainState, init_state, multiply_adds, params_shapes
from vgg_jax.training.step import Batch, Objective

_LONG = 1e12  # floating-point operations of a step on a CPU device

Config = Any
StageStep = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]


def fitting_step(
    config: Config, name: str, model: VGG, statistics: ColourStatistics | None, mesh: Mesh, *, donate: bool
) -> StageStep:
    """The compiled step of a stage; raises InputError where the devices have not the memory for it.

    The seed is an argument of what is compiled, so that stages which differ in no more share a program.
    """
    seed = np.uint32(stage_seed(config.seed, name))
    if parallel.looks_for_nans():  # it is run again operation by operation
        step = training_step(config, name, model, statistics, mesh, donate=donate)
        return lambda state, batch: step(state, batch, seed)
    available = device_memory()
    lowered = lowered_step(config, name, model, statistics, mesh, donate=donate)
    compiled, memory = compiled_step(lowered, batch_bytes(config, mesh), available)
    check_fits(name, config, memory, available)
    return lambda state, batch: compiled(state, batch, seed)


def compiled_step(
    lowered: jax.stages.Lowered, batch_bytes: int, available: int | None
) -> tuple[jax.stages.Compiled, Memory]:
    """The program of a step, and what it needs of the ``available`` bytes of a device; batch_bytes: of its batch.

    Micro-batches on a CPU run at once, which is faster, unless that would take more than half of the memory (the rest
    is for decoders, validation and other people's work); then one after the other. The bits are the same.
    """
    compiled = lowered.compile()
    memory = step_memory(compiled, batch_bytes)
    if available is not None and memory.peak > available / 2 and barrier_options():
        compiled = lowered.compile(compiler_options={**barrier_options()})
        memory = step_memory(compiled, batch_bytes)
    return compiled, memory


def lowered_step(
    config: Config, name: str, model: VGG, statistics: ColourStatistics | None, mesh: Mesh, *, donate: bool
) -> jax.stages.Lowered:
    """The step of a stage, ready to be compiled for the shapes of its state and batches; nothing is computed."""
    step = training_step(config, name, model, statistics, mesh, donate=donate)
    state, batch = state_shapes(config, name, model, mesh), batch_shapes(config, mesh)
    return step.lower(state, batch, np.uint32(0))  # type: ignore[attr-defined]


def training_step(
    config: Config, name: str, model: VGG, statistics: ColourStatistics | None, mesh: Mesh, *, donate: bool
) -> parallel.Step:
    """The jitted step of a stage; statistics: None for no colour shift; donate: see `parallel_train_step`."""
    stage, train = config.stages[name], config.train
    colours = statistics and statistics.eigenvalues, statistics and statistics.eigenvectors
    return parallel.parallel_train_step(
        Objective(model, *colours, stage.train_layers, train.remat, winograd.pays()),
        *(stage_optimizer(config, name), mesh),
        batch_size=train.batch_size,
        micro_batches=train.micro_batches,
        reduction=train.reduction,
        donate=donate,
        skip_nonfinite=train.skip_nonfinite > 0,
    )


def stage_optimizer(config: Config, name: str) -> Any:
    """The paper's SGD at a stage's first rate."""
    return optimizer.sgd(config.stages[name].learning_rate, **config.optimizer)


def state_shapes(config: Config, name: str, model: VGG, mesh: Mesh) -> TrainState:
    """The shapes of a stage's state, replicated over the mesh."""
    sgd, trained = stage_optimizer(config, name), config.stages[name].train_layers
    fresh = jax.eval_shape(lambda params: init_state(params, sgd, trained), params_shapes(model))
    return parallel.replicated_shapes(fresh, mesh)


def batch_shapes(config: Config, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of a global batch, split over the mesh."""
    count, crop = config.train.batch_size, config.model.crop_size
    shapes = {"image": ((count, crop, crop, 3), np.uint8), "label": ((count,), np.int32), "index": ((count,), np.int32)}
    return {name: parallel.sharded_shape(*shape, mesh) for name, shape in shapes.items()}


def batch_bytes(config: Config, mesh: Mesh) -> int:
    """Bytes of a device's share of a batch."""
    return sum(a.size * a.dtype.itemsize for a in batch_shapes(config, mesh).values()) // mesh.size


def is_long(model: VGG, batch_size: int) -> bool:
    """Whether a step takes so long (some 10 s) that a run told to stop must not wait for its end.

    Keeping the state before it costs memory and time, for nothing in a short step.
    """
    return jax.default_backend() == "cpu" and 6 * multiply_adds(model) * batch_size > _LONG * jax.device_count()


def stage_seed(seed: int, stage: str) -> int:
    """A seed for a stage's data, dropout and colours: positions begin at 0 in each stage, draws must not repeat."""
    return int(np.random.SeedSequence([seed, zlib.crc32(stage.encode())]).generate_state(1)[0])
