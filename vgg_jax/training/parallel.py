"""Synchronous data parallelism, applied once around the pure step (sec. 3.3)."""

import functools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vgg_jax import winograd
from vgg_jax.compilation import barrier_options, training_options
from vgg_jax.errors import InputError
from vgg_jax.model import VGG
from vgg_jax.training.state import TrainState
from vgg_jax.training.step import Batch, Objective, Tree, eval_step, train_step

REDUCTIONS = ("ordered", "ordered_bf16", "all_reduce")
_SMALL = 2**18  # elements; arrays below it are exchanged together, because each exchange has a latency of its own

Axes = tuple[str, ...]  # of a mesh
Collective = Callable[[Array], Array]
Step = Callable[[TrainState, Batch, Any], tuple[TrainState, dict[str, Array]]]


def data_mesh() -> Mesh:
    """All devices, process after process, as the blocks of a global batch lie.

    One axis, or where several processes have the same number of devices, two: gradients are summed inside a process
    first. Of one device with jax_debug_nans, see `parallel_train_step`.
    """
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    devices = devices[:1] if looks_for_nans() else devices
    counts = Counter(device.process_index for device in devices)
    if len(counts) > 1 and len(set(counts.values())) == 1 and len(devices) > len(counts):
        return Mesh(np.array(devices).reshape(len(counts), -1), ("process", "data"), axis_types=(AxisType.Auto,) * 2)
    return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))


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
        bits on 1, 2, 4, ... devices; "ordered_bf16" sends them in bfloat16 (half the bytes; the sums stay float32): the
        same bits in every run, but other bits on another number of devices, and on one nothing is sent or rounded;
        "all_reduce" leaves the order to the machine.
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
    axes = mesh.axis_names
    step = functools.partial(step, varying=_varying(axes), all_reduce=all_reduce(reduction, axes))
    sharded = jax.shard_map(step, mesh=mesh, in_specs=(P(), P(axes), P()), out_specs=(P(), P()))
    options = training_options() | (barrier_options() if objective.remat else {})
    return jax.jit(sharded, donate_argnums=0 if donate else (), compiler_options=options)


def looks_for_nans() -> bool:
    """Whether jax_debug_nans is set."""
    return bool(jax.config.jax_debug_nans)  # type: ignore[attr-defined]


def _explained(step: Step) -> Step:
    """The jitted step; where its results are not finite it runs again, bare, and jax's check of each operation raises.

    Jax's own check of the jitted step does not suffice: it misses results that shard_map replicates, and, once jax has
    switched it off and on again for an operation of its own, all that is called a second time, but for this context.
    """
    jitted = jax.jit(step, compiler_options=training_options())

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
        winograd=winograd.pays(),
        micro_batches=micro_batches // mesh.size,
        varying=_varying(mesh.axis_names),
        all_reduce=functools.partial(_ordered_all_reduce, mesh.axis_names),
    )
    sharded = jax.shard_map(step, mesh=mesh, in_specs=(P(), P(mesh.axis_names)), out_specs=P())
    return jax.jit(sharded, compiler_options=training_options())


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
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, P(mesh.axis_names)))


def shard_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> Batch:
    """This process's block of a global batch -> arrays that are split over all devices by their first axis."""
    sharding = NamedSharding(mesh, P(mesh.axis_names))
    return {name: jax.make_array_from_process_local_data(sharding, a) for name, a in batch.items()}


def all_reduce(reduction: str, axes: Axes) -> Callable[[Tree], Tree]:
    """The sum over devices of a pair of trees, gradients and sums for the log, inside `shard_map`; see REDUCTIONS."""
    ways: dict[str, Callable[..., Tree]] = {
        "ordered": _ordered_all_reduce,
        "ordered_bf16": _ordered_bf16,
        "all_reduce": _plain_all_reduce,
    }
    return functools.partial(ways[reduction], axes)


def _varying(axes: Axes) -> Callable[[Tree], Tree]:
    # A gradient with respect to a replicated value would be summed over devices by itself, in no fixed order.
    return functools.partial(jax.tree.map, lambda a: lax.pcast(a, axes, to="varying"))


def _plain_all_reduce(axes: Axes, tree: Tree) -> Tree:
    return jax.tree.map(lambda a: lax.psum(a, axes), tree)


def _as_it_is(collective: Collective, x: Array) -> Array:
    return collective(x)


def _in_bf16(collective: Collective, x: Array) -> Array:
    # As bits, because XLA's CPU backend widens bfloat16 to float32 before a collective.
    bits = lax.bitcast_convert_type(x.astype(jnp.bfloat16), jnp.uint16)
    return lax.bitcast_convert_type(collective(bits), jnp.bfloat16).astype(x.dtype)


def _ordered_all_reduce(axes: Axes, tree: Tree, send: Callable[[Collective, Array], Array] = _as_it_is) -> Tree:
    """Sum over devices in a fixed order; ``send`` says in what form arrays travel.

    A large array travels as soon as the backward pass has made it, fc8's kernel first; the small ones in one exchange.
    """
    if math.prod(map(lax.axis_size, axes)) == 1:
        return _plain_all_reduce(axes, tree)
    leaves, structure = jax.tree.flatten(tree)
    together, apart = ravel_pytree([x for x in leaves if x.size < _SMALL])
    small = iter(apart(_ordered_sum(axes, together, send)))
    sums = [next(small) if x.size < _SMALL else _ordered_sum(axes, x, send) for x in leaves]
    return jax.tree.unflatten(structure, sums)


def _ordered_bf16(axes: Axes, grads_and_sums: tuple[Tree, Tree]) -> tuple[Tree, Tree]:
    """Gradients travel in bfloat16; the sums for the log, counts among them, as they are."""
    grads, sums = grads_and_sums
    return _ordered_all_reduce(axes, grads, _in_bf16), _ordered_all_reduce(axes, sums)


def _ordered_sum(axes: Axes, x: Array, send: Callable[[Collective, Array], Array]) -> Array:
    """Sum over devices in a fixed binary-tree order; a device sends as many bytes as in a ring all-reduce.

    Each device receives all devices' values of its own slice, adds them up in order, and gives the slice to all. With
    two axes it does so inside its process, a subtree, and then with its slice between processes.
    """
    mine = jnp.pad(x.reshape(-1), (0, -x.size % math.prod(map(lax.axis_size, axes))))
    for axis in reversed(axes):
        exchange = functools.partial(lax.all_to_all, axis_name=axis, split_axis=0, concat_axis=0)
        parts = send(exchange, mine.reshape(lax.axis_size(axis), -1))  # [devices, slice]
        while len(parts) > 1:
            parts = parts.reshape(-1, 2, parts.shape[-1])
            parts = parts[:, 0] + parts[:, 1]
        mine = parts[0]
    for axis in axes:
        mine = send(functools.partial(lax.all_gather, axis_name=axis, tiled=True, to="invarying"), mine)
    return mine[: x.size].reshape(x.shape)
