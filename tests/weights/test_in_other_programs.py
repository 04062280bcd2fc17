"""Files that we write, loaded by torchvision, timm and Keras, and theirs by us, at full width, on photographs.

The programs are no part of the test extra; where one is absent its tests skip. They take minutes and some GB of memory:

python -m venv PROGRAMS && PROGRAMS/bin/pip install -e '.[test]' torch torchvision timm keras
KERAS_BACKEND=jax VGG_JAX_DATA=DATA PROGRAMS/bin/python -m pytest -n 0 tests/weights/test_in_other_programs.py
"""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tolerances import ANOTHER_PROGRAM, assert_close

from vgg_jax import VGG, features
from vgg_jax.architectures import FC_LAYERS
from vgg_jax.weights import load_weights, save_weights
from vgg_jax.weights.names import PAPER_MEAN, TORCH_MEAN, TORCH_STD

os.environ.setdefault("KERAS_BACKEND", "jax")
pytestmark = pytest.mark.filterwarnings("ignore")  # of other programs

CLASSES = 11
TORCH_VISION = {"mean_rgb": TORCH_MEAN, "std_rgb": TORCH_STD}
TORCH_NETS = {"A": "vgg11", "B": "vgg13", "D": "vgg16", "E": "vgg19"}


def net(arch, folder, **fields):
    """A full-width net: D has the published convolutions, everything else is random; no kernel is symmetric."""
    model = VGG(arch=arch, num_classes=CLASSES, **fields)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3), jnp.uint8))["params"]
    rng = np.random.default_rng(1)

    def draw(shape):
        fan_in = np.prod(shape.shape[:-1])
        scale = np.sqrt(2 / fan_in) if len(shape.shape) > 1 else 0.1
        return (rng.standard_normal(shape.shape, np.float32) * np.float32(scale)).astype(np.float32)

    params = jax.tree.map(draw, shapes)
    return model, {**params, **load_weights(folder / "vgg16_conv_body.npz")[1]} if arch == "D" else params


@pytest.fixture(scope="module")
def photographs(real_data):
    """[2, 224, 320, 3]: not square."""
    files = sorted((real_data / "imagenet_sample").glob("*.JPEG"))[:2]
    return np.stack([np.asarray(Image.open(file).convert("RGB").resize((320, 224))) for file in files])


def ours(model, params, photographs):
    """(logits of the left square, pool5 of the whole photograph)."""
    logits = jax.jit(model.apply)({"params": params}, photographs[:, :, :224])
    return logits, features(model, params, photographs, ("pool5",))["pool5"]


def assert_outputs(theirs, expected):
    for a, b in zip(theirs, expected):
        assert_close(np.asarray(a), b, ANOTHER_PROGRAM)


def assert_same_params(theirs, written):
    """What the program saves of the net whose outputs were compared is read to the same bits."""
    assert jax.tree.all(jax.tree.map(np.array_equal, load_weights(theirs)[1], load_weights(written)[1]))


@pytest.mark.parametrize("program", ["torchvision", "timm"])
@pytest.mark.parametrize(("arch", "fields"), [("A", TORCH_VISION), ("B", TORCH_VISION), ("D", {}), ("E", TORCH_VISION)])
def test_torch_gives_our_outputs(program, arch, fields, photographs, real_data, tmp_path):
    """D keeps the authors' mean: what torch must subtract is told by the file's own metadata."""
    torch = pytest.importorskip("torch", reason="torch is absent, see above")
    library = pytest.importorskip(program, reason=f"{program} is absent, see above")
    from safetensors.torch import load_file

    model, params = net(arch, real_data, **fields)
    save_weights(tmp_path / "net.safetensors", model, params, layout=program)
    expected = ours(model, params, photographs)
    del params
    if program == "torchvision":
        module = getattr(library.models, TORCH_NETS[arch])(num_classes=CLASSES)
    else:
        module = library.create_model(TORCH_NETS[arch], num_classes=CLASSES)
    module.load_state_dict(load_file(tmp_path / "net.safetensors"))  # strict
    told = load_weights(tmp_path / "net.safetensors")[0]
    mean, std = (torch.tensor(rgb).reshape(1, 3, 1, 1) / 255 for rgb in (told.mean_rgb, told.std_rgb))
    with torch.no_grad():
        x = (torch.tensor(photographs).permute(0, 3, 1, 2) / 255 - mean) / std
        module.eval()
        assert_outputs((module(x[..., :224]), module.features(x).permute(0, 2, 3, 1)), expected)
    torch.save(module.state_dict(), tmp_path / "theirs.pth")
    del module
    assert_same_params(tmp_path / "theirs.pth", tmp_path / "net.safetensors")


@pytest.mark.parametrize(("arch", "name"), [("D", "VGG16"), ("E", "VGG19")])
def test_keras_gives_our_outputs(arch, name, photographs, real_data, tmp_path):
    keras = pytest.importorskip("keras", reason="keras is absent, see above")
    build = getattr(keras.applications, name)
    preprocess = getattr(keras.applications, name.lower()).preprocess_input  # BGR minus Caffe's mean
    model, params = net(arch, real_data, mean_rgb=PAPER_MEAN)
    save_weights(tmp_path / "net.h5", model, params)
    save_weights(tmp_path / "body.h5", model, {n: p for n, p in params.items() if n not in FC_LAYERS})
    expected = ours(model, params, photographs)
    del params
    full = build(weights=None, classes=CLASSES, classifier_activation=None)
    full.load_weights(tmp_path / "net.h5")
    body = build(weights=str(tmp_path / "body.h5"), include_top=False, input_shape=photographs.shape[1:])
    x = preprocess(photographs.astype(np.float32))
    with jax.numpy_rank_promotion("allow"):  # which Keras relies on
        assert_outputs((full.predict(x[:, :, :224], verbose=0), body.predict(x, verbose=0)), expected)
    full.save_weights(tmp_path / "theirs.weights.h5")
    del full, body
    assert_same_params(tmp_path / "theirs.weights.h5", tmp_path / "net.h5")


def test_the_comparison_sees_swapped_axes(photographs, real_data, tmp_path):
    """A kernel with its sides exchanged, or fc6's input in another order, is no longer within the tolerance."""
    model, params = net("D", real_data)
    expected = ours(model, params, photographs)
    swapped = {**params, "conv1_1": {**params["conv1_1"], "kernel": params["conv1_1"]["kernel"].swapaxes(0, 1)}}
    fc6 = np.asarray(params["fc6"]["kernel"]).reshape(7, 7, 512, 4096).swapaxes(0, 1).reshape(-1, 4096)
    for changed in (swapped, {**params, "fc6": {**params["fc6"], "kernel": fc6}}):
        logits, _ = ours(model, changed, photographs)
        with pytest.raises(AssertionError, match="of the largest value"):
            assert_close(logits, expected[0], ANOTHER_PROGRAM)
