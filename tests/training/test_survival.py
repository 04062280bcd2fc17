"""Runs that meet damaged checkpoints, full disks and batches that are not finite, and end where others end."""

import gc
import json
import logging
import shutil

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from running_scripts import write_noise
from saved_state import latest_checkpoint
from small_disk import fill, small_disk

from configs.base import base, stage
from vgg_jax import InputError, checkpoint
from vgg_jax.eval.workdir import evaluate_stages
from vgg_jax.training import chain, loop
from vgg_jax.training.chain import run_chain
from vgg_jax.training.log import read_log
from vgg_jax.weights.load import load_stage

STEPS = 6


@pytest.fixture(autouse=True, scope="module")
def _programs_are_kept(tmp_path_factory):
    """Compiled once for all runs; no dense evaluation at the end of a stage."""
    cache = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("programs")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: getattr(jax.config, name) for name in cache}
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(chain, "_stage_row", lambda *_: {})
        for name, value in cache.items():
            jax.config.update(name, value)
        yield
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("survival") / "pictures"
    write_noise(folder, 12)
    return folder


def make_config(pictures, **train):
    config = base()
    config.model.update(arch="A", width_multiplier=0.02, crop_size=32)
    config.data.update(source="folder", path=str(pictures), val_fraction=0.25, threads=2, statistics="imagenet")
    config.train.update(batch_size=8, validate_every=3, checkpoint_every=1, log_every=1, **train)
    config.stages.s256 = stage((37, 45), 0.01, STEPS)
    config.chain = ("s256",)
    return config


@pytest.fixture(scope="module")
def straight(pictures, tmp_path_factory):
    """The workdir of a run that nothing disturbed."""
    workdir = tmp_path_factory.mktemp("straight")
    run_chain(make_config(pictures), workdir)
    return workdir


@pytest.fixture(autouse=True)
def messages(caplog):
    caplog.set_level(logging.INFO, "vgg_jax")
    return caplog


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def weights_file(step_folder):
    return max((p for p in (step_folder / "params").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def unfinished(workdir, copy):
    """A run that was killed before it could say that the stage is finished."""
    return shutil.copytree(workdir, copy, ignore=shutil.ignore_patterns("finished.json", "results.json"))


def test_a_run_goes_on_from_the_newest_intact_checkpoint(straight, pictures, tmp_path, messages):
    workdir = unfinished(straight, tmp_path / "workdir")
    steps = sorted(int(path.name) for path in (workdir / "s256" / "checkpoints").iterdir())
    assert steps[-2:] == [STEPS - 1, STEPS]
    damaged = weights_file(workdir / "s256" / "checkpoints" / str(STEPS))
    flip(damaged)
    run_chain(make_config(pictures), workdir)
    assert f"the checkpoint of step {STEPS} in " in messages.text and damaged.name in messages.text
    assert f"s256: resumed at step {STEPS - 1}" in messages.text
    assert latest_checkpoint(workdir) == latest_checkpoint(straight)
    assert (workdir / "s256" / "checkpoints" / "damaged" / str(STEPS)).is_dir()


def test_an_evaluation_says_which_checkpoint_it_used(straight, tmp_path, messages):
    workdir = shutil.copytree(straight, tmp_path / "workdir")
    directory = workdir / "s256" / "checkpoints"
    best = checkpoint.find_step(directory, "best")
    others = [step for step in (STEPS, STEPS - 1) if step != best]
    flip(weights_file(directory / str(best)))
    (row, *_) = evaluate_stages([workdir / "s256"])
    assert row["step"] in others
    assert f"the checkpoint of step {best} in {directory} is damaged" in messages.text
    assert f"step {row['step']} is used, the best of those that are intact" in messages.text
    *_, info = load_stage(workdir / "s256")
    assert info["step"] == row["step"]
    for step in others:
        (directory / str(step) / "info" / "metadata").unlink()
    with pytest.raises(InputError, match=r"none of the checkpoints in .* is intact"):
        evaluate_stages([workdir / "s256"])


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", "16m") as folder:
        yield folder


@pytest.fixture
def full_at(disk, monkeypatch):
    """A function: at the saves of the given steps the disk is full."""
    save = checkpoint.save

    def at(*steps):
        def save_or_fail(manager, step, *arguments):
            (disk / "ballast").unlink(missing_ok=True)
            if step in steps:
                fill(disk)
            try:
                save(manager, step, *arguments)
            finally:
                gc.collect()  # here, where orbax's warnings are ignored

        monkeypatch.setattr(checkpoint, "save", save_or_fail)

    return at


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # orbax leaves coroutines behind
def test_a_full_disk(straight, pictures, disk, full_at, messages):
    """One run stops at once; the next goes on without saving, but not past the end of the stage; the third ends."""
    workdir = disk / "workdir"
    full_at(2)
    with pytest.raises(InputError, match=r"the checkpoint of step 2 could not be saved in .*: free some disk space"):
        run_chain(make_config(pictures), workdir)
    (disk / "ballast").unlink()
    full_at(3, 4, STEPS)
    messages.clear()
    with pytest.raises(InputError, match=f"the checkpoint of step {STEPS} could not be saved"):
        run_chain(make_config(pictures, on_save_error="continue"), workdir)
    assert "s256: resumed at step 1" in messages.text
    for step in (3, 4):
        assert f"the checkpoint of step {step} could not be saved" in messages.text
    assert checkpoint.find_intact_step(workdir / "s256" / "checkpoints", "latest") == STEPS - 1
    (disk / "ballast").unlink()
    full_at()
    run_chain(make_config(pictures), workdir)
    assert f"s256: resumed at step {STEPS - 1}" in messages.text
    assert latest_checkpoint(workdir) == latest_checkpoint(straight)
    assert read_log(workdir / "s256") == read_log(straight / "s256")


@pytest.fixture
def bad_batches(monkeypatch):
    """The batches of steps 2 and 4 have a label that is no class: their loss is NaN."""
    batches = loop.stage_batches

    def spoiled(*arguments, first_step, **options):
        for step, batch in enumerate(batches(*arguments, first_step=first_step, **options), first_step + 1):
            yield {**batch, "label": np.full_like(batch["label"], 1000)} if step in (2, 4) else batch

    monkeypatch.setattr(loop, "stage_batches", spoiled)


def test_updates_that_are_not_finite(pictures, tmp_path, bad_batches, messages):
    """At most one in a stage: the second stops the run; with two it goes on, and remembers the first."""
    with pytest.raises(InputError, match="the loss is nan at step 4: the training diverged"):
        run_chain(make_config(pictures, skip_nonfinite=1), tmp_path)
    assert "s256 step 2: not finite, skipped (1 of at most 1)" in messages.text
    run_chain(make_config(pictures, skip_nonfinite=2), tmp_path)
    assert "s256: resumed at step 3" in messages.text
    assert "s256 step 4: not finite, skipped (2 of at most 2)" in messages.text
    rows = {row["step"]: row for row in read_log(tmp_path / "s256") if "skipped" in row}
    assert [rows[step]["skipped"] for step in sorted(rows)] == [0, 1, 1, 2, 2, 2]
    assert [step for step in rows if "train_loss" in rows[step]] == [1, 3, 5, 6]
    assert latest_checkpoint(tmp_path)[1]["progress"]["skipped"] == 2
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["train"]["skip_nonfinite"] == 2
    with pytest.raises(InputError, match=r"train.skip_nonfinite: saved 2, now 1"):
        run_chain(make_config(pictures, skip_nonfinite=1), tmp_path)


def test_without_the_field_a_loss_that_is_not_finite_stops(pictures, tmp_path, bad_batches):
    with pytest.raises(InputError, match="the loss is nan at step 2: the training diverged"):
        run_chain(make_config(pictures), tmp_path)
    assert checkpoint.find_intact_step(tmp_path / "s256" / "checkpoints", "latest") == 1
