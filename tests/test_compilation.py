"""Programs are kept for the next process, torn ones removed, and a run compiles nothing twice."""

import contextlib
import os
import subprocess
import sys

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache
from running_scripts import REPOSITORY
from tiny_training import make_config

from vgg_jax import compilation
from vgg_jax.compilation import counted_compilations, use_persistent_cache
from vgg_jax.errors import InputError
from vgg_jax.training.chain import run_chain

STAGES = ("s256", "s384", "jitter")

COUNT = """
import jax, sys
from vgg_jax import compilation
compilation._WORTH_KEEPING = 0.0
folder = compilation.use_persistent_cache(sys.argv[1])
with compilation.counted_compilations() as counted:
    for _ in range(2):
        jax.jit(lambda x: 2 * x + 1)(1.0)  # a new function, the same program
print(counted.compiled["jit(<lambda>)"], counted.served["jit(<lambda>)"], len(counted.seconds))
"""


def without_cache():
    """An environment that names no folder."""
    return {name: value for name, value in os.environ.items() if "COMPILATION_CACHE" not in name}


def count_in_process(folder):
    command = [sys.executable, "-c", COUNT, str(folder)]
    run = subprocess.run(command, cwd=REPOSITORY, env=without_cache(), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return [int(number) for number in run.stdout.split()], run.stderr


def test_a_program_is_compiled_once_and_kept_for_the_next_process(tmp_path):
    assert count_in_process(tmp_path / "new" / "folder") == ([1, 1, 2], "")
    assert count_in_process(tmp_path / "new" / "folder") == ([0, 2, 2], "")
    assert (tmp_path / "new" / "folder").stat().st_mode & 0o777 == 0o700


def test_half_a_program_is_removed(tmp_path):
    """As kill -9 leaves it: the first file cut, the second not yet written."""
    count_in_process(tmp_path)
    (kept,) = tmp_path.glob("*-cache")
    torn = tmp_path / f"{kept.name.removesuffix('-cache')[:-1]}x-cache"
    torn.write_bytes(kept.read_bytes()[:50])
    kept.write_bytes(kept.read_bytes()[:50])
    kept.with_name(f"{kept.name.removesuffix('-cache')}-atime").unlink()
    assert count_in_process(tmp_path) == ([1, 1, 2], "")
    assert not torn.exists() and count_in_process(tmp_path) == ([0, 2, 2], "")


@pytest.fixture
def settings():
    """Jax's settings, put back afterwards."""
    names = ("dir", "max_size")
    before = {f"jax_compilation_cache_{name}": getattr(jax.config, f"jax_compilation_cache_{name}") for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_folder_that_cannot_be(tmp_path, settings, monkeypatch, caplog):
    """A given one is refused, the default one goes without."""
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be kept in .*file/cache: .*Not a directory.*name another folder"):
        use_persistent_cache(tmp_path / "file" / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert use_persistent_cache() is None
    assert "compiled programs are not kept" in caplog.text and jax.config.jax_compilation_cache_dir is None


def test_a_folder_of_jax_is_left_as_it_is(tmp_path, settings):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    (tmp_path / "other-cache").touch()  # kept without a second file, as jax does where no size is set
    size = jax.config.jax_compilation_cache_max_size
    assert use_persistent_cache() == tmp_path
    assert (tmp_path / "other-cache").exists() and jax.config.jax_compilation_cache_max_size == size


def test_the_default_is_the_users_cache_folder(tmp_path, settings, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compilation, "_WORTH_KEEPING", jax.config.jax_persistent_cache_min_compile_time_secs)
    assert use_persistent_cache() == tmp_path / "vgg_jax" / "xla"
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "vgg_jax" / "xla")


@contextlib.contextmanager
def fresh_cache(folder):
    """An empty cache that takes everything, also what jax thinks too quick to keep; nothing compiled before serves."""
    settings = {"jax_compilation_cache_dir": str(folder), "jax_persistent_cache_min_compile_time_secs": 0.0}
    before = {name: getattr(jax.config, name) for name in settings}
    jax.clear_caches()
    compilation_cache.reset_cache()
    for name, value in settings.items():
        jax.config.update(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def test_a_chain_compiles_nothing_twice(pictures, tmp_path):
    """Its stages share the program of the step and of the validation: the cache, new and taking all, gives them."""
    config = make_config(pictures, *STAGES, **{f"stages__{name}__steps": 2 for name in STAGES})
    with fresh_cache(tmp_path / "programs"), counted_compilations() as counted:
        run_chain(config, tmp_path / "run")
    programs = ("jit(train_step)", "jit(eval_step)", "jit(draw_params)")
    assert [(counted.compiled[name], counted.served[name]) for name in programs] == [(1, 2), (1, 2), (1, 2)]
    assert counted.compiled.total() == len(list((tmp_path / "programs").glob("*-cache")))
