import copy
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from configs.base import base, stage
from vgg_jax import InputError
from vgg_jax.training.workdir import FREE_FIELDS, check_counts, check_identity, locked

NOBODY = 65534


@pytest.fixture
def config():
    config = base()
    config.stages.s256 = stage((256, 256), 0.01, 100)
    config.stages.s384 = stage((384, 384), 0.001, 50, "stage:s256")
    config.chain = ("s256",)
    return config


def changed(config, field, value):
    config = copy.deepcopy(config)
    with config.unlocked():
        config.update_from_flattened_dict({field: value})
    return config


def test_a_lock_is_free_again_after_its_holder(tmp_path):
    workdir = tmp_path / "deep" / "workdir"
    with (
        locked(workdir),
        pytest.raises(InputError, match=r"another run is writing .*workdir: wait for it to end, or give another"),
        locked(workdir),
    ):
        pass
    with locked(workdir):
        pass


def test_the_lock_of_a_killed_run_is_free(tmp_path):
    program = (
        "import sys, pathlib, time; from vgg_jax.training.workdir import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('locked', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "locked\n"
            with pytest.raises(InputError, match="another run is writing"), locked(tmp_path):
                pass
        finally:
            holder.send_signal(signal.SIGKILL)
    with locked(tmp_path):
        pass


def test_a_workdir_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=r"workdir cannot be written \(Not a directory\): give another"),
        locked(tmp_path / "file" / "workdir"),
    ):
        pass


@pytest.fixture
def read_only_folder():
    """A folder in which this user may not write; root, who may anywhere, becomes another user meanwhile."""
    with tempfile.TemporaryDirectory() as name:  # not tmp_path, which other users may not enter
        os.chmod(name, 0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(NOBODY)
        yield Path(name)
        os.seteuid(user)
        os.chmod(name, 0o700)


def test_a_workdir_that_cannot_be_written(read_only_folder):
    with pytest.raises(InputError, match="cannot be written"), locked(read_only_folder / "workdir"):
        pass


@pytest.fixture
def workdir(tmp_path):
    """A workdir whose training has a checkpoint."""
    (tmp_path / "s256" / "checkpoints" / "10").mkdir(parents=True)
    return tmp_path


def test_the_first_config_is_saved(workdir, config):
    check_identity(workdir, config.to_dict())
    saved = json.loads((workdir / "config.json").read_text())
    assert saved == json.loads(json.dumps(config.to_dict()))
    check_identity(workdir, config.to_dict())


@pytest.mark.parametrize("field", FREE_FIELDS)
def test_free_fields(workdir, config, field):
    check_identity(workdir, config.to_dict())
    values = {"data.path": "elsewhere", "train.on_save_error": "continue", "train.remat": True}
    check_identity(workdir, changed(config, field, values.get(field, 3)).to_dict())


@pytest.mark.parametrize(
    "field, value",
    [
        *(("seed", 1), ("model.width_multiplier", 0.5), ("data.val_fraction", 0.2), ("train.batch_size", 128)),
        *(("optimizer.momentum", 0.5), ("stages.s256.learning_rate", 0.1), ("stages.s256.steps", 99)),
        *(
            ("stages.s256.scale", (256, 512)),
            ("chain", ()),
            ("chain", ("s384", "s256")),
            ("train.reduction", "all_reduce"),
        ),
    ],
)
def test_other_fields_are_identity(workdir, config, field, value):
    check_identity(workdir, config.to_dict())
    before = (workdir / "config.json").read_text()
    with pytest.raises(InputError, match=f"was made with another config: {field}: saved .*, now .*: give another"):
        check_identity(workdir, changed(config, field, value).to_dict())
    assert (workdir / "config.json").read_text() == before


def test_a_workdir_of_before_there_were_decoders_was_exact(workdir, config):
    older = config.to_dict()
    del older["data"]["decoder"]
    check_identity(workdir, older)
    with pytest.raises(InputError, match=r"data\.decoder: saved 'exact', now 'fast'"):
        check_identity(workdir, changed(config, "data.decoder", "fast").to_dict())
    check_identity(workdir, config.to_dict())


def test_all_fields_that_differ_are_listed(workdir, config):
    check_identity(workdir, config.to_dict())
    other = changed(changed(config, "seed", 7), "model.arch", "E").to_dict()
    del other["optimizer"]["momentum"]
    with pytest.raises(InputError) as raised:
        check_identity(workdir, other)
    for fault in (
        "seed: saved 0, now 7",
        "model.arch: saved 'D', now 'E'",
        "optimizer.momentum: saved 0.9, now absent",
    ):
        assert fault in str(raised.value)


def test_what_may_grow(workdir, config):
    check_identity(workdir, config.to_dict())
    longer = changed(config, "stages.s256.steps", 200)
    check_identity(workdir, longer.to_dict())
    more = changed(longer, "chain", ("s256", "s384"))
    more.stages.s384.learning_rate = 1.0  # it has not run yet
    check_identity(workdir, more.to_dict())
    with pytest.raises(InputError, match=r"stages.s256.steps: saved 200, now 100"):
        check_identity(workdir, config.to_dict())


def test_a_new_stage_may_be_described(workdir, config):
    check_identity(workdir, config.to_dict())
    config.stages.jitter = stage((256, 512), 0.001, 50, "stage:s384")
    config.chain = ("s256", "s384", "jitter")
    check_identity(workdir, config.to_dict())


def test_on_error_may_turn_to_skip_and_not_back(workdir, config):
    check_identity(workdir, config.to_dict())
    skipping = changed(config, "data.on_error", "skip")
    check_identity(workdir, skipping.to_dict())
    with pytest.raises(InputError, match=r"data.on_error: saved 'skip', now 'raise'"):
        check_identity(workdir, config.to_dict())


def test_more_updates_may_be_skipped_and_not_fewer(workdir, config):
    old = config.to_dict()
    del old["train"]["skip_nonfinite"]  # a workdir that was made before the field was
    check_identity(workdir, old)
    for updates in (0, 2, 3):
        check_identity(workdir, changed(config, "train.skip_nonfinite", updates).to_dict())
    with pytest.raises(InputError, match=r"train.skip_nonfinite: saved 3, now 2"):
        check_identity(workdir, changed(config, "train.skip_nonfinite", 2).to_dict())


def test_before_the_first_checkpoint_a_mistake_may_be_mended(tmp_path, config):
    check_identity(tmp_path, changed(config, "model.arch", "F").to_dict())
    (tmp_path / "classes.txt").write_text("of another data set\n")
    check_identity(tmp_path, config.to_dict())
    assert json.loads((tmp_path / "config.json").read_text())["model"]["arch"] == "D"
    assert not (tmp_path / "classes.txt").exists()


def test_a_data_set_of_another_size_is_refused(tmp_path):
    check_counts(tmp_path, {"train": 10, "val": 2})
    check_counts(tmp_path, {"train": 10, "val": 2})
    with pytest.raises(InputError, match="the data set changed since"):
        check_counts(tmp_path, {"train": 9, "val": 2})
