"""A strict test environment: eight CPU devices, rank promotion raises; warnings are errors (setup.cfg)."""

import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# Programs that run slowly but compile fast; where bits are compared, tests compile as users do (`full_optimization`).
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
# What one worker or script has compiled serves the others, and the next run.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).resolve().parents[1] / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(2**31))  # with a lock
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import jax
import pytest
from absl import flags
from hypothesis import settings

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
flags.FLAGS.mark_as_parsed()  # grain's workers read a flag

settings.register_profile("default", settings.default, deadline=None)  # no test asserts a time
settings.register_profile("fuzz", settings.default, deadline=None, max_examples=100_000)  # --hypothesis-profile=fuzz
settings.load_profile("default")

REPOSITORY = Path(__file__).resolve().parent.parent
EXPERIMENTS = REPOSITORY / "experiments"
sys.path.insert(0, str(EXPERIMENTS))  # as `python experiments/x.py` does


# Whole trainings in processes of their own: first, so that no worker is left alone with them at the end.
LONGEST = (
    *("test_distributed.py", "test_crash.py", "test_chain.py", "test_scripts.py", "test_processes.py"),
    *("test_parallel.py", "test_sweep_script.py", "test_debug_nans.py", "test_dense_sizes.py", "test_stopping.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files; the order in a file stays."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photographs; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("VGG_JAX_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real photographs: {folder} is absent (VGG_JAX_DATA names another folder)")
    return folder


@pytest.fixture(scope="module")
def full_optimization():
    """For tests of bits: the training step is compiled as it is for users."""
    from vgg_jax.compilation import training_options
    from vgg_jax.training import parallel

    options = {**training_options(), "xla_backend_optimization_level": 3}
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(parallel, "training_options", lambda: options)
        yield


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of a few coloured pictures, see tiny_training.py."""
    from tiny_training import write_pictures

    return write_pictures(tmp_path_factory.mktemp("pictures") / "tiny")
