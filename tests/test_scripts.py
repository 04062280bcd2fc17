import json
import os
import shutil

import pytest
from running_scripts import EXPERIMENTS, assert_one_error_line, script, write_config

from vgg_jax.weights import load_weights, save_weights
from vgg_jax.weights.load import load_stage


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts")
    return write_config(folder, 8, steps=1, data={"statistics": "imagenet"}, batch_size=8)


@pytest.fixture(scope="module")
def workdir(config_file):
    workdir = config_file.parent / "workdir"
    run = script("train.py", f"--config={config_file}", f"--workdir={workdir}")
    assert run.returncode == 0, run.stderr
    assert "| s256  | A   | 37        | 37       | dense  | -     | yes  | floor | pictures | val   | 4 " in run.stdout
    assert f"results.json and learning_curve.png are in {workdir}" in run.stdout
    return workdir


def test_train_from_the_folder_of_the_scripts(config_file, workdir):
    """A second call skips the finished stage; --config is found from here as well."""
    name = os.path.relpath(config_file, EXPERIMENTS)
    run = script("train.py", "--config", name, f"--workdir={workdir}", cwd=EXPERIMENTS)
    assert run.returncode == 0, run.stderr
    assert "s256: finished (1 steps), skipped" in run.stderr
    assert len(json.loads((workdir / "results.json").read_text())["rows"]) == 1


def test_evaluate_adds_the_three_scale_row_and_replaces_its_own(workdir):
    for _ in range(2):
        run = script("evaluate.py", f"--workdir={workdir}")
        assert run.returncode == 0, run.stderr
        assert "| 37       | dense" in run.stdout and "| 32,37,42 | dense" in run.stdout
        rows = json.loads((workdir / "results.json").read_text())["rows"]
        assert [row["test_scales"] for row in rows] == [[37], [32, 37, 42]]


def test_fusion_weights_and_the_other_protocols(workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "other")
    arguments = (f"--workdir={workdir},{tmp_path / 'other' / 's256'}", "--protocol=both", "--save_posteriors")
    run = script("evaluate.py", *arguments, "--stage=s256", f"--output={tmp_path / 'out'}")
    assert run.returncode == 0, run.stderr
    assert "(A/37/32,37,42), (A/37/32,37,42)" in run.stdout and "multi_crop+dense" in run.stdout
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert len(rows) == 12 + 3 and len({row["workdir"] for row in rows}) == 3  # two workdirs, and None of the fusions
    save_weights(tmp_path / "a.safetensors", *load_weights(workdir / "s256"))
    pictures = ("--data_path", str(workdir.parent / "pictures"), "--on_error=skip")
    run = script("evaluate.py", f"--weights={tmp_path / 'a.safetensors'}", *pictures, "--scales=37", "--expect=keras_d")
    assert run.returncode == 0, run.stderr
    assert "not run: --protocol=centre_crop --scales=256 --noflip" in run.stdout
    assert "| file " in run.stdout and "| all   | 16 " in run.stdout
    run = script("evaluate.py", f"--weights={tmp_path / 'a.safetensors'}", *pictures, "--scales=37", "--split=val")
    assert_one_error_line(run, "has no val split")
    run = script("evaluate.py", f"--weights={tmp_path / 'a.safetensors'}", *pictures)
    assert_one_error_line(run, "give --scales")
    assert_one_error_line(script("evaluate.py"), "give --workdir=DIR[,DIR...] or --weights=FILE")


def test_evaluate_at_given_scales(workdir):
    arguments = ("--stage=s256", "--scales=40,50", "--checkpoint=latest", "--split=train", "--noflip")
    run = script("evaluate.py", f"--workdir={workdir}", *arguments, cwd=EXPERIMENTS)
    assert run.returncode == 0, run.stderr
    row = json.loads((workdir / "results.json").read_text())["rows"][-1]
    expected = {"test_scales": [40, 50], "checkpoint": "latest", "split": "train", "flip": False, "num_images": 12}
    assert {field: row[field] for field in expected} == expected


def test_a_stage_is_converted_with_its_training_classes_and_errors(workdir, tmp_path):
    run = script("convert.py", workdir / "s256", tmp_path / "net.safetensors", "--layout=torchvision")
    assert run.returncode == 0, run.stderr
    info = load_stage(tmp_path / "net.safetensors")[2]
    assert info["classes"] == ["class0", "class1"]
    assert (info["stage"], info["train_scale"], info["seed"]) == ("s256", [37, 37], 0)
    card = (tmp_path / "net.safetensors.md").read_text()
    rows = json.loads((workdir / "results.json").read_text())["rows"]
    assert rows and all(f"{row['top1_error']:.2f}" in card for row in rows if row["step"] == info["step"])
    assert "## Errors\n\n| stage" in card


@pytest.mark.parametrize(
    "argument, words",
    [
        ("--config.train.batch_sise=8", ["batch_sise"]),
        ("--config.train.batch_size=many", ["many"]),
        ("--config.train.batch_size=7", ["batch_size 7 does not divide into 8 micro-batches"]),
        ("--config.data.path=nowhere", ["nowhere"]),
        ("--wordkir=there", ["wordkir"]),
        ("extra", ["unexpected argument 'extra'"]),
    ],
)
def test_mistakes_end_train_in_one_sentence(config_file, tmp_path, argument, words):
    run = script("train.py", f"--config={config_file}", f"--workdir={tmp_path / 'workdir'}", argument)
    assert_one_error_line(run, *words)


def test_a_missing_config_names_the_known_ones():
    run = script("train.py", "--config=configs/vgg17.py")
    assert_one_error_line(run, "configs/vgg17.py", "configs/quickstart.py", "configs/vgg16_jitter.py")
    assert_one_error_line(script("train.py"), "config")


def test_mistakes_end_evaluate_in_one_sentence(workdir, tmp_path):
    assert_one_error_line(script("evaluate.py", f"--workdir={tmp_path}"), f"{tmp_path} is no workdir of train.py")
    run = script("evaluate.py", f"--workdir={workdir}", "--scales=37,large")
    assert_one_error_line(run, "scales are 37,large, but whole numbers are expected")
