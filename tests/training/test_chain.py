import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from saved_state import latest_checkpoint
from tiny_training import CLASSES, make_config, write_pictures

from vgg_jax import InputError, checkpoint
from vgg_jax.architectures import PAPER_A_LAYERS
from vgg_jax.data.statistics import IMAGENET_STATISTICS
from vgg_jax.eval.evaluation import DataSet
from vgg_jax.eval.workdir import evaluate_stages, open_split
from vgg_jax.training import chain
from vgg_jax.training.chain import run_chain
from vgg_jax.training.log import read_log
from vgg_jax.weights import load_weights, save_weights

ROW_FIELDS = {
    *("dataset", "split", "stage", "arch", "seed", "train_scale", "checkpoint", "method", "test_scales", "grid"),
    *("flip", "pool_rounding", "members", "top1_error", "top5_error", "num_images"),
}


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory):
    """(workdir, config, rows) of a whole chain."""
    workdir = tmp_path_factory.mktemp("trained")
    config = make_config(pictures, "s256", "s384", "jitter")
    return workdir, config, run_chain(config, workdir)


def no_training(*arguments):
    raise AssertionError("a stage was trained")


def test_the_chain_runs_through_its_stages(trained):
    workdir, config, rows = trained
    assert [row["stage"] for row in rows] == list(config.chain)
    assert [row["train_scale"] for row in rows] == [[37, 37], [55, 55], [37, 74]]
    assert [row["test_scales"] for row in rows] == [[37], [55], [56]]  # Q = S, or the middle of the range
    steps = ["all layers of stage:s256 (step 6)", "all layers of stage:s384 (step 6)"]
    assert [row["init"] for row in rows] == ["glorot", *steps]
    for row in rows:
        assert row.keys() >= ROW_FIELDS
        expected = {"dataset": "tiny", "split": "val", "arch": "A", "seed": 0, "checkpoint": "best", "method": "dense"}
        assert {field: row[field] for field in expected} == expected
        assert row["num_images"] == 3 * CLASSES
        assert 0 <= row["top5_error"] <= row["top1_error"] <= 100
    assert json.loads((workdir / "results.json").read_text()) == {"rows": json.loads(json.dumps(rows))}


def test_the_chain_leaves_its_files(trained):
    workdir, config, _ = trained
    with Image.open(workdir / "learning_curve.png") as picture:
        assert picture.format == "PNG"
    assert (workdir / "classes.txt").read_text().split() == [f"class{i}" for i in range(CLASSES)]
    assert not (workdir / "bad_images.txt").exists()
    for name in config.chain:
        assert json.loads((workdir / name / "finished.json").read_text()) == {"steps": 6}
        assert list((workdir / name / "tensorboard").glob("events.out.tfevents.*"))
        rows = read_log(workdir / name)
        assert [row["step"] for row in rows if "train_loss" in row] == [2, 4, 6]
        assert [row["step"] for row in rows if "val_top1_error" in row] == [2, 4, 6]  # an epoch is 36 // 16 steps
        assert all(math.isfinite(value) for row in rows for value in row.values())


def test_a_later_stage_starts_from_the_best_of_an_earlier_one(trained):
    workdir, config, _ = trained
    model, best = load_weights(workdir / "s256")
    params, _ = chain.starting_params(config, "s384", workdir, model)
    jax.tree.map(np.testing.assert_array_equal, params, best)
    assert (model.arch, model.num_classes, model.crop_size, model.width_multiplier) == ("A", CLASSES, 32, 0.03)
    assert model.mean_rgb != tuple(IMAGENET_STATISTICS.mean_rgb)  # the data set's own


def test_a_finished_chain_is_skipped(trained, monkeypatch):
    workdir, config, rows = trained
    monkeypatch.setattr(chain, "run_stage", no_training)
    again = run_chain(config, workdir)
    assert again == rows
    assert len(json.loads((workdir / "results.json").read_text())["rows"]) == 3


def test_evaluation_adds_the_three_scale_rows(trained):
    workdir, _config, _ = trained
    for _ in range(2):
        rows = evaluate_stages([workdir / "jitter"])
        assert [row["test_scales"] for row in rows] == [[56], [37, 56, 74]]
        assert len(json.loads((workdir / "results.json").read_text())["rows"]) == 4
    latest_row, *_ = evaluate_stages([workdir / "jitter"], checkpoint="latest")
    assert (latest_row["checkpoint"], latest_row["step"]) == ("latest", 6)


def test_three_steps_and_three_more_equal_six(trained, pictures, tmp_path):
    run_chain(make_config(pictures, stages__s256__steps=3), tmp_path)
    assert latest_checkpoint(tmp_path)[1]["step"] == 3
    run_chain(make_config(pictures, data__threads=1, train__log_every=1), tmp_path)
    straight, info = latest_checkpoint(trained[0])
    resumed, resumed_info = latest_checkpoint(tmp_path)
    assert info["step"] == 6
    assert resumed == straight
    assert resumed_info == info
    assert json.loads((tmp_path / "s256" / "finished.json").read_text()) == {"steps": 6}


def killed_at_step_4(data, workdir):
    """In another process: steps 1 to 3 are on disk, step 4 was being saved."""
    save = checkpoint.save

    def save_or_die(manager, step, *arguments):
        if step == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        save(manager, step, *arguments)

    checkpoint.save = save_or_die
    run_chain(make_config(data, train__checkpoint_every=1), workdir)


def test_a_killed_run_goes_on_as_if_nothing_had_been(trained, pictures, tmp_path):
    folders = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    program = (
        f"import sys; sys.path[:0] = {folders}; import conftest\n"
        f"import test_chain; test_chain.killed_at_step_4({str(pictures)!r}, {str(tmp_path)!r})"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert not (tmp_path / "s256" / "finished.json").exists()
    assert latest_checkpoint(tmp_path)[1]["step"] == 3
    run_chain(make_config(pictures), tmp_path)
    straight, info = latest_checkpoint(trained[0])
    resumed, resumed_info = latest_checkpoint(tmp_path)
    assert resumed == straight
    assert resumed_info == info
    assert [row["step"] for row in read_log(tmp_path / "s256") if "train_loss" in row] == [2, 4, 6]


def test_deeper_nets_start_from_a_trained_a(trained, pictures, tmp_path):
    source = f"workdir:{trained[0] / 's256'}"
    fields = {"stages__s256__init_from": source, "stages__s256__init_layers": "paper_a", "stages__s256__steps": 1}
    config = make_config(pictures, model__arch="B", model__initializer="gaussian", **fields)
    (row,) = run_chain(config, tmp_path)
    assert row["init"] == f"paper_a layers of {source} (step 6), others gaussian(0.01)"
    model, _ = load_weights(tmp_path / "s256")
    params, _ = chain.starting_params(config, "s256", tmp_path, model)
    _, donor = load_weights(trained[0] / "s256")
    for name, layer in params.items():
        is_donors = name in donor and np.array_equal(layer["kernel"], donor[name]["kernel"])
        assert is_donors == (name in PAPER_A_LAYERS), name


def test_mean_and_std_travel_with_the_weights(trained, pictures, tmp_path):
    """From a file whose net was trained on divided pixels, as torch's: the stage, its resume and the next stage."""
    donor, params = load_weights(trained[0] / "s256")
    file, workdir = tmp_path / "divided.safetensors", tmp_path / "run"
    divided = donor.clone(mean_rgb=(124.0, 116.0, 104.0), std_rgb=(58.0, 57.0, 57.5))
    save_weights(file, divided, params)
    fields = {"steps": 1, "learning_rate": 1e-9, "init_from": f"weights:{file}"}
    config = make_config(pictures, "s256", "s384", **{f"stages__s256__{name}": value for name, value in fields.items()})
    config.chain = ("s256",)
    (row,) = run_chain(config, workdir)
    assert row["init"] == f"all layers of weights:{file}"
    data = DataSet(open_split(config.to_dict(), "val"), "tiny", "val")
    (of_file,) = evaluate_stages([file], data=data, scales=(37,), output=tmp_path)
    assert row["top1_error"] == of_file["top1_error"]  # hardly trained: the same net on the same pixels
    file.unlink()
    for stage in ("s256", "s384"):  # going on, and from stage:s256
        model = chain.stage_model(config, stage, workdir, donor)
        assert (model.mean_rgb, model.std_rgb) == (divided.mean_rgb, divided.std_rgb)
        assert model.clone(mean_rgb=donor.mean_rgb, std_rgb=donor.std_rgb) == donor


def test_a_start_from_a_net_that_does_not_fit(trained, pictures, tmp_path):
    source = f"workdir:{trained[0] / 's256'}"
    config = make_config(pictures, model__arch="D", stages__s256__init_from=source)
    with pytest.raises(InputError, match=r"stages.s256.init_from=workdir:.*: conv1_2 is missing; conv2_2 is missing"):
        run_chain(config, tmp_path)


@pytest.mark.parametrize(
    "source, sentence",
    [
        ("s256", r"stages.s256.init_from is 's256', but stage:NAME, workdir:DIR/STAGE or weights:FILE is expected"),
        ("workdir:nowhere/s256", r"nowhere/s256 is no stage of a workdir"),
    ],
)
def test_a_start_from_nothing(pictures, tmp_path, source, sentence):
    with pytest.raises(InputError, match=sentence):
        run_chain(make_config(pictures, stages__s256__init_from=source), tmp_path)


def test_the_fourth_plateau_ends_a_stage(pictures, tmp_path, monkeypatch):
    control = {"rate_control__patience": 1, "rate_control__min_delta": 1000.0}  # after the first, no epoch is a best
    config = make_config(pictures, stages__s256__steps=20, train__validate_every=1, train__log_every=1, **control)
    run_chain(config, tmp_path)
    _, info = latest_checkpoint(tmp_path)
    assert info["step"] == 5 and info["progress"]["rate"]["finished"]
    rates = [row["learning_rate"] for row in read_log(tmp_path / "s256") if "learning_rate" in row]
    np.testing.assert_allclose(rates, [1e-2, 1e-2, 1e-3, 1e-4, 1e-5], rtol=1e-12)
    monkeypatch.setattr(chain, "run_stage", no_training)
    run_chain(config, tmp_path)


def test_a_loss_that_is_not_finite(pictures, tmp_path):
    with pytest.raises(
        InputError, match=r"the loss is (nan|inf) at step \d: .* try a smaller learning_rate than 1e\+06"
    ):
        run_chain(make_config(pictures, stages__s256__learning_rate=1e6), tmp_path)
    assert not (tmp_path / "s256" / "finished.json").exists()


@pytest.mark.parametrize("std, warns", [(1e-4, True), (0.1, False)])
def test_a_loss_stuck_at_a_constant_guess(pictures, tmp_path, caplog, std, warns):
    stuck = {"stages__s256__learning_rate": 1e-12, "stages__s256__steps": 1}
    config = make_config(pictures, model__initializer="gaussian", model__initializer_std=std, **stuck)
    with caplog.at_level(logging.WARNING, "vgg_jax.training.loop"):
        run_chain(config, tmp_path)
    assert ("the loss is still ln(4) = 1.386, that of a constant guess" in caplog.text) == warns


def damaged(pictures, folder):
    """A copy with one picture of each split cut off in the middle: (folder, name in train, name in val)."""
    shutil.copytree(pictures, folder)
    names = []
    for split in ("train", "val"):
        source = chain.open_split(make_config(folder), split)
        name = next(source[i].name for i in range(len(source)) if source[i].name.endswith("jpg"))
        (folder / name).write_bytes((folder / name).read_bytes()[:500])
        names.append(name)
    return folder, *names


def test_unreadable_pictures_are_skipped_and_listed(pictures, tmp_path):
    folder, *bad = damaged(pictures, tmp_path / "pictures")
    (row,) = run_chain(make_config(folder, data__on_error="skip"), tmp_path / "workdir")
    assert (tmp_path / "workdir" / "bad_images.txt").read_text().splitlines() == sorted(bad)
    assert row["num_images"] == 3 * CLASSES - 1


@pytest.mark.parametrize("statistics", ["compute", "imagenet"])
def test_an_unreadable_picture_is_named(pictures, tmp_path, statistics):
    folder, in_train, _ = damaged(pictures, tmp_path / "pictures")
    with pytest.raises(InputError, match=in_train):
        run_chain(make_config(folder, data__statistics=statistics), tmp_path / "workdir")


@pytest.mark.parametrize(
    "fields, sentence",
    [
        ({"num_classes": 3}, "num_classes is 3, but the data set has 4 classes"),
        ({"stages__s256__scale": (31, 37)}, "stages.s256.scale begins at 31, smaller than the crop of 32"),
        ({"stages__s256__scale": (40, 37)}, r"stages.s256.scale is \(40, 37\), but a pair"),
        ({"chain": ("s512",)}, "chain names the stage 's512', but config.stages has jitter, s256, s384"),
        ({"train__batch_size": 12}, "batch_size 12 does not divide into 8 micro-batches"),
        ({"train__micro_batches": 4}, "4 micro-batches do not divide over 8 devices"),
        ({"stages__s256__rate_control": "cosine"}, "stages.s256.rate_control is 'cosine'"),
        ({"stages__s256__train_layers": "conv"}, "stages.s256.train_layers is 'conv'"),
        ({"model__dtype": "float16"}, "unknown dtype 'float16'"),
        ({"data__path": "nowhere"}, "nowhere"),
    ],
)
def test_bad_configs(pictures, tmp_path, fields, sentence):
    with pytest.raises(InputError, match=sentence):
        run_chain(make_config(pictures, **fields), tmp_path)


def test_a_config_may_confirm_the_number_of_classes(pictures):
    model = chain.build_model(make_config(pictures, num_classes=CLASSES), IMAGENET_STATISTICS, CLASSES)
    assert model.num_classes == CLASSES


def test_a_config_that_differs_from_the_saved_one(trained, pictures):
    workdir, config, _rows = trained
    other = make_config(pictures, *config.chain, seed=1, model__arch="D")
    with pytest.raises(InputError, match=r"another config: model.arch: saved 'A', now 'D'; seed: saved 0, now 1"):
        run_chain(other, workdir)


def test_a_workdir_that_another_run_writes(pictures, tmp_path):
    with (
        chain.locked(tmp_path),
        pytest.raises(InputError, match=r"another run is writing .*: wait for it to end, or give another --workdir"),
    ):
        run_chain(make_config(pictures), tmp_path)


def test_a_data_set_of_other_classes(trained, tmp_path):
    workdir, config, _ = trained
    other = write_pictures(tmp_path / "other", classes=CLASSES + 1)
    with pytest.raises(InputError, match=r"the data set's classes differ from those in .*classes.txt|has 5 classes"):
        run_chain(make_config(other, *config.chain), workdir)
    with pytest.raises(InputError, match="s256 was trained on 4 classes, but the data set has 5"):
        evaluate_stages([workdir / "s256"], data_path=str(other))


def test_a_checkpoint_of_another_net(trained, pictures, tmp_path):
    """A stage's folder that was copied in from another workdir."""
    shutil.copytree(trained[0] / "s256", tmp_path / "s256", ignore=shutil.ignore_patterns("finished.json"))
    with pytest.raises(InputError, match="is of another model: arch: checkpoint A, now B"):
        run_chain(make_config(pictures, model__arch="B"), tmp_path)
