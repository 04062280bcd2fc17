"""Synchronous data parallelism, applied once around the pure step (sec. 3.3)."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vgg_jax.compilation import compiler_options
from vgg_jax.errors import InputError
from vgg_jax.model import VGG
from vgg_jax.training.state import TrainState
from vgg_jax.training.step import Batch, Objective, Tree, eval_step, train_step

AXIS = "data"
REDUCTIONS = ("ordered", "all_reduce")

Step = Callable[[TrainState, Batch, Any], tuple[TrainState, dict[str, Array]]]


def data_mesh() -> Mesh:
    """One axis over all devices, process after process, as the blocks of a global batch lie.

    Of one device with jax_debug_nans, see `parallel_train_step`.
    """
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    devices = devices[:1] if looks_for_nans() else devices
    return Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))


def parallel_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformationExtraArgs,
    mesh: Mesh,
    *,
    batch_size: int,
    micro_batches: int = 8,
    reduction: str = "ordered",
    donate: bool = True,
    skip_nonfinite: bool = False,
) -> Step:
    """The jitted step of (state, batch, seed) over a mesh: state replicated, batch split; gradients summed in float32.

    reduction: "ordered" adds the gradients of the micro-batches in one fixed order, so that the result has the same
        bits on 1, 2, 4, ... devices; "all_reduce" leaves the order to the machine, which can be faster.
    donate: whether the new state takes the place of the old one in memory.
    skip_nonfinite: see `train_step`.
    With jax_debug_nans, on one device: FloatingPointError names the first operation whose result is not finite.
    Raises InputError where batch, micro-batches and devices do not divide.
    """
    devices = mesh.size
    check_division(batch_size, micro_batches, devices, reduction)
    step = functools.partial(
        train_step,
        objective=objective,
        optimizer=optimizer,
        batch_size=batch_size,
        micro_batches=micro_batches // devices,
        skip_nonfinite=skip_nonfinite,
    )
    if looks_for_nans() and devices == 1:
        return _explained(step)
    all_reduce = _ordered_all_reduce if reduction == "ordered" else _plain_all_reduce
    step = functools.partial(step, varying=_varying, all_reduce=all_reduce)
    sharded = jax.shard_map(step, mesh=mesh, in_specs=(P(), P(AXIS), P()), out_specs=(P(), P()))
    return jax.jit(sharded, donate_argnums=0 if donate else (), compiler_options=compiler_options())


def looks_for_nans() -> bool:
    """Whether jax_debug_nans is set."""
    return bool(jax.config.jax_debug_nans)  # type: ignore[attr-defined]


def _explained(step: Step) -> Step:
    """The jitted step; where its results are not finite it runs again, bare, and jax's check of each operation raises.

    Jax's own check of the jitted step does not suffice: it misses results that shard_map replicates, and, once jax has
    switched it off and on again for an operation of its own, all that is called a second time, but for this context.
    """
    jitted = jax.jit(step, compiler_options=compiler_options())

    def checked(state: TrainState, batch: Batch, seed: Any) -> tuple[TrainState, dict[str, Array]]:
        with jax.debug_nans(False), jax.debug_infs(False):
            new, metrics = jitted(state, batch, seed)
        if not all(bool(jnp.isfinite(a).all()) for a in jax.tree.leaves((new, metrics))):
            with jax.debug_nans(True), jax.debug_infs(True):
                step(state, batch, seed)
            raise FloatingPointError("invalid value in the compiled step alone, not in its operations one by one")
        return new, metrics

    return checked


def parallel_eval_step(model: VGG, mesh: Mesh, *, micro_batches: int = 8) -> Callable[[Tree, Batch], dict[str, Array]]:
    """The jitted `eval_step` over a mesh, its sums in the order of `parallel_train_step`'s "ordered" reduction."""
    step = functools.partial(
        eval_step,
        model=model,
        micro_batches=micro_batches // mesh.size,
        varying=_varying,
        all_reduce=_ordered_all_reduce,
    )
    sharded = jax.shard_map(step, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P())
    return jax.jit(sharded, compiler_options=compiler_options())


def check_division(batch_size: int, micro_batches: int, devices: int, reduction: str) -> None:
    """Raise InputError unless the batch splits into the micro-batches, and these over the devices."""
    if reduction not in REDUCTIONS:
        raise InputError(f"unknown reduction {reduction!r}: choose one of {', '.join(REDUCTIONS)}")
    if micro_batches < 1 or micro_batches & (micro_batches - 1):
        raise InputError(f"micro_batches is {micro_batches}, but it must be a power of two")
    if batch_size % micro_batches:
        raise InputError(
            f"batch_size {batch_size} does not divide into {micro_batches} micro-batches: choose a multiple of it"
        )
    if micro_batches % devices:
        raise InputError(
            f"{micro_batches} micro-batches do not divide over {devices} devices: "
            "set micro_batches to a multiple of the devices, whose number must be a power of two"
        )


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """Copies of a tree of host or device arrays on every device of the mesh."""
    sharding = NamedSharding(mesh, P())
    return jax.tree.map(lambda a: jax.make_array_from_callback(np.shape(a), sharding, lambda i: np.asarray(a)[i]), tree)


def replicated_shapes(tree: Tree, mesh: Mesh) -> Tree:
    """The shapes of a tree, with the sharding that `replicate` gives: what a checkpoint is restored into."""
    sharding = NamedSharding(mesh, P())
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), tree)


def sharded_shape(shape: tuple[int, ...], dtype: Any, mesh: Mesh) -> jax.ShapeDtypeStruct:
    """The shape of an array as `shard_batch` splits it."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, P(AXIS)))


def shard_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> Batch:
    """This process's block of a global batch -> arrays that are split over all devices by their first axis."""
    sharding = NamedSharding(mesh, P(AXIS))
    return {name: jax.make_array_from_process_local_data(sharding, a) for name, a in batch.items()}


def _varying(tree: Tree) -> Tree:
    # A gradient with respect to a replicated value would be summed over devices by itself, in no fixed order.
    return jax.tree.map(lambda a: lax.pcast(a, AXIS, to="varying"), tree)


def _plain_all_reduce(tree: Tree) -> Tree:
    return jax.tree.map(lambda a: lax.psum(a, AXIS), tree)


def _ordered_all_reduce(tree: Tree) -> Tree:
    """Sum over devices in a fixed binary-tree order, at the traffic of a ring all-reduce.

    Each device receives all devices' values of its own slice, adds them up in order, and gives the slice to all.
    """
    devices = lax.axis_size(AXIS)

    def reduce(x: Array) -> Array:
        slices = jnp.pad(x.reshape(-1), (0, -x.size % devices)).reshape(devices, -1)
        mine = lax.all_to_all(slices, AXIS, split_axis=0, concat_axis=0)  # [devices, slice]
        while len(mine) > 1:
            mine = mine.reshape(-1, 2, mine.shape[-1])
            mine = mine[:, 0] + mine[:, 1]
        whole: Any = lax.all_gather(mine[0], AXIS, tiled=True, to="invarying")
        return whole[: x.size].reshape(x.shape)

    return jax.tree.map(reduce, tree)
