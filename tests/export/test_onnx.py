"""Exported ONNX, run by onnxruntime: the values of an independently built graph, and the same net when read again."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from narrow_nets import FC, as_nhwc, expected, in_layout, narrow, noise
from tolerances import ANOTHER_PROGRAM, assert_close

from vgg_jax import InputError
from vgg_jax.architectures import ARCHITECTURES
from vgg_jax.export import export_onnx
from vgg_jax.weights import load_weights

NETS = [(arch, {}) for arch in ARCHITECTURES] + [("A-LRN", {"lrn": "caffe"})]
FORMS = [("crop", "NHWC"), ("dense", "NCHW"), ("pool5", "NHWC")]
CROPS, ANY_SIZE = ((1, 64, 64), (3, 64, 64)), ((2, 64, 64), (1, 97, 130))


def run(path, images):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"images": images})[0]


def without_fc(params):
    return {name: layer for name, layer in params.items() if name not in FC}


@pytest.mark.parametrize("pool_rounding", ["floor", "ceil"])
@pytest.mark.parametrize(("arch", "fields"), NETS)
def test_every_net_in_every_form(tmp_path, arch, fields, pool_rounding):
    model, params = narrow(arch, pool_rounding=pool_rounding, **fields)
    for form, layout in FORMS:
        path = tmp_path / f"{form}.onnx"
        export_onnx(path, model, without_fc(params) if form == "pool5" else params, form=form, layout=layout)
        onnx.checker.check_model(path, full_check=True)
        for size in CROPS if form == "crop" else ANY_SIZE:
            images = noise(*size)
            ours = as_nhwc(run(path, in_layout(images, layout)), layout)
            assert_close(ours, expected(model, params, form, images), ANOTHER_PROGRAM)


@pytest.mark.parametrize(("form", "layout"), [*FORMS, ("crop", "NCHW"), ("dense", "NHWC"), ("pool5", "NCHW")])
def test_what_was_written_is_read_again_to_the_bit(tmp_path, form, layout):
    model, params = narrow("A-LRN", lrn="caffe", pool_rounding="ceil", mean_rgb=(121.37, 0.0, 99.1))
    export_onnx(tmp_path / "net.onnx", model, params, form=form, layout=layout)
    read, restored = load_weights(tmp_path / "net.onnx")
    assert read == model
    written = without_fc(params) if form == "pool5" else params
    assert jax.tree.structure(restored) == jax.tree.structure(written)
    assert jax.tree.all(jax.tree.map(lambda a, b: np.asarray(a).tobytes() == b.tobytes(), restored, written))


def test_both_layouts_give_the_same(tmp_path):
    model, params = narrow("C")
    results = []
    for layout in ("NHWC", "NCHW"):
        export_onnx(tmp_path / f"{layout}.onnx", model, params, form="dense", layout=layout)
        results.append(as_nhwc(run(tmp_path / f"{layout}.onnx", in_layout(noise(1, 97, 130), layout)), layout))
    np.testing.assert_array_equal(*results)


def test_the_file_says_what_it_is(tmp_path):
    model, params = narrow("A", dtype=jnp.bfloat16)
    export_onnx(tmp_path / "net.onnx", model, params, classes=("cat", "dog", "Kuh", "ß", "e"))
    proto = onnx.load(tmp_path / "net.onnx")
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    assert proto.producer_name == "vgg_jax" and proto.opset_import[0].version == 13
    assert json.loads(metadata["model"])["arch"] == "A" and json.loads(metadata["model"])["std_rgb"] == [2, 3, 4]
    assert json.loads(metadata["classes"]) == ["cat", "dog", "Kuh", "ß", "e"]
    assert metadata["form"] == "crop" and "NHWC, RGB, values 0..255" in metadata["input"]
    assert json.loads(metadata["versions"])["onnx"] == onnx.__version__
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (images,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.shape, images.type) == ("images", ["N", 64, 64, 3], "tensor(float)")
    assert (logits.name, logits.shape) == ("logits", ["N", 5])


def test_mistakes(tmp_path, monkeypatch):
    model, params = narrow("A")
    misshapen = {**params, "conv2_1": {**params["conv2_1"], "bias": params["conv1_1"]["bias"]}}
    wide = {**params, "fc6": {**params["fc6"], "kernel": np.broadcast_to(np.float32(0), (4 * 15, 10**8))}}
    (tmp_path / "folder.onnx").mkdir()
    for call, sentence in (
        (
            lambda: export_onnx("x", model, without_fc(params)),
            "no fc6, fc7, fc8, .* form crop needs: .* form pool5",
        ),
        (lambda: export_onnx("x", model, {}), "the params have no conv1_1, .*, which the form crop needs$"),
        (lambda: export_onnx("x", model, misshapen), "do not fit the net A: .*conv2_1"),
        (lambda: export_onnx("x", model, wide), "do not fit the net A: .*fc6"),
        (lambda: export_onnx("x", model, params, form="fc8"), "unknown form 'fc8': choose one of crop, dense, pool5"),
        (lambda: export_onnx("x", model, params, layout="CHWN"), "unknown layout 'CHWN'"),
        (lambda: export_onnx("x", model, params, classes=["a"]), "1 class names for x, but the model has 5"),
        (lambda: export_onnx(tmp_path / "folder.onnx", model, params), r"folder\.onnx cannot be written: Is a direct"),
    ):
        with pytest.raises(InputError, match=sentence):
            call()
    monkeypatch.setattr("vgg_jax.export.files.MAX_BYTES", 1000)
    with pytest.raises(InputError, match=r"net\.onnx would hold \d+ bytes of params, but"):
        export_onnx(tmp_path / "net.onnx", model, params)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"net\.onnx is ONNX, which needs onnx: pip install 'vgg_jax\[export\]'"):
        export_onnx(tmp_path / "net.onnx", model, params)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.onnx"]
