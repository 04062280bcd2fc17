"""Processes with different numbers of CPU devices compute the same bits."""

import os
import subprocess
import sys

PROGRAM = """
import hashlib, sys
import jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
import numpy as np
from vgg_jax import VGG, optimizer
from vgg_jax.training import parallel, state, step

batch_size = int(sys.argv[2])
model = VGG("A", num_classes=10, width_multiplier=0.1, crop_size=32)
sgd, mesh = optimizer.sgd(3e-3), parallel.data_mesh()
assert mesh.size == int(sys.argv[1])
objective = step.Objective(model, (0.2, 0.02, 0.005), np.eye(3))
train_step = parallel.parallel_train_step(objective, sgd, mesh, batch_size=batch_size)
train_state = parallel.replicate(state.init_state(state.init_params(model, 0), sgd), mesh)
rng = np.random.default_rng(0)
for i in range(5):
    images = rng.integers(0, 256, (batch_size, 32, 32, 3), np.uint8)
    labels = rng.integers(0, 10, batch_size).astype(np.int32)
    index = np.arange(i * batch_size, (i + 1) * batch_size, dtype=np.int32)
    batch = parallel.shard_batch({"image": images, "label": labels, "index": index}, mesh)
    train_state, _ = train_step(train_state, batch, 1)
leaves = jax.tree.leaves((train_state.params, train_state.opt_state))
print(hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest())
"""


def digest(devices, batch_size):
    """Of the state after five steps, compiled as for users."""
    command = [sys.executable, "-c", PROGRAM, str(devices), str(batch_size)]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()


def test_processes_of_1_and_8_devices_agree():
    assert digest(1, 32) == digest(8, 32) != ""


def test_micro_batches_of_one_example_agree():
    """Where a weight gradient is one multiplication an element, it must not be fused with the sum over parts."""
    assert digest(1, 8) == digest(8, 8) != ""
