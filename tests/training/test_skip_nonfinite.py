"""Updates that are not finite are left out: by the step, with the same bits on any number of devices."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from vgg_jax import VGG
from vgg_jax.optimizer import sgd
from vgg_jax.training.parallel import parallel_train_step, replicate, shard_batch
from vgg_jax.training.state import init_params, init_state
from vgg_jax.training.step import Objective

BATCH = 16
MODEL = VGG(arch="A", num_classes=4, width_multiplier=0.03, crop_size=32)


def batch(seed, label=None):
    """``label`` of one example: none of the classes makes the loss NaN."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, BATCH).astype(np.int32)
    labels[5] = labels[5] if label is None else label
    return {
        "image": rng.integers(0, 256, (BATCH, 32, 32, 3), np.uint8),
        "label": labels,
        "index": (seed * BATCH + np.arange(BATCH)).astype(np.int32),
    }


@functools.cache
def mesh(devices):
    return Mesh(np.array(jax.devices()[:devices]), ("data",))


@functools.cache
def step_on(devices, skip):
    options = {"batch_size": BATCH, "micro_batches": 8, "skip_nonfinite": skip}
    return parallel_train_step(Objective(MODEL), sgd(1e-2), mesh(devices), **options)


@functools.cache
def start():
    return jax.tree.map(np.asarray, init_params(MODEL, 0))


def train(devices, batches, skip=True, rates=None):
    """The state after the batches, as numpy, and the metrics of each step."""
    state = replicate(init_state(start(), sgd(1e-2)), mesh(devices))
    metrics = []
    for i, one in enumerate(batches):
        if rates:
            hyperparams = {"learning_rate": replicate(np.float32(rates[i]), mesh(devices))}
            state = state._replace(opt_state=state.opt_state._replace(hyperparams=hyperparams))
        state, measured = step_on(devices, skip)(state, shard_batch(one, mesh(devices)), 0)
        metrics.append({key: float(value) for key, value in measured.items()})
    return jax.tree.map(np.asarray, state), metrics


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize("devices", [1, 8])
def test_a_bad_batch_is_as_if_it_had_not_been(devices):
    bad = batch(7, label=1000)
    skipped, metrics = train(devices, [batch(0), bad, bad, batch(1)])
    without, _ = train(1, [batch(0), batch(1)])
    assert [m["skipped"] for m in metrics] == [0, 1, 1, 0]
    assert np.isnan(metrics[1]["loss"])
    assert (int(skipped.step), int(without.step)) == (4, 2)
    assert bits(skipped[1:]) == bits(without[1:])


def test_an_update_that_is_not_finite_although_the_loss_is():
    skipped, metrics = train(1, [batch(0), batch(7), batch(1)], rates=[1e-2, np.inf, 1e-2])
    without, _ = train(1, [batch(0), batch(1)])
    assert [m["skipped"] for m in metrics] == [0, 1, 0]
    assert np.isfinite(metrics[1]["loss"])
    assert bits(skipped[1:]) == bits(without[1:])


def test_good_batches_train_as_without():
    batches = [batch(seed) for seed in range(5)]
    guarded, metrics = train(8, batches)
    plain, plain_metrics = train(8, batches, skip=False)
    assert bits(guarded) == bits(plain)
    assert [{**m, "skipped": 0.0} for m in plain_metrics] == metrics


def test_without_the_guard_a_bad_batch_spoils_all():
    state, metrics = train(8, [batch(0), batch(7)], skip=False, rates=[1e-2, np.inf])
    assert "skipped" not in metrics[1]
    assert not np.isfinite(state.params["fc8"]["kernel"]).any()
