"""Checkpoints whose files changed after they were saved: noticed, named, and passed over."""

import logging
import shutil

import jax
import numpy as np
import pytest

from vgg_jax import InputError, checkpoint
from vgg_jax.checkpoint import (
    find_intact_step,
    find_step,
    open_checkpoints,
    read_info,
    restore,
    save,
    set_damaged_aside,
)

STEPS = {1: 50.0, 2: 40.0, 3: 60.0}  # and their errors: the best is neither the first nor the latest


def tree(step):
    rng = np.random.default_rng(step)
    return {"fc8": {"kernel": rng.standard_normal((4, 3), np.float32), "bias": np.full(3, step, np.float32)}}


def save_step(manager, step, error):
    items = {"params": tree(step), "optimizer": {"step": np.asarray(step)}}
    save(manager, step, items, {"step": step, "error": error}, error)


def assert_holds(directory, step):
    restored = restore(directory, step, {"params": tree(0)}, alone=True)["params"]
    jax.tree.map(np.testing.assert_array_equal, restored, tree(step))
    assert read_info(directory, step, alone=True)["step"] == step


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved") / "checkpoints"
    with open_checkpoints(directory) as manager:
        for step, error in STEPS.items():
            save_step(manager, step, error)
    return directory


@pytest.fixture
def directory(saved, tmp_path):
    """A copy of the steps 2, the best, and 3, the latest."""
    checkpoint._warn_of_no_checksums.cache_clear()
    return shutil.copytree(saved, tmp_path / "checkpoints")


@pytest.fixture(autouse=True)
def warnings(caplog):
    caplog.set_level(logging.WARNING, "vgg_jax.checkpoint")
    return caplog


def files(step_folder):
    return sorted(str(p.relative_to(step_folder)) for p in step_folder.rglob("*") if p.is_file())


def flip(path, rng):
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def truncate(path, rng):
    path.write_bytes(path.read_bytes()[: rng.integers(path.stat().st_size)])


def remove(path, _):
    path.unlink()


DAMAGES = [flip, flip, flip, truncate, remove]


@pytest.mark.parametrize("which, chosen, instead", [("best", 2, 3), ("latest", 3, 2)])
def test_every_file_of_a_checkpoint(saved, tmp_path, warnings, which, chosen, instead):
    names = files(saved / str(chosen))
    assert len(names) > 15 and "checksums.json" in names
    rng = np.random.default_rng(0)
    for name in names:
        for damage in DAMAGES if name != "checksums.json" else (flip, truncate):
            directory = shutil.copytree(saved, tmp_path / "checkpoints")
            damage(directory / str(chosen) / name, rng)
            warnings.clear()
            assert find_intact_step(directory, which) == instead, (name, damage)
            assert f"the checkpoint of step {chosen} in {directory} is damaged: {name} " in warnings.text
            assert f"step {instead} is used, the {which} of those that are intact" in warnings.text
            shutil.rmtree(directory)


def test_an_intact_checkpoint_is_restored_without_a_word(directory, warnings):
    assert (find_intact_step(directory, "best"), find_intact_step(directory, "latest")) == (2, 3)
    set_damaged_aside(directory)
    for step in (2, 3):
        assert_holds(directory, step)
    assert not warnings.records


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'{"metrics": 3}', b'{"top1_error": "a", "step": 3}'])
@pytest.mark.parametrize("name", ["metrics/metrics", "_CHECKPOINT_METADATA"])
def test_what_orbax_reads_before_all_else(directory, name, content):
    (directory / "3" / name).write_bytes(content)
    assert find_intact_step(directory, "best") == 2
    set_damaged_aside(directory)
    with open_checkpoints(directory) as manager:
        assert manager.all_steps() == [2]


def test_an_error_that_changed_chooses_no_best(directory, warnings):
    (directory / "3" / "metrics" / "metrics").write_text('{"top1_error": 10.0, "step": 3}')
    assert find_step(directory, "best") == 3
    assert find_intact_step(directory, "best") == 2
    assert "step 3 in" in warnings.text and "metrics/metrics" in warnings.text


def test_the_best_whose_error_changed_is_not_passed_over_in_silence(directory, warnings):
    (directory / "2" / "metrics" / "metrics").write_text('{"top1_error": 90.0, "step": 2}')
    assert find_intact_step(directory, "best") == 3
    assert "step 2 in" in warnings.text and "metrics/metrics" in warnings.text


def test_a_damaged_step_is_moved_aside_and_saved_again(directory, warnings):
    flip(directory / "3" / "info" / "metadata", np.random.default_rng(0))
    for name in ("3", "3.1", "3.2"):
        damaged = {path.name: path.read_bytes() for path in (directory / "3" / "info").iterdir()}
        set_damaged_aside(directory)
        aside = directory / "damaged" / name
        assert {path.name: path.read_bytes() for path in (aside / "info").iterdir()} == damaged
        assert f"info/metadata has other bytes than were written; moved to {aside}" in warnings.text
        assert find_intact_step(directory, "latest") == 2
        with open_checkpoints(directory) as manager:
            save_step(manager, 3, 10.0)
        assert find_intact_step(directory, "best") == 3
        assert_holds(directory, 3)
        flip(directory / "3" / "info" / "metadata", np.random.default_rng(0))


def test_nothing_intact(directory):
    for step in (2, 3):
        (directory / str(step) / "params" / "_METADATA").unlink()
    told = (
        "none of the checkpoints in .* is intact .*step 2: params/_METADATA is missing.*step 3: .*: put a copy of one"
    )
    for look in (lambda: find_intact_step(directory, "best"), lambda: set_damaged_aside(directory)):
        with pytest.raises(InputError, match=told):
            look()
    assert sorted(path.name for path in directory.iterdir()) == ["2", "3"]


def test_no_checkpoints(tmp_path):
    set_damaged_aside(tmp_path / "none")
    assert find_intact_step(tmp_path / "none", "best") is None
    assert not (tmp_path / "none").exists()


def test_checkpoints_of_older_versions_are_used_with_one_warning(directory, warnings):
    for step in (2, 3):
        (directory / str(step) / "checksums.json").unlink()
    for _ in range(2):
        assert find_intact_step(directory, "latest") == 3
        set_damaged_aside(directory)
    assert [record.message.partition(" has no checksums")[0] for record in warnings.records] == [
        str(directory / "3"),
        str(directory / "2"),
    ]
    assert_holds(directory, 3)


def test_a_save_that_was_killed_before_its_checksums(directory, warnings, monkeypatch):
    def killed(folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, open_checkpoints(directory) as manager:
        patch.setattr(checkpoint, "write_checksums", killed)
        with pytest.raises(KeyboardInterrupt):
            save_step(manager, 4, 30.0)
    assert find_intact_step(directory, "latest") == 4
    assert "4 has no checksums" in warnings.text
    set_damaged_aside(directory)
    with open_checkpoints(directory) as manager:
        save_step(manager, 5, 20.0)
    assert_holds(directory, 4)


def test_without_checksums_only_what_can_be_read_is_used(directory, warnings):
    (directory / "3" / "checksums.json").unlink()
    shutil.rmtree(directory / "3" / "params" / "d")
    shutil.rmtree(directory / "3" / "params" / "ocdbt.process_0")
    assert find_intact_step(directory, "latest") == 2
    assert "step 3 in" in warnings.text and "it cannot be read" in warnings.text
    set_damaged_aside(directory)
    assert find_step(directory, "latest") == 2
