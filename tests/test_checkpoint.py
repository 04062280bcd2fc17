import gc
import resource

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from small_disk import fill, read_only, small_disk

from vgg_jax import InputError
from vgg_jax.checkpoint import SaveFailed, find_step, open_checkpoints, read_info, restore, save


def tree(step, size=4):
    """Arrays that tell which step they are of."""
    rng = np.random.default_rng(step)
    return {"fc8": {"kernel": rng.standard_normal((size, 3), np.float32), "bias": np.full(3, step, np.float32)}}


def save_step(manager, step, error=None, size=4):
    items = {"params": tree(step, size), "optimizer": {"step": jnp.asarray(step)}}
    save(manager, step, items, {"step": step, "error": error}, error)


def assert_holds(manager, step, size=4):
    restored = restore(manager.directory, step, {"params": tree(0, size)})["params"]
    jax.tree.map(np.testing.assert_array_equal, restored, tree(step, size))
    assert read_info(manager.directory, step)["step"] == step


def test_the_latest_two_and_the_best_are_kept(tmp_path):
    with open_checkpoints(tmp_path) as manager:
        for step, error in enumerate([60.0, 40.0, 50.0, None, 45.0, None], start=1):
            save_step(manager, step, error)
        assert sorted(manager.all_steps()) == [2, 5, 6]
    with open_checkpoints(tmp_path) as manager:  # another process finds the same
        assert (find_step(manager.directory, "best"), find_step(manager.directory, "latest")) == (2, 6)
        assert_holds(manager, 2)
        assert_holds(manager, 6)
        assert read_info(manager.directory, 2) == {"step": 2, "error": 40.0}


@pytest.mark.parametrize("reopened", [False, True])
def test_on_ties_the_earlier_is_the_best(tmp_path, reopened):
    manager = open_checkpoints(tmp_path)
    for step, error in enumerate([60.0, 40.0, 40.0, 50.0, 40.0], start=1):
        save_step(manager, step, error)
        if reopened:
            manager.close()
            manager = open_checkpoints(tmp_path)
    assert find_step(manager.directory, "best") == 2
    assert sorted(manager.all_steps()) == [2, 4, 5]
    manager.close()


@pytest.mark.parametrize("error", [None, float("nan"), float("inf")])
def test_a_checkpoint_without_an_error_is_never_the_best(tmp_path, error):
    with open_checkpoints(tmp_path) as manager:
        save_step(manager, 1, 100.0)
        save_step(manager, 2, error)
        assert (find_step(manager.directory, "best"), find_step(manager.directory, "latest")) == (1, 2)


def test_without_any_error_the_latest_stands_for_the_best(tmp_path):
    with open_checkpoints(tmp_path) as manager:
        assert find_step(manager.directory, "best") is None
        save_step(manager, 1)
        save_step(manager, 2)
        assert find_step(manager.directory, "best") == 2


def test_a_relative_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_checkpoints("checkpoints") as manager:
        save_step(manager, 1)
    assert (tmp_path / "checkpoints" / "1").is_dir()


def test_restore_onto_other_devices(tmp_path):
    two, eight = (NamedSharding(Mesh(np.array(jax.devices()[:n]), ("data",)), P()) for n in (2, 8))
    with open_checkpoints(tmp_path) as manager:
        save(manager, 1, {"params": jax.device_put(tree(1), two)}, {"step": 1}, None)
        restored = restore(manager.directory, 1, {"params": jax.device_put(tree(0), eight)})["params"]
    assert restored["fc8"]["kernel"].sharding == eight
    jax.tree.map(np.testing.assert_array_equal, restored, tree(1))


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("array", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_restore_into_other_shapes(tmp_path, array, size):
    with open_checkpoints(tmp_path) as manager:
        kernel, target = np.ones((4, 3), np.float32), np.ones((size, 3), np.float32)
        save(manager, 1, {"params": {"kernel": kernel}}, {"step": 1}, None)
        with pytest.raises(InputError, match=r"the checkpoint of step 1 in .* cannot be restored: .*\(4, 3\)"):
            restore(manager.directory, 1, {"params": {"kernel": array(target)}})


def test_restore_of_other_layers(tmp_path):
    with open_checkpoints(tmp_path) as manager:
        save_step(manager, 1)
        with pytest.raises(InputError, match=r"the checkpoint of step 1 in .* cannot be restored"):
            restore(manager.directory, 1, {"params": {**tree(0), "fc9": tree(0)["fc8"]}})


@pytest.mark.parametrize("step", [1, 2])
def test_a_step_is_not_saved_twice(tmp_path, step):
    with open_checkpoints(tmp_path) as manager:
        save_step(manager, 2)
        with pytest.raises(InputError, match=f"already holds step {step} or a later one: use a fresh workdir"):
            save_step(manager, step)
        assert_holds(manager, 2)


def test_unknown_checkpoint(tmp_path):
    with (
        open_checkpoints(tmp_path) as manager,
        pytest.raises(InputError, match="unknown checkpoint 'last': choose one of best, latest"),
    ):
        find_step(manager.directory, "last")


LARGE = 200_000  # rows of float32 [., 3]: 2.4 MB of noise, which compresses badly
NO_SPACE = r"the checkpoint of step 2 could not be saved in .*: .*; the earlier checkpoints are intact: free some disk"


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk") as folder:
        yield folder


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # orbax leaves coroutines behind
def test_a_full_disk_costs_no_earlier_checkpoint(disk):
    with open_checkpoints(disk / "checkpoints") as manager:
        save_step(manager, 1, 50.0)
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(3 << 20))
        with pytest.raises(InputError, match=NO_SPACE):
            save_step(manager, 2, 40.0, size=LARGE)
        gc.collect()  # here, where orbax's warnings are ignored
        assert_holds(manager, 1)
    with open_checkpoints(disk / "checkpoints") as manager:
        assert (find_step(manager.directory, "best"), find_step(manager.directory, "latest")) == (1, 1)
        assert_holds(manager, 1)
        ballast.unlink()
        save_step(manager, 2, 40.0, size=LARGE)  # starting the same command again
        assert_holds(manager, 2, size=LARGE)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # orbax leaves coroutines behind
def test_a_write_that_fails_midway_costs_no_earlier_checkpoint(tmp_path):
    """As the full disk, without root: the system refuses files above a limit."""
    with open_checkpoints(tmp_path) as manager:
        save_step(manager, 1, 50.0)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
        try:
            with pytest.raises(InputError, match=NO_SPACE):
                save_step(manager, 2, 40.0, size=LARGE)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        gc.collect()  # here, where their warnings are ignored
    with open_checkpoints(tmp_path) as manager:
        assert (find_step(manager.directory, "best"), find_step(manager.directory, "latest")) == (1, 1)
        assert_holds(manager, 1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # orbax leaves coroutines behind
def test_a_read_only_disk_costs_no_earlier_checkpoint(disk):
    with open_checkpoints(disk / "checkpoints") as manager:
        save_step(manager, 1, 50.0)
        with read_only(disk):
            with pytest.raises(SaveFailed, match=NO_SPACE.replace("; the", ".*Read-only.*; the")):
                save_step(manager, 2, 40.0)
            assert_holds(manager, 1)
        gc.collect()  # here, where orbax's warnings are ignored
        save_step(manager, 3, 30.0)
        assert_holds(manager, 3)
        assert manager.all_steps() == [1, 3]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # orbax leaves coroutines behind
def test_saves_that_fail_leave_nothing_behind(disk):
    with open_checkpoints(disk / "checkpoints") as manager:
        save_step(manager, 1, 50.0)
        ballast = fill(disk)
        for step in (2, 3):
            with pytest.raises(SaveFailed):
                save_step(manager, step, 40.0, size=LARGE)
            gc.collect()  # here, where orbax's warnings are ignored
        ballast.unlink()
        assert sorted(path.name for path in (disk / "checkpoints").iterdir()) == ["1"]
        save_step(manager, 4, 40.0, size=LARGE)
        assert_holds(manager, 4, size=LARGE)
