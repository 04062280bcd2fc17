"""What load_weights makes of names, shapes, layouts and orders; test_other_programs.py proves it by outputs."""

import logging
import sys
from collections import Counter
from pathlib import Path

import h5py
import jax
import numpy as np
import onnx
import pytest
from flax.serialization import to_bytes
from safetensors.numpy import load_file, save_file

from vgg_jax import VGG, InputError
from vgg_jax.architectures import ARCHITECTURES, FC_LAYERS, layer_names
from vgg_jax.model import scaled
from vgg_jax.weights import load_weights
from vgg_jax.weights.assemble import _width

FIXTURES = Path(__file__).parent / "fixtures"
KERAS = FIXTURES / "keras_d.h5"


def assert_same(ours, expected):
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    assert jax.tree.all(jax.tree.map(np.array_equal, ours, expected))


def keras_arrays():
    """{("block1_conv1", "kernel"): array, ...}, read by h5py."""
    arrays = {}

    def note(path, item):
        if isinstance(item, h5py.Dataset):
            arrays[path.split("/")[0], path.split("/")[-1]] = item[()]

    with h5py.File(KERAS) as file:
        file.visititems(note)
    return arrays


def our_name(layer):
    return {"fc1": "fc6", "fc2": "fc7", "predictions": "fc8"}.get(
        layer, layer.replace("block", "conv").replace("_conv", "_")
    )


# -- the same weights in other names and layouts


@pytest.mark.parametrize(
    "name",
    [
        lambda layer, role: f"{layer}_{role[0].replace('k', 'W')}",  # block1_conv1_W
        lambda layer, role: f"{layer}/{role}",
        lambda layer, role: f"{layer}/{role}:0",
        lambda layer, role: f"{our_name(layer)}_{role[0].replace('k', 'W')}",  # conv1_1_W
        lambda layer, role: f"{our_name(layer)}/{role}",
    ],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_in_the_names_of_keras_and_caffe(tmp_path, name, save):
    save(tmp_path / "net.npz", **{name(*key): array for key, array in keras_arrays().items()})
    model, params = load_weights(tmp_path / "net.npz")
    expected = load_weights(KERAS)
    assert model == expected[0]
    assert_same(params, expected[1])


def test_npz_in_the_layout_of_caffe(tmp_path):
    """[out, in, h, w], and fc6's inputs in C, H, W order."""
    arrays = {}
    for (layer, role), array in keras_arrays().items():
        if layer == "fc1" and role == "kernel":
            array = array.reshape(2, 2, -1, array.shape[1]).transpose(2, 0, 1, 3).reshape(array.shape)
        if role == "kernel":
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        arrays[f"{our_name(layer)}_{'W' if role == 'kernel' else 'b'}"] = array
    np.savez(tmp_path / "net.npz", **arrays)
    assert_same(load_weights(tmp_path / "net.npz")[1], load_weights(KERAS)[1])


@pytest.mark.parametrize("wrap", [lambda params: params, lambda params: {"params": params, "step": 3}])
def test_msgpack_of_flax(tmp_path, wrap):
    _, params = load_weights(KERAS)
    (tmp_path / "net").write_bytes(to_bytes(wrap(params)))
    model, restored = load_weights(tmp_path / "net")
    assert (model.arch, model.num_classes, model.crop_size, model.width_multiplier) == ("D", 5, 64, 0.03)
    assert_same(restored, params)


def test_our_names_without_a_models_fields(tmp_path):
    _, params = load_weights(KERAS)
    flat = {f"{name}/{role}": np.asarray(a) for name, layer in params.items() for role, a in layer.items()}
    save_file(flat, tmp_path / "net")
    assert_same(load_weights(tmp_path / "net")[1], params)


@pytest.mark.parametrize("arch", ["A", "B", "B-5x5", "C", "D", "E"])
@pytest.mark.parametrize("has_top", [True, False])
def test_layers_without_known_names_are_known_by_their_order(arch, has_top, tmp_path):
    """As conv2d, conv2d_1, ..., dense, dense_1, dense_2 in a .weights.h5; for every net."""
    model = VGG(arch=arch, num_classes=3, width_multiplier=0.02, crop_size=32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.uint8))["params"]
    with h5py.File(tmp_path / "net.weights.h5", "w") as file:
        kinds = Counter()
        for position, name in enumerate(n for n in layer_names(arch) if has_top or n not in FC_LAYERS):
            kind = "dense" if name in FC_LAYERS else "conv2d"
            group = f"{kind}_{kinds[kind]}" if kinds[kind] else kind
            kinds[kind] += 1
            for index, role in enumerate(("kernel", "bias")):
                file[f"layers/{group}/vars/{index}"] = np.full(shapes[name][role].shape, position, np.float32)
    loaded, params = load_weights(tmp_path / "net.weights.h5")
    assert (loaded.arch, loaded.num_classes if has_top else 3) == (arch, 3)
    assert params.keys() == {name for name in layer_names(arch) if has_top or name not in FC_LAYERS}
    order = [float(params[name]["kernel"].max()) for name in layer_names(arch) if name in params]
    assert order == list(range(len(order)))


def test_the_names_of_keras_1(tmp_path):
    """block1_conv1/block1_conv1_W_1:0, as in the files published for Keras 1 and 2."""
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file.attrs["layer_names"] = np.array(sorted({layer for layer, _ in keras_arrays()}), "S")
        for (layer, role), array in keras_arrays().items():
            file[f"{layer}/{layer}_{'W' if role == 'kernel' else 'b'}_1:0"] = array
    assert_same(load_weights(tmp_path / "net.h5")[1], load_weights(KERAS)[1])


def test_without_h5py_a_keras_file_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"is an HDF5 file, which needs h5py: pip install 'vgg_jax\[keras\]'"):
        load_weights(KERAS)


def test_the_name_of_the_file_does_not_matter(tmp_path):
    for file in ("keras_d.h5", "torchvision_a.pth", "caffe_d_old.caffemodel", "onnx_a_lrn.onnx"):
        (tmp_path / "weights.txt").write_bytes((FIXTURES / file).read_bytes())
        assert_same(load_weights(tmp_path / "weights.txt")[1], load_weights(FIXTURES / file)[1])


def test_the_body_in_the_published_names(real_data):
    """The published D's convolutions: BGR kernels, so ours are the file's with red and blue exchanged."""
    model, params = load_weights(real_data / "vgg16_conv_body.npz")
    assert (model.arch, model.width_multiplier, len(params)) == ("D", 1.0, 13)
    with np.load(real_data / "vgg16_conv_body.npz") as file:
        np.testing.assert_array_equal(params["conv1_1"]["kernel"], file["block1_conv1/kernel"][:, :, ::-1])
        np.testing.assert_array_equal(params["conv5_3"]["kernel"], file["block5_conv3/kernel"])


# -- what the caller may say


@pytest.mark.parametrize(
    ("file", "usual"), [("keras_d.h5", "BGR"), ("torchvision_a.pth", "RGB"), ("caffe_d_old.caffemodel", "BGR")]
)
def test_the_order_of_channels_is_the_programs_unless_given(file, usual, caplog):
    caplog.set_level(logging.INFO, "vgg_jax")
    unsaid, rgb, bgr = (load_weights(FIXTURES / file, input_order=order)[1] for order in (None, "RGB", "BGR"))
    np.testing.assert_array_equal(rgb["conv1_1"]["kernel"], bgr["conv1_1"]["kernel"][:, :, ::-1])
    assert not np.array_equal(rgb["conv1_1"]["kernel"], bgr["conv1_1"]["kernel"])
    assert_same(unsaid, {"RGB": rgb, "BGR": bgr}[usual])
    assert f"conv1_1 takes {usual} (as published)" in caplog.messages[0]
    assert "conv1_1 takes RGB (as asked for)" in caplog.messages[1]


def test_a_mean_in_the_file_follows_the_order():
    file = FIXTURES / "matconvnet_b_dagnn_bgr.mat"
    assert load_weights(file)[0].mean_rgb == (123.68, 116.779, 103.939)
    assert load_weights(file, input_order="RGB")[0].mean_rgb == (103.939, 116.779, 123.68)


def test_shapes_that_fit_a_and_a_lrn():
    file = FIXTURES / "torchvision_a.pth"
    assert load_weights(file)[0].arch == "A"
    assert load_weights(file, "A-LRN")[0].arch == "A-LRN"
    assert load_weights(FIXTURES / "caffe_a_lrn.caffemodel")[0].arch == "A-LRN"
    assert load_weights(FIXTURES / "caffe_a_lrn.caffemodel", arch="A")[0].arch == "A"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"arch": "E"}, r"has not the layers of a net E: the kernel of conv3_4 \(block3_conv4\) is missing"),
        ({"arch": "B"}, r"not the layers of a net B: block3_conv3 \(bias\) is extra"),
        (
            {"arch": "C"},
            r"conv3_3 \(block3_conv3\) has shape \[3, 3, 8, 8\] but \[1, 1, 8, 8\] is needed",
        ),
        ({"arch": "F"}, "unknown architecture 'F'"),
        ({"input_order": "GRB"}, "unknown input_order 'GRB': choose one of RGB, BGR"),
    ],
)
def test_what_contradicts_the_file(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        load_weights(KERAS, **arguments)


# -- layers that are missing, extra, misshapen


def changed(tmp_path, change):
    arrays = load_file(FIXTURES / "torchvision_b.safetensors")
    change(arrays)
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, tmp_path / "net")
    return tmp_path / "net"


def test_every_missing_and_extra_layer_is_named(tmp_path):
    def change(arrays):
        del arrays["features.2.weight"], arrays["features.2.bias"], arrays["classifier.6.bias"]
        arrays["features.1.running_mean"] = arrays["features.99.weight"] = np.zeros(3, np.float32)

    with pytest.raises(InputError) as raised:
        load_weights(changed(tmp_path, change))
    assert str(raised.value) == (
        f"{tmp_path / 'net'} (safetensors) has not the layers of a net B: "
        "the kernel of conv1_2 (features.2) is missing; the bias of conv1_2 (features.2) is missing; "
        "the bias of fc8 (classifier.6) is missing; "
        "features.1.running_mean (features.1.running_mean) is extra; features.99 (kernel) is extra"
    )


def test_every_misshapen_layer_is_named(tmp_path):
    def change(arrays):
        arrays["features.0.weight"] = arrays["features.0.weight"].transpose(0, 1, 3, 2)[..., :2]
        arrays["classifier.3.weight"] = arrays["classifier.3.weight"][:, :-1]
        arrays["classifier.6.bias"] = np.zeros(7, np.float32)

    with pytest.raises(InputError) as raised:
        load_weights(changed(tmp_path, change))
    assert str(raised.value) == (
        f"{tmp_path / 'net'} (safetensors) does not fit a net B with width 0.03, crops of 64 and 5 classes "
        "(shapes as H, W, in, out): "
        "the kernel of conv1_1 (features.0) has shape [3, 2, 3, 2] but [3, 3, 3, 2] is needed; "
        "the kernel of fc7 (classifier.3) has shape [122, 123] but [123, 123] is needed; "
        "the bias of fc8 (classifier.6) has shape [7] but [5] is needed"
    )


def test_all_faults_stand_in_one_sentence(tmp_path):
    def change(arrays):
        del arrays["features.2.weight"]
        arrays["features.99.weight"] = arrays["classifier.6.bias"] = np.zeros(7, np.float32)

    with pytest.raises(InputError) as raised:
        load_weights(changed(tmp_path, change))
    assert str(raised.value) == (
        f"{tmp_path / 'net'} (safetensors) has not the layers of a net B: "
        "the kernel of conv1_2 (features.2) is missing; features.99 (kernel) is extra; "
        "of those it has, with width 0.03, crops of 64 and 5 classes (shapes as H, W, in, out): "
        "the bias of fc8 (classifier.6) has shape [7] but [5] is needed"
    )


def test_a_header_that_begins_as_a_pickle(tmp_path):
    """A safetensors file begins with its header's length: 80 05 00 .. is one of 1408 bytes, and opens a pickle too."""
    arrays = load_file(FIXTURES / "torchvision_b.safetensors")
    save_file(arrays, tmp_path / "net")
    data = (tmp_path / "net").read_bytes()
    header = int.from_bytes(data[:8], "little")
    padded = next(n for n in range(header, header + 2**17) if n % 256 == 128 and n // 256 % 256 < 6)  # by spaces
    data = padded.to_bytes(8, "little") + data[8 : 8 + header].ljust(padded) + data[8 + header :]
    (tmp_path / "net").write_bytes(data)
    assert data[0] == 0x80 and data[1] < 6
    assert load_weights(tmp_path / "net")[0] == load_weights(FIXTURES / "torchvision_b.safetensors")[0]


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))),
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), ((127.5,) * 3, (127.5,) * 3)),
        ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), ((0.0,) * 3, (1.0,) * 3)),
        ((124.0, 117.0, 104.0), (1.0, 1.0, 1.0), ((124.0, 117.0, 104.0), (1.0,) * 3)),
    ],
)
def test_the_range_of_an_onnx_files_images(tmp_path, mean, std, expected, caplog):
    """A graph that normalizes as torchvision does takes images in 0..1."""
    proto = onnx.load(FIXTURES / "torchvision_a.onnx")
    name = proto.graph.input[0].name
    for node in proto.graph.node:
        node.input[:] = ["normalized" if i == name else i for i in node.input]
    for constant, value in (("mean", mean), ("std", std)):
        array = np.array(value, np.float32).reshape(1, 3, 1, 1)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, constant))
    proto.graph.node.insert(0, onnx.helper.make_node("Sub", [name, "mean"], ["centred"]))
    proto.graph.node.insert(1, onnx.helper.make_node("Div", ["centred", "std"], ["normalized"]))
    onnx.save(proto, tmp_path / "net.onnx")
    caplog.set_level(logging.INFO, "vgg_jax")
    model, params = load_weights(tmp_path / "net.onnx")
    np.testing.assert_allclose(model.mean_rgb, expected[0], rtol=1e-6)
    np.testing.assert_allclose(model.std_rgb, expected[1], rtol=1e-6)
    assert ("which takes 0..1" in caplog.text) == (max(std) < 1)
    assert_same(params, load_weights(FIXTURES / "torchvision_a.onnx")[1])


def test_a_top_that_is_not_square(tmp_path):
    def flat(arrays):
        kernel = arrays["pre_logits.fc1.weight"]
        arrays["pre_logits.fc1.weight"] = kernel.reshape(*kernel.shape[:2], 1, 4)

    arrays = load_file(FIXTURES / "timm_d.safetensors")
    flat(arrays)
    save_file(arrays, tmp_path / "net")
    with pytest.raises(InputError, match=r"kernel of fc6 \(pre_logits\.fc1\) has shape \[1, 4, 15, 123\]"):
        load_weights(tmp_path / "net")


def test_a_top_of_which_a_part_is_missing_is_no_body(tmp_path):
    def change(arrays):
        for name in [name for name in arrays if name.startswith(("classifier.0", "classifier.3"))]:
            del arrays[name]

    with pytest.raises(InputError, match=r"the kernel of fc6 \(classifier\.0\) is missing; .* fc7"):
        load_weights(changed(tmp_path, change))


def test_nan_in_a_convolution(tmp_path):
    def change(arrays):
        arrays["features.2.bias"][0] = np.inf
        arrays["features.5.weight"][0] = np.nan

    with pytest.raises(InputError, match="holds NaN or infinity in conv1_2, conv2_1"):
        load_weights(changed(tmp_path, change))


def test_integers_are_no_weights(tmp_path):
    def change(arrays):
        arrays["features.0.weight"] = arrays["features.0.weight"].astype(np.int32)

    with pytest.raises(InputError, match=r"its array features\.0\.weight is I32, but floats are expected"):
        load_weights(changed(tmp_path, change))


@pytest.mark.parametrize("width", [1.0, 0.5, 0.25, 0.0625, 0.03, 0.02, 0.75, 1.5, 0.001, 1 / 3])
@pytest.mark.parametrize("has_top", [True, False])
def test_the_width_is_found_from_channels(width, has_top):
    full = [layer.channels for block in ARCHITECTURES["D"] for layer in block] + [4096, 4096] * has_top
    pairs = [(channels, scaled(channels, width)) for channels in full]
    found = _width(pairs)
    assert [(channels, scaled(channels, found)) for channels in full] == pairs
    if has_top and width not in (0.001, 1 / 3):
        assert found == width
