import functools
import io
import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from PIL import Image
from tolerances import ANOTHER_PROGRAM, BFLOAT16, SAME_PROGRAM

from vgg_jax import VGG, InputError
from vgg_jax.data.pipeline import training_batches
from vgg_jax.data.sources import Record
from vgg_jax.data.statistics import IMAGENET_STATISTICS
from vgg_jax.optimizer import sgd
from vgg_jax.training.parallel import (
    REDUCTIONS,
    all_reduce,
    check_division,
    data_mesh,
    parallel_eval_step,
    parallel_train_step,
    replicate,
    shard_batch,
)
from vgg_jax.training.state import init_params, init_state
from vgg_jax.training.step import Objective

pytestmark = pytest.mark.usefixtures("full_optimization")

BATCH = 16
STEPS = 50


class Pictures:
    """Random pictures in memory, as PNG."""

    class_names = ("a", "b", "c", "d")

    def __len__(self):
        return 24

    def __getitem__(self, i):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 10, 3), np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).resize((50, 40), Image.Resampling.BILINEAR).save(stream, "PNG")
        return Record(stream.getvalue(), i % 4, f"{i}.png")

    def location(self, i):
        return f"{i}.png"


@functools.cache
def batches():
    """With random crops, flips and scales."""
    stream = training_batches(Pictures(), scale=(33, 45), crop_size=32, batch_size=BATCH, seed=0, threads=2)
    return list(itertools.islice(stream, STEPS))


def net(**fields):
    return VGG(**{"arch": "A", "num_classes": 4, "width_multiplier": 0.05, "crop_size": 32, **fields})


@functools.cache
def start():
    return jax.tree.map(np.asarray, init_params(net(), 0))


def mesh_of(devices):
    return Mesh(np.array(jax.devices()[:devices]), ("data",))


@functools.cache
def train_step_on(devices, reduction="ordered", dtype="float32", trained="all", donate=True):
    """Dropout and colour shift are on."""
    colours = IMAGENET_STATISTICS.eigenvalues, IMAGENET_STATISTICS.eigenvectors
    objective = Objective(net(dtype=jnp.dtype(dtype)), *colours, trained)
    options = {"batch_size": BATCH, "micro_batches": 8, "reduction": reduction, "donate": donate}
    return parallel_train_step(objective, sgd(1e-2), mesh_of(devices), **options)


def train(devices, steps, *, params=None, **options):
    """(params, losses) after steps; params as host arrays."""
    mesh, step = mesh_of(devices), train_step_on(devices, **options)
    params = start() if params is None else params
    state = replicate(init_state(params, sgd(1e-2), options.get("trained", "all")), mesh)
    losses = []
    for batch in batches()[:steps]:
        arrays = {name: batch[name] for name in ("image", "label", "index")}
        state, metrics = step(state, shard_batch(arrays, mesh), 0)
        losses.append(float(metrics["loss"]))
    return jax.tree.map(np.asarray, state.params), losses


def as_bytes(params):
    return b"".join(a.tobytes() for a in jax.tree.leaves(params))


def largest_difference(ours, theirs):
    """Of any array, in units of its largest value."""
    return max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs)))


@functools.cache
def on_one_device():
    return train(1, STEPS)


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_ordered_sums_give_the_same_bits_on_any_number_of_devices(devices):
    params, losses = train(devices, STEPS)
    assert losses == on_one_device()[1]
    assert as_bytes(params) == as_bytes(on_one_device()[0])


def test_the_run_moves_every_layer():
    params, losses = on_one_device()
    assert np.isfinite(losses).all() and len(set(losses)) == STEPS
    for name, layer in params.items():
        assert not np.array_equal(layer["kernel"], start()[name]["kernel"])


@pytest.mark.parametrize("devices", [2, 8])
def test_an_all_reduce_is_close_after_one_step(devices):
    params, _ = train(devices, 1, reduction="all_reduce")
    assert largest_difference(params, train(1, 1)[0]) < 1e-6
    late, _ = on_one_device()  # and from a state of later training
    after, _ = train(devices, 1, params=late, reduction="all_reduce")
    assert largest_difference(after, train(1, 1, params=late)[0]) < 1e-6


def reduced(reduction, shape, trees):
    """A tree of float32 arrays, one a device along their first axis -> their sum; shape: (processes and) devices."""
    axes = ("process", "data")[-len(shape) :]
    mesh = Mesh(np.array(jax.devices()[: math.prod(shape)]).reshape(shape), axes)
    local = lambda tree: all_reduce(reduction, axes)(jax.tree.map(lambda a: a[0], tree))  # noqa: E731
    return jax.jit(jax.shard_map(local, mesh=mesh, in_specs=P(axes), out_specs=P()))(trees)


@pytest.fixture(scope="module")
def gradients():
    """Of eight devices: small and large, of odd sizes, and the sums for the log."""
    rng = np.random.default_rng(0)
    shapes = {"bias": (5,), "kernel": (3, 3, 7, 11), "fc": (601, 503)}  # the last travels alone
    return {name: rng.normal(size=(8, *shape)).astype(np.float32) for name, shape in shapes.items()}, {
        "loss": rng.random(8, np.float32),
        "correct": np.array([250, 257, 3, 4, 511, 1, 0, 259], np.float32),  # not all of them are bfloat16 numbers
    }


def tree_sum(a):
    while len(a) > 1:
        a = a[::2] + a[1::2]
    return a[0]


def in_bf16(a):
    return a.astype(ml_dtypes.bfloat16).astype(np.float32)


@pytest.mark.parametrize("shape", [(8,), (2, 4)])
def test_ordered_sums_are_those_of_numpy(gradients, shape):
    ours, theirs = reduced("ordered", shape, gradients), jax.tree.map(tree_sum, gradients)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("shape", [(8,), (2, 4)])
def test_bf16_rounds_what_travels_and_sums_in_float32(gradients, shape):
    ours, sums = reduced("ordered_bf16", shape, gradients)
    jax.tree.map(np.testing.assert_array_equal, sums, jax.tree.map(tree_sum, gradients[1]))
    for name, a in gradients[0].items():
        theirs, sizes = a, np.abs(a.astype(np.float64)).sum(axis=0)
        for devices in reversed(shape):
            theirs = np.stack([tree_sum(part) for part in in_bf16(theirs).reshape(-1, devices, *a.shape[1:])])
        np.testing.assert_array_equal(ours[name], in_bf16(theirs[0]))
        roundings = (1 + BFLOAT16) ** (len(shape) + 1) - 1  # of each term, of processes' sums, of the sum
        assert (np.abs(ours[name] - a.sum(axis=0, dtype=np.float64)) <= roundings * sizes * (1 + SAME_PROGRAM)).all()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_one_device_keeps_the_bits(gradients, reduction):
    own = jax.tree.map(lambda a: a[:1], gradients)
    jax.tree.map(np.testing.assert_array_equal, reduced(reduction, (1,), own), jax.tree.map(lambda a: a[0], own))


def test_a_step_in_bf16_is_close_and_the_same_each_time():
    params, losses = train(8, 1, reduction="ordered_bf16")
    again, _ = train(8, 1, reduction="ordered_bf16")
    assert as_bytes(params) == as_bytes(again)
    ordered, ordered_losses = train(8, 1)
    assert losses == ordered_losses  # of the params before the step
    update, theirs = (jax.tree.map(np.subtract, after, start()) for after in (params, ordered))
    assert 0 < largest_difference(update, theirs) < 4 * BFLOAT16


def in_float64():
    """50 steps, by all-reduce on 8 devices and in order on one; prints the largest difference."""
    import conftest  # noqa: F401  eight devices

    jax.config.update("jax_enable_x64", True)
    params = jax.tree.map(lambda a: a.astype(np.float64), start())
    ours, _ = train(8, STEPS, params=params, dtype="float64", reduction="all_reduce")
    theirs, _ = train(1, STEPS, params=params, dtype="float64")
    assert {a.dtype for a in jax.tree.leaves(ours)} == {np.dtype("float64")}
    print(largest_difference(ours, theirs))


def test_an_all_reduce_is_close_after_50_steps_in_float64():
    folders = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    program = f"import sys; sys.path[:0] = {folders}; import test_parallel; test_parallel.in_float64()"
    environment = {**os.environ, "XLA_FLAGS": ""}  # 100 steps: what runs fast is done sooner than what compiles fast
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert 0 < float(run.stdout) < 1e-10  # equal bits would mean that the two reductions are one


@pytest.mark.parametrize("donate", [True, False])
def test_the_state_is_donated_or_not(donate):
    mesh = mesh_of(2)
    state = replicate(init_state(start(), sgd(1e-2)), mesh)
    batch = shard_batch({name: batches()[0][name] for name in ("image", "label", "index")}, mesh)
    new, _ = train_step_on(2, donate=donate)(state, batch, 0)
    assert all(a.is_deleted() == donate for a in jax.tree.leaves(state.params))
    assert not any(a.is_deleted() for a in jax.tree.leaves(new))


def test_replicate_copies():
    """A donated state must not delete what it was made of."""
    ours = jax.device_put(start())
    state = replicate(ours, mesh_of(1))
    jax.tree.map(lambda a: a.delete(), state)
    assert not any(a.is_deleted() for a in jax.tree.leaves(ours))
    np.asarray(ours["fc8"]["kernel"])


def test_eval_sums_have_the_same_bits_on_any_number_of_devices():
    batch = {**{name: batches()[0][name] for name in ("image", "label")}, "mask": np.arange(BATCH) < 13}
    sums = []
    for devices in (1, 8):
        mesh = mesh_of(devices)
        step = parallel_eval_step(net(), mesh)
        sums.append({key: float(a) for key, a in step(replicate(start(), mesh), shard_batch(batch, mesh)).items()})
    assert sums[0] == sums[1]
    assert sums[0]["count"] == 13
    logits = np.asarray(jax.jit(net().apply)({"params": start()}, batch["image"]), np.float64)[:13]
    labels = batch["label"][:13]
    loss = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(13), labels]
    np.testing.assert_allclose(sums[0]["loss"], loss.sum(), rtol=ANOTHER_PROGRAM)


def test_the_mesh_is_of_all_devices():
    assert data_mesh().shape == {"data": jax.device_count()}


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ((30, 8, 8, "ordered"), "batch_size 30 does not divide into 8 micro-batches: choose a multiple of it"),
        ((30, 6, 2, "ordered"), "micro_batches is 6, but it must be a power of two"),
        ((32, 0, 1, "ordered"), "micro_batches is 0, but it must be a power of two"),
        ((32, 4, 8, "ordered"), "4 micro-batches do not divide over 8 devices: set micro_batches to a multiple"),
        ((32, 8, 3, "ordered"), "8 micro-batches do not divide over 3 devices: set micro_batches to a multiple"),
        ((32, 8, 8, "mean"), "unknown reduction 'mean': choose one of ordered, ordered_bf16, all_reduce"),
    ],
)
def test_what_does_not_divide(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        check_division(*arguments)


def test_what_divides():
    check_division(32, 8, 4, "ordered")
    check_division(1, 1, 1, "all_reduce")
