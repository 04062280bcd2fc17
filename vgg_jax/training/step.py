"""The training step, a pure function of state and batch; parallelism is put around it in parallel.py."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from vgg_jax.images.colour import colour_shift
from vgg_jax.metrics import cross_entropy, top_k_correct
from vgg_jax.model import VGG
from vgg_jax.training.state import Params, TrainState, split_params

Tree = Any
Batch = dict[str, Array]  # "image" uint8 [N, crop, crop, 3], "label" int32 [N], "index" int32 [N]: global positions


class Objective(NamedTuple):
    """What a step minimises: a model, its colour augmentation and the layers that learn, and how it computes.

    eigenvalues [3] and eigenvectors [3, 3] of the training set's RGB in [0, 1], or None for no colour shift. remat:
    less memory for 4% more operations (net D), winograd: less time on a CPU; see `VGG.__call__` for both.
    """

    model: VGG
    eigenvalues: Any = None
    eigenvectors: Any = None
    trained: str = "all"
    remat: bool = False
    winograd: bool = False


def loss_sums(objective: Objective, params: Params, batch: Batch, seed: Array | int) -> tuple[Array, dict[str, Array]]:
    """Sum of the loss over a batch, and sums for the log: {"loss", "top1_correct", "top5_correct"}.

    An example's dropout and colour shift depend on the seed and its global position alone.
    """
    dropout_key, colour_key = jax.random.split(jax.random.key(seed))
    images = batch["image"]
    if objective.eigenvalues is not None:
        eigenvalues, eigenvectors = (
            jnp.asarray(a, jnp.float32) for a in (objective.eigenvalues, objective.eigenvectors)
        )
        images = colour_shift(images, colour_key, batch["index"], eigenvalues, eigenvectors)
    options: dict[str, Any] = {"train": True, "example_index": batch["index"]}
    options |= {"remat": objective.remat, "winograd": objective.winograd}
    logits: Any = objective.model.apply({"params": params}, images, **options, rngs={"dropout": dropout_key})
    loss = cross_entropy(logits, batch["label"]).sum()
    sums = {f"top{k}_correct": top_k_correct(logits, batch["label"], k).sum().astype(jnp.float32) for k in (1, 5)}
    return loss, {"loss": loss.astype(jnp.float32), **sums}


def identity(tree: Tree) -> Tree:
    """The collective of a single device."""
    return tree


def train_step(
    state: TrainState,
    batch: Batch,
    seed: Array | int,
    *,
    objective: Objective,
    optimizer: optax.GradientTransformationExtraArgs,
    batch_size: int,
    micro_batches: int = 1,
    skip_nonfinite: bool = False,
    varying: Callable[[Tree], Tree] = identity,
    all_reduce: Callable[[Tree], Tree] = identity,
) -> tuple[TrainState, dict[str, Array]]:
    """One SGD step on a batch; returns the new state and {"loss", "update_norm", "top1_error", "top5_error"}.

    batch: this device's share of the global batch of ``batch_size`` examples, its gradient summed over
        ``micro_batches`` equal parts (a power of two) in a fixed order.
    seed: uint32, of dropout and colour shift.
    skip_nonfinite: where the loss or the update is not finite, which a gradient that is not makes it, the state stays
        but for its step, and the further metric "skipped" is 1.
    varying, all_reduce: mark a tree as different on each device, sum one over all devices.
    """
    trained, frozen = split_params(state.params, objective.trained)
    trained_here, frozen_here = varying(trained), varying(frozen)

    @jax.jit  # traced once, not once a micro-batch
    def gradients(micro_batch: Batch) -> Tree:
        def mean_loss(layers: Params) -> tuple[Array, dict[str, Array]]:
            loss, sums = loss_sums(objective, {**frozen_here, **layers}, micro_batch, seed)
            return loss / batch_size, sums

        grads, sums = jax.grad(mean_loss, has_aux=True)(trained_here)
        return (_kept_apart(grads, micro_batch["index"]), sums) if len(micro_batch["index"]) == 1 else (grads, sums)

    parts = jax.tree.map(lambda a: a.reshape(micro_batches, -1, *a.shape[1:]), batch)
    grads, sums = all_reduce(sum_over_parts(gradients, parts, micro_batches))
    updates, opt_state = optimizer.update(grads, state.opt_state, trained)
    params = {**state.params, **optax.apply_updates(trained, updates)}
    metrics = {
        "loss": sums["loss"] / batch_size,
        "update_norm": optax.tree.norm(updates),
        "top1_error": 100.0 * (1.0 - sums["top1_correct"] / batch_size),
        "top5_error": 100.0 * (1.0 - sums["top5_correct"] / batch_size),
    }
    if skip_nonfinite:
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["update_norm"])
        kept = (state.params, state.opt_state)
        params, opt_state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), (params, opt_state), kept)
        metrics["skipped"] = (~finite).astype(jnp.float32)
    return TrainState(state.step + 1, params, opt_state), metrics


def _kept_apart(tree: Tree, index: Array) -> Tree:
    """The same values, behind an operation on their bits that the compiler cannot see through.

    The weight gradient of a fully connected layer on a single example is one multiplication an element, which the CPU
    backend would fuse with the sum over parts into multiply-adds that round once: other bits than on a device that has
    nothing to add.
    """
    never = index[0] < 0

    def through_bits(x: Array) -> Array:
        bits = lax.bitcast_convert_type(x, jnp.dtype(f"int{8 * x.dtype.itemsize}"))
        return lax.bitcast_convert_type(bits ^ never.astype(bits.dtype), x.dtype)

    return jax.tree.map(through_bits, tree)


def sum_over_parts(f: Callable[[Tree], Tree], parts: Tree, count: int) -> Tree:
    """Sum of f over the leading axis of ``parts`` (length ``count``, a power of two), as a balanced binary tree.

    Floating-point sums depend on their order. In this one, the sum over half of the parts is a partial sum of the
    whole, so a device that holds 1/2, 1/4, ... of the parts computes exactly what one device would have.
    Unrolled, because XLA's CPU backend runs convolutions inside a loop several times slower; the barriers keep the
    parts one after the other, so that only one part's activations are alive; a CPU drops them unless it is told to hold
    them, see `compilation.barrier_options`.
    """
    if count == 1:
        return f(jax.tree.map(lambda a: a[0], parts))
    half = count // 2
    first = sum_over_parts(f, jax.tree.map(lambda a: a[:half], parts), half)
    second_parts = jax.tree.map(lambda a: a[half:], parts)
    first, second_parts = lax.optimization_barrier((first, second_parts))
    return jax.tree.map(jnp.add, first, sum_over_parts(f, second_parts, half))


def eval_step(
    params: Params,
    batch: Batch,
    *,
    model: VGG,
    winograd: bool = False,
    micro_batches: int = 1,
    varying: Callable[[Tree], Tree] = identity,
    all_reduce: Callable[[Tree], Tree] = identity,
) -> dict[str, Array]:
    """Sums over the examples of a batch whose "mask" is True: {"loss", "top1_correct", "top5_correct", "count"}.

    Computed in the micro-batches of training, so that the figures have the same bits on any number of devices.
    """
    params_here = varying(params)

    @jax.jit
    def sums(micro_batch: Batch) -> dict[str, Array]:
        weights = micro_batch["mask"].astype(jnp.float32)
        labels = jnp.where(micro_batch["mask"], micro_batch["label"], 0)
        logits: Any = model.apply({"params": params_here}, micro_batch["image"], winograd=winograd)
        correct = {f"top{k}_correct": (top_k_correct(logits, labels, k) * weights).sum() for k in (1, 5)}
        loss = jnp.where(micro_batch["mask"], cross_entropy(logits, labels), 0.0).sum()
        return {"loss": loss.astype(jnp.float32), "count": weights.sum(), **correct}

    parts = jax.tree.map(lambda a: a.reshape(micro_batches, -1, *a.shape[1:]), batch)
    return all_reduce(sum_over_parts(sums, parts, micro_batches))
