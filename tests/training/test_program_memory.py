"""The temporaries of the compiled training step: what micro-batches and rematerialisation save."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from vgg_jax import VGG
from vgg_jax.compilation import barrier_options
from vgg_jax.optimizer import sgd
from vgg_jax.training.estimate import step_memory
from vgg_jax.training.parallel import parallel_train_step, replicate, shard_batch
from vgg_jax.training.program import compiled_step
from vgg_jax.training.state import init_params, init_state
from vgg_jax.training.step import Objective

pytestmark = pytest.mark.usefixtures("full_optimization")

BATCH = 16
MESH = Mesh(np.array(jax.devices()[:1]), ("data",))
MODEL = VGG("B", num_classes=4, width_multiplier=0.03, crop_size=32)


@functools.cache
def lowered(model, micro_batches=1, remat=False):
    step = parallel_train_step(
        Objective(model, remat=remat), sgd(1e-2), MESH, batch_size=BATCH, micro_batches=micro_batches, donate=False
    )
    return step.lower(start(model), batch(), 0)


@functools.cache
def compiled(model, micro_batches=1, remat=False, hold=False):
    return lowered(model, micro_batches, remat).compile(compiler_options=barrier_options() if hold else {})


@functools.cache
def start(model):
    return replicate(init_state(init_params(model, 0), sgd(1e-2)), MESH)


@functools.cache
def batch():
    rng = np.random.default_rng(0)
    arrays = {
        "image": rng.integers(0, 256, (BATCH, 32, 32, 3), np.uint8),
        "label": rng.integers(0, 4, BATCH).astype(np.int32),
        "index": np.arange(BATCH, dtype=np.int32),
    }
    return shard_batch(arrays, MESH)


def temporaries(*args, **kwargs):
    return compiled(*args, **kwargs).memory_analysis().temp_size_in_bytes


def test_micro_batches_run_one_after_the_other_where_barriers_hold():
    """In a quarter of the memory, but for the gradients, which are small beside the activations here."""
    gradients = sum(a.nbytes for a in jax.tree.leaves(start(MODEL).params))
    assert temporaries(MODEL, 4, hold=True) < temporaries(MODEL) / 4 + 3 * gradients < 0.6 * temporaries(MODEL)


def test_barriers_hold_where_memory_is_tight():
    """The faster program takes up to half of the memory."""
    at_once = step_memory(compiled(MODEL, 4), batch_bytes=0)
    in_turn = step_memory(compiled(MODEL, 4, hold=True), batch_bytes=0)
    assert in_turn.temporaries < 0.6 * at_once.temporaries
    for available, expected in ((None, at_once), (2 * at_once.peak, at_once), (2 * at_once.peak - 1, in_turn)):
        assert compiled_step(lowered(MODEL, 4), 0, available)[1] == expected


def test_barriers_keep_the_bits():
    """Without them the compiler may put operations of several micro-batches together."""
    results = [compiled(MODEL, 4, hold=hold)(start(MODEL), batch(), 0) for hold in (False, True)]
    for one, other in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_array_equal(one, other)


def test_rematerialisation_takes_less_memory():
    """Where the barrier does not hold it takes more; the first block of so narrow a net is a small part."""
    assert temporaries(MODEL, remat=True) < 0.95 * temporaries(MODEL)


def test_rematerialisation_keeps_the_bits():
    results = [compiled(MODEL, remat=remat)(start(MODEL), batch(), 0) for remat in (False, True)]
    for kept, computed_again in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_array_equal(kept, computed_again)


def test_a_step_needs_params_velocity_and_gradients_at_least():
    memory = step_memory(compiled(MODEL), batch_bytes=1000)
    assert memory.peak == memory.state + memory.results + memory.temporaries + 1000
    params = sum(a.nbytes for a in jax.tree.leaves(start(MODEL).params))
    images = sum(a.nbytes for a in batch().values())
    assert 2 * params + images <= memory.state < 2 * params + images + 1000  # and a few scalars
    assert memory.peak >= memory.state + memory.results + params
