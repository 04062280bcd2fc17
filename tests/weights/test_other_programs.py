"""Files that other programs wrote, against those programs' own outputs: fixtures/make_*.py made both."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tolerances import ANOTHER_PROGRAM, assert_close

from vgg_jax import InputError
from vgg_jax.architectures import FC_LAYERS
from vgg_jax.eval import dense_eval, dense_scores
from vgg_jax.layers import max_pool
from vgg_jax.weights import load_weights
from vgg_jax.weights.names import ONE, PAPER_MEAN

FIXTURES = Path(__file__).parent / "fixtures"
IMAGES = np.load(FIXTURES / "images.npy")  # two photographs [2, 64, 96, 3]
CAFFE = {"mean_rgb": PAPER_MEAN, "std_rgb": ONE}
TORCH = {"mean_rgb": (123.675, 116.28, 103.53), "std_rgb": (58.395, 57.12, 57.375)}

# file -> (outputs of the program that wrote it, net, fields of the model)
WITH_TOP = {
    "keras_d.h5": ("keras_d", "D", CAFFE),
    "keras_d.weights.h5": ("keras_d", "D", CAFFE),
    "keras_e_model.h5": ("keras_e", "E", CAFFE),
    "torchvision_a.pth": ("torchvision_a", "A", TORCH),
    "torchvision_a_legacy.pth": ("torchvision_a", "A", TORCH),
    "torchvision_b.safetensors": ("torchvision_b", "B", TORCH),
    "torchvision_c.safetensors": ("torchvision_c", "C", TORCH),
    "timm_d.safetensors": ("timm_d", "D", TORCH),
    "timm_d_half.pth": ("timm_d_half", "D", TORCH),
    "torchvision_a.onnx": ("torchvision_a", "A", TORCH),
    "onnx_a_lrn.onnx": (
        "onnx_a_lrn",
        "A-LRN",
        {"mean_rgb": (121, 115, 99), "std_rgb": (2, 3, 4), "lrn": "krizhevsky"},
    ),
    "caffe_d_old.caffemodel": ("caffe_d_old", "D", {**CAFFE, "pool_rounding": "ceil"}),
    "caffe_a_lrn.caffemodel": ("caffe_a_lrn", "A-LRN", {**CAFFE, "pool_rounding": "ceil", "lrn": "caffe"}),
    "matconvnet_d_simplenn.mat": ("matconvnet_d_simplenn", "D", CAFFE),
    "matconvnet_b_dagnn_bgr.mat": ("matconvnet_b_dagnn_bgr", "B", CAFFE),
}
BODIES = {
    "keras_d_notop.h5": ("keras_d", "D", CAFFE),
    "keras_d_notop.weights.h5": ("keras_d", "D", CAFFE),
    "torchvision_d_features.safetensors": (
        "torchvision_d_features",
        "D",
        {"mean_rgb": (122.99925, 116.9991, 103.9992), "std_rgb": ONE},
    ),
}


def assert_fields(model, arch, fields):
    assert (model.arch, model.width_multiplier) == (arch, 0.03)
    for name, value in fields.items():
        if isinstance(value, str):
            assert getattr(model, name) == value
        else:
            np.testing.assert_allclose(getattr(model, name), value, rtol=1e-12)


def pool5(model, params, images):
    """[N, h, w, C] after the last pool, of images of any size; a top of zeros where there is none."""
    body = {name: layer for name, layer in params.items() if name not in FC_LAYERS}
    last = list(body)[-1]
    model = model.clone(crop_size=32, num_classes=1, fully_convolutional=True)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    top = jax.tree.map(lambda a: jnp.zeros(a.shape), {name: shapes[name] for name in FC_LAYERS})
    apply = jax.jit(lambda p, x: model.apply({"params": p}, x, capture_intermediates=lambda m, _: m.name == last)[1])
    activations = apply({**body, **top}, images)["intermediates"][last]["__call__"][0]
    return max_pool(jax.nn.relu(activations), model.pool_rounding)


@pytest.mark.parametrize("file", WITH_TOP)
def test_a_net_gives_the_other_programs_outputs(file):
    name, arch, fields = WITH_TOP[file]
    expected = np.load(FIXTURES / f"{name}.npz")
    model, params = load_weights(FIXTURES / file)
    assert_fields(model, arch, {**fields, "num_classes": 5, "crop_size": 64})
    logits = jax.jit(model.apply)({"params": params}, IMAGES[:, :, :64])
    assert_close(logits, expected["logits"], ANOTHER_PROGRAM)
    if "pool5" in expected:
        assert_close(pool5(model, params, IMAGES), expected["pool5"], ANOTHER_PROGRAM)
    if "pool5_50x90" in expected:
        assert_close(pool5(model, params, IMAGES[:, :50, :90]), expected["pool5_50x90"], ANOTHER_PROGRAM)


@pytest.mark.parametrize("file", ["torchvision_a.pth", "matconvnet_d_simplenn.mat"])
def test_whole_images_give_the_other_programs_maps_of_scores(file):
    model, params = load_weights(FIXTURES / file)
    expected = np.load(FIXTURES / f"{WITH_TOP[file][0]}.npz")["scores"]
    assert expected.shape == (2, 1, 2, 5)
    assert_close(dense_scores(model, params, IMAGES), expected, ANOTHER_PROGRAM)


@pytest.mark.parametrize("file", BODIES)
def test_a_body_gives_the_other_programs_features(file, caplog):
    name, arch, fields = BODIES[file]
    model, params = load_weights(FIXTURES / file)
    assert_fields(model, arch, fields)
    assert_close(pool5(model, params, IMAGES), np.load(FIXTURES / f"{name}.npz")["pool5"], ANOTHER_PROGRAM)
    assert f"{file} has " in caplog.text and "loaded for features alone" in caplog.text
    with pytest.raises(InputError, match=r"params have no fc6: .* of a convolutional body"):
        model.apply({"params": params}, np.zeros((1, model.crop_size, model.crop_size, 3), np.uint8))
    with pytest.raises(InputError, match="params lack fc6"):
        dense_eval(model, params, IMAGES)


def test_the_published_convolutions_on_a_photograph(real_data):
    """D's own kernels in a graph of onnx nodes that takes BGR, on a photograph that is not square."""
    file = np.load(real_data / "vgg16_conv_body.npz")
    photograph = Image.open(sorted((real_data / "imagenet_sample").glob("*.JPEG"))[0]).convert("RGB").resize((128, 96))
    pixels = np.asarray(photograph)[None]
    nodes, constants, value = [], [], "images"
    for block, length in enumerate((2, 2, 3, 3, 3), 1):
        for name in (f"block{block}_conv{index}" for index in range(1, length + 1)):
            kernel, bias = file[f"{name}/kernel"].transpose(3, 2, 0, 1), file[f"{name}/bias"]
            constants += [numpy_helper.from_array(kernel, f"{name}_w"), numpy_helper.from_array(bias, f"{name}_b")]
            nodes += [helper.make_node("Conv", [value, f"{name}_w", f"{name}_b"], [f"{name}_c"], pads=[1] * 4)]
            nodes += [helper.make_node("Relu", [f"{name}_c"], [name])]
            value = name
        nodes += [helper.make_node("MaxPool", [value], [f"pool{block}"], kernel_shape=[2, 2], strides=[2, 2])]
        value = f"pool{block}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("images", value)]
    ends[0] = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 96, 128])
    graph = helper.make_graph(nodes, "d", ends[:1], ends[1:], constants)
    net = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(net.SerializeToString(), providers=["CPUExecutionProvider"])
    bgr = pixels[..., ::-1].astype(np.float32) - np.float32(PAPER_MEAN[::-1])
    expected = session.run(None, {"images": np.ascontiguousarray(bgr.transpose(0, 3, 1, 2))})[0]
    model, params = load_weights(real_data / "vgg16_conv_body.npz")
    assert_close(pool5(model, params, pixels), expected.transpose(0, 2, 3, 1), ANOTHER_PROGRAM)
