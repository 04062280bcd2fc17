"""experiments/export.py, run as a user does."""

import json

import onnx
import pytest
from narrow_nets import narrow
from running_scripts import assert_one_error_line, script

from vgg_jax.weights import save_weights

BROKEN_RUNTIME = """
import numpy as np

class InferenceSession:
    def __init__(self, path, providers):
        pass

    def run(self, outputs, inputs):
        return [np.full((len(inputs["images"]), 5), np.nan)]
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_weights(path, *narrow("A"), metadata={"classes": json.dumps(list("abcde"))})
    return path


def test_a_file_is_written_and_checked(weights, tmp_path):
    out = tmp_path / "net.onnx"
    run = script("export.py", weights, out, "--form=dense", "--layout=NCHW", "--check")
    assert run.returncode == 0, run.stderr
    first, *checks = run.stdout.splitlines()
    assert first.startswith(f"wrote {out}: net A, width 0.03, 5 classes, crop 64")
    assert [line.partition(":")[0] for line in checks] == [
        f"images {shape}" for shape in ([1, 3, 64, 64], [2, 3, 97, 130], [3, 3, 128, 65])
    ]
    metadata = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    assert json.loads(metadata["classes"]) == list("abcde")
    assert_one_error_line(script("export.py", weights, out), str(out), "exists", "--overwrite")


def test_a_file_that_computes_something_else_is_an_error(weights, tmp_path, monkeypatch):
    (tmp_path / "onnxruntime.py").write_text(BROKEN_RUNTIME)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    run = script("export.py", weights, tmp_path / "net.onnx", "--check")
    assert_one_error_line(run, "net.onnx does not compute what the net does")
