"""With jax_debug_nans a step names the first operation that was not finite, and else computes what it did."""

import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from running_scripts import REPOSITORY, assert_one_error_line, script, write_noise

from vgg_jax import VGG
from vgg_jax.optimizer import sgd
from vgg_jax.training import parallel
from vgg_jax.training.parallel import data_mesh, parallel_train_step, replicate, shard_batch
from vgg_jax.training.state import init_params, init_state
from vgg_jax.training.step import Objective

MODEL = VGG(arch="A", num_classes=4, width_multiplier=0.02, crop_size=32)
MESH = Mesh(np.array(jax.devices()[:1]), ("data",))


BATCH = {
    "image": np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8),
    "label": np.array([0, 1], np.int32),
    "index": np.arange(2, dtype=np.int32),
}


def step():
    return parallel_train_step(Objective(MODEL), sgd(1e-2), MESH, batch_size=2, micro_batches=1, donate=False)


def test_a_good_step_computes_what_it_did():
    start = replicate(init_state(jax.tree.map(np.asarray, init_params(MODEL, 0)), sgd(1e-2)), MESH)
    with jax.debug_nans(True):
        assert data_mesh().size == 1
        watched = step()
        results = watched(start, shard_batch(BATCH, MESH), 0)
    expected = step()(start, shard_batch(BATCH, MESH), 0)
    for ours, theirs in zip(jax.tree.leaves(results), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("value, named", [(-1.0, r"\(nan\) encountered in log"), (0.0, r"\(inf\) encountered in log")])
def test_the_operation_is_named_at_any_call(monkeypatch, value, named):
    def logarithms(state, batch, seed, **_):
        return state + jnp.log(jnp.abs(batch)).sum(), {"loss": jnp.log(batch).sum()}

    monkeypatch.setattr(parallel, "train_step", logarithms)
    with jax.debug_nans(True):
        watched = step()
        good, bad = jnp.ones(3), jnp.array([1.0, value, 1.0])
        for _ in range(3):
            state, metrics = watched(jnp.zeros(()), good, 0)
            assert (float(state), float(metrics["loss"])) == (0.0, 0.0)
            with pytest.raises(FloatingPointError, match=named):
                watched(state, bad, 0)


CONFIG = """
from configs.base import base, stage


def get_config():
    config = base()
    config.model.update(arch="A", width_multiplier=0.02, crop_size=32, initializer="gaussian", initializer_std=1e30)
    config.data.update(source="folder", path={path!r}, val_fraction=0.25, statistics="imagenet", threads=2)
    config.train.update(batch_size=2, micro_batches=1)
    config.stages.s256 = stage((37, 37), 0.01, 4)
    config.chain = ("s256",)
    return config
"""


@pytest.fixture
def config_file(tmp_path):
    write_noise(tmp_path / "pictures", 8)
    (tmp_path / "tiny.py").write_text(CONFIG.format(path=str(tmp_path / "pictures")))
    return tmp_path / "tiny.py"


def test_train_ends_with_the_operation(config_file, tmp_path):
    arguments = (f"--config={config_file}", f"--workdir={tmp_path / 'workdir'}")
    run = script("train.py", *arguments, "--debug_nans", "--deterministic")
    assert run.returncode == 1, run.stderr
    place = r"\w+ \(.*/vgg_jax/model.py:\d+\)"
    told = rf"error: a value that is not finite was computed in {place}: invalid value \((inf|nan)\) encountered in \w+"
    assert re.fullmatch(told, run.stderr.splitlines()[-1]), run.stderr
    run = script("train.py", *arguments, "--debug_nans", "--distributed=auto")
    assert_one_error_line(run, "--debug_nans works in one process, not with --distributed=auto")


def test_deterministic_is_set_before_devices_are_looked_for(tmp_path):
    """XLA ends a process that gives it a flag which it does not know."""
    program = (
        "import os, sys; sys.path.insert(0, 'experiments')\n"
        "import distributed, jax, numerics; from absl import flags\n"
        "flags.FLAGS(['x', '--deterministic']); numerics.set_numerics()\n"
        "print(os.environ['XLA_FLAGS'], jax.numpy.ones(2).sum())"
    )
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_cpu_enable_fast_math=false"}
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "--xla_cpu_enable_fast_math=false --xla_gpu_deterministic_ops=true 2.0\n"
