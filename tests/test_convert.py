"""experiments/convert.py, run as a user does."""

import json
import struct
from pathlib import Path

import jax
import numpy as np
import pytest
from running_scripts import assert_one_error_line, script
from safetensors import safe_open

from vgg_jax.weights import load_weights

FIXTURES = Path(__file__).parent / "weights" / "fixtures"


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    out = tmp_path_factory.mktemp("converted") / "net.safetensors"
    return out, script("convert.py", FIXTURES / "caffe_d_old.caffemodel", out)


def test_a_file_is_converted_and_what_was_recognised_is_printed(converted):
    out, run = converted
    assert run.returncode == 0, run.stderr
    assert "Caffe (.caffemodel), conv1_1 takes BGR (as published), net D, width 0.03, 5 classes, crop 64" in run.stderr
    assert "mean RGB 123.68, 116.779, 103.939" in run.stderr
    assert run.stdout.startswith(f"wrote {out} and net.safetensors.md, layout vgg_jax: net D")
    assert "# Net D" in Path(f"{out}.md").read_text()
    ours, theirs = load_weights(out), load_weights(FIXTURES / "caffe_d_old.caffemodel")
    assert ours[0] == theirs[0]
    assert jax.tree.all(jax.tree.map(np.array_equal, ours[1], theirs[1]))
    data = out.read_bytes()
    header = json.loads(data[8:][: struct.unpack("<Q", data[:8])[0]])
    assert header["__metadata__"]["format"] == "vgg_jax"


def test_nothing_is_overwritten_unasked(converted):
    out, before = converted[0], converted[0].read_bytes()
    run = script("convert.py", FIXTURES / "keras_d_notop.h5", out)
    assert_one_error_line(run, str(out), "exists", "--overwrite")
    assert out.read_bytes() == before


def test_options_reach_the_reader(tmp_path):
    out = tmp_path / "net.safetensors"
    out.touch()
    arguments = ("--arch=A-LRN", "--input_order=BGR", "--overwrite")
    run = script("convert.py", FIXTURES / "torchvision_a.pth", out, *arguments)
    assert run.returncode == 0, run.stderr
    assert "conv1_1 takes BGR (as asked for), net A-LRN" in run.stderr
    assert load_weights(out)[0].arch == "A-LRN"


def test_another_programs_layout(tmp_path):
    out = tmp_path / "net.safetensors"
    run = script("convert.py", FIXTURES / "caffe_d_old.caffemodel", out, "--layout=torchvision")
    assert run.returncode == 0, run.stderr
    assert "warning: " in run.stderr and "not torchvision's usual mean and std" in run.stderr
    with safe_open(out, framework="numpy") as file:
        assert "classifier.0.weight" in file.keys()  # noqa: SIM118 (it is no dict)
    ours, theirs = load_weights(out), load_weights(FIXTURES / "caffe_d_old.caffemodel")
    assert ours[0] == theirs[0]
    assert jax.tree.all(jax.tree.map(np.array_equal, ours[1], theirs[1]))


def test_mistakes_are_one_sentence(tmp_path):
    assert_one_error_line(script("convert.py", FIXTURES / "images.npy", tmp_path / "a.safetensors"), "no weights file")
    assert_one_error_line(script("convert.py", FIXTURES / "keras_d.h5"), "OUT missing")
    assert list(tmp_path.iterdir()) == []
