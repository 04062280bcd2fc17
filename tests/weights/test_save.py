"""save_weights, against files that torch and Keras wrote themselves; test_in_other_programs.py loads ours into them."""

import itertools
import json
import logging
import struct
import sys
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file
from test_model import random_params

from vgg_jax import VGG, InputError
from vgg_jax.weights import load_weights, save_weights
from vgg_jax.weights.load import load_stage
from vgg_jax.weights.metadata import training_metadata
from vgg_jax.weights.save import SUFFIXES, card_path

FIXTURES = Path(__file__).parent / "fixtures"
NETS = [
    VGG(arch="D", num_classes=5, width_multiplier=0.03, crop_size=64, mean_rgb=(1.5, 0.1 + 0.2, 3), std_rgb=(7, 8, 9)),
    VGG(arch="C", num_classes=5, width_multiplier=0.02, crop_size=96, pool_rounding="ceil", dropout_rate=0.1),
    VGG(arch="B-5x5", num_classes=5, width_multiplier=0.02, crop_size=32, initializer="gaussian"),
]
TRAINING = {
    **{"step": 1500, "stage": "jitter", "seed": 0, "train_scale": [37, 74], "dataset": "pets", "init": "glorot"},
    "classes": ["cat", "Hündin", "a\nb", "d", "e"],
}


def save(folder, layout, model, params, **options):
    path = folder / f"{layout}{SUFFIXES[layout]}"
    save_weights(path, model, params, layout=layout, **options)
    return path


def contents(path):
    """All that a file holds; the package writes the keys of a .safetensors' metadata in any order."""
    data = path.read_bytes()
    if path.suffix == ".h5":
        return data
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def assert_same(ours, expected):
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    assert jax.tree.all(jax.tree.map(lambda a, b: np.asarray(a).tobytes() == np.asarray(b).tobytes(), ours, expected))


@pytest.mark.parametrize(("model", "body"), [*zip(NETS, (False, True, False))], ids=("D", "body of C", "B-5x5"))
def test_every_layout_to_every_other_and_back_is_the_identity(model, body, tmp_path):
    params = {name: p for name, p in random_params(model).items() if not (body and name.startswith("fc"))}
    written = {}
    for layout in SUFFIXES:
        (tmp_path / layout).mkdir()
        path = save(tmp_path / layout, layout, model, params, metadata=training_metadata(TRAINING))
        written[layout] = contents(path)
        loaded, loaded_params, info = load_stage(path)
        assert loaded == model
        assert_same(loaded_params, params)
        assert info == {**TRAINING, "checkpoint": "file"}
    for first, second in itertools.permutations(SUFFIXES, 2):  # first -> second -> first
        source = tmp_path / first / f"{first}{SUFFIXES[first]}"
        for layout in (second, first):
            loaded, loaded_params, info = load_stage(source)
            source = save(tmp_path, layout, loaded, loaded_params, metadata=training_metadata(info))
        assert contents(source) == written[first], (first, second)


# -- files that the programs wrote themselves


@pytest.mark.parametrize(
    ("file", "layout"),
    [
        ("torchvision_b.safetensors", "torchvision"),
        ("torchvision_c.safetensors", "torchvision"),
        ("timm_d.safetensors", "timm"),
    ],
)
def test_the_arrays_are_those_that_torch_wrote(file, layout, tmp_path):
    model, params = load_weights(FIXTURES / file)
    path = save(tmp_path, layout, model, params)
    ours, theirs = load_file(path), load_file(FIXTURES / file)
    assert {name: a.shape for name, a in ours.items()} == {name: a.shape for name, a in theirs.items()}
    assert_same(ours, theirs)
    with safe_open(path, framework="numpy") as opened:
        assert opened.metadata()["format"] == "pt"  # what other readers of torch's safetensors ask for
        fields = json.loads(json.loads(opened.metadata()["vgg_jax"])["model"])
    np.testing.assert_allclose(fields["mean_rgb"], [123.675, 116.28, 103.53])
    np.testing.assert_allclose(fields["std_rgb"], [58.395, 57.12, 57.375])


@pytest.mark.parametrize("file", ["keras_d.h5", "keras_d_notop.h5"])
def test_the_layers_are_those_that_keras_wrote(file, tmp_path):
    """Keras takes them by the order in layer_names, and their arrays by the order in weight_names."""

    def weights(path):
        with h5py.File(path) as opened:
            layers = [(name, list(opened[name].attrs["weight_names"])) for name in opened.attrs["layer_names"]]
            return {
                (name if isinstance(name, str) else name.decode()): [opened[name][weight][()] for weight in names]
                for name, names in layers
                if names
            }

    path = save(tmp_path, "keras", *load_weights(FIXTURES / file))
    ours, theirs = weights(path), weights(FIXTURES / file)
    assert list(ours) == list(theirs)
    assert_same(ours, theirs)


def test_our_metadata_are_believed_before_the_programs_convention(tmp_path):
    """The mean of a torchvision file is torchvision's, unless we wrote the file and say another one."""
    model = NETS[0].clone(mean_rgb=(1, 2, 3), std_rgb=(1, 1, 1))
    path = save(tmp_path, "torchvision", model, random_params(model))
    assert load_weights(path)[0].mean_rgb == (1, 2, 3)
    with pytest.raises(InputError, match="holds a net D, not the net C that was asked for"):
        load_weights(path, "C")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: "[]", "the metadata of vgg_jax are '\\[\\]', but a JSON object is expected"),
        (lambda m: json.dumps({**m, "model": "{}"}), "describes no model: arch is missing"),
        (lambda m: json.dumps({**m, "step": 3}), "step is 3, but metadata are strings"),
        (
            lambda m: json.dumps({"model": m["model"].replace('"crop_size": 64', '"crop_size": 96')}),
            r"kernel of fc6 \(fc1\) has shape \[60, 123\] but \[135, 123\] is needed",
        ),
    ],
)
def test_metadata_that_do_not_fit_are_refused(change, sentence, tmp_path):
    path = save(tmp_path, "keras", NETS[0], random_params(NETS[0]))
    with h5py.File(path, "r+") as file:
        metadata = json.loads(file["vgg_jax"][()].tobytes())
        del file["vgg_jax"]
        file["vgg_jax"] = np.frombuffer(change(metadata).encode(), np.uint8)
    with pytest.raises(InputError, match=sentence):
        load_weights(path)


# -- what the user is told


def test_a_net_as_the_programs_own_is_written_without_a_word(caplog):
    from vgg_jax.weights.layouts import peculiarities
    from vgg_jax.weights.names import TORCH_MEAN, TORCH_STD

    params = {"fc8": {}}
    assert peculiarities(VGG(arch="E", mean_rgb=TORCH_MEAN, std_rgb=TORCH_STD), params, "torchvision") == []
    assert peculiarities(VGG(arch="D"), params, "keras") == []
    (sentence,) = peculiarities(VGG(arch="D"), params, "timm")
    assert sentence.endswith("mean (0.4850196, 0.4579569, 0.4076039) and std (0.003921569, 0.003921569, 0.003921569)")
    (sentence,) = peculiarities(VGG(arch="A"), params, "keras")
    assert sentence.startswith("keras has no net A of width 1 for crops of 224")


def test_what_is_not_as_the_programs_own_nets_is_said(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "vgg_jax")
    model = NETS[0].clone(pool_rounding="ceil")
    path = save(tmp_path, "keras", model, random_params(model))
    said = "\n".join(caplog.messages)
    assert "keras has no net D of width 0.03 for crops of 64" in said
    assert "takes BGR in 0..255, minus mean (3, 0.3, 1.5), divided by std (9, 8, 7)" in said
    assert "its pools round odd sides by ceil, keras's by floor" in said
    card = card_path(path).read_text()
    assert all(sentence.removeprefix(f"{path}: ") in card for sentence in caplog.messages)


def test_the_card_has_net_training_and_errors(tmp_path):
    row = {"dataset": "pets", "split": "test", "stage": "jitter", "arch": "D", "train_scale": [37, 74]}
    row |= {"checkpoint": "best", "method": "dense", "test_scales": [37, 56, 74], "grid": None, "flip": True}
    row |= {"pool_rounding": "floor", "top1_error": 12.345, "top5_error": 6.789, "num_images": 100, "members": None}
    options = {"metadata": training_metadata(TRAINING), "results": [row]}
    card = card_path(save(tmp_path, "vgg_jax", NETS[0], random_params(NETS[0]), **options)).read_text()
    for words in ("Net D", "mean (1.5, 0.3, 3)", "std (7, 8, 9)", "[37;74]", "1500", "12.35", "6.79", "37,56,74"):
        assert words in card, words
    assert 'load_weights("vgg_jax.safetensors")' in card
    empty = card_path(save(tmp_path, "timm", NETS[0], random_params(NETS[0]))).read_text()
    assert "Not measured here" in empty and "Not known" in empty


# -- what is refused, with nothing written


@pytest.mark.parametrize(
    ("name", "layout", "sentence"),
    [
        ("net.npz", None, r"cannot write .*net\.npz: a weights file is named \*\.safetensors or \*\.h5"),
        ("net.h5", "timm", r"a weights file in the layout timm is named \*\.safetensors"),
        ("net.safetensors", "keras", r"a weights file in the layout keras is named \*\.h5"),
        ("net.weights.h5", None, r"Keras takes \*\.weights\.h5 for another format, so name the file \*\.h5"),
        ("net.h5", "onnx", "unknown layout 'onnx': choose one of vgg_jax, torchvision, timm, keras"),
        ("nowhere/net.h5", None, r"nowhere/net\.h5 cannot be written"),
    ],
)
def test_names_that_do_not_fit(name, layout, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        save_weights(tmp_path / name, NETS[0], random_params(NETS[0]), layout=layout)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("layout", ["torchvision", "timm", "keras"])
def test_a_lrn_is_kept_from_programs_that_would_take_it_for_a(layout, tmp_path):
    model = VGG(arch="A-LRN", num_classes=5, width_multiplier=0.02, crop_size=32)
    with pytest.raises(InputError, match=f"{layout} has no net A-LRN, and would take its arrays for a net A"):
        save(tmp_path, layout, model, random_params(model))
    assert list(tmp_path.iterdir()) == []


def test_params_that_are_not_the_models(tmp_path):
    params = random_params(NETS[0])
    del params["fc7"]
    with pytest.raises(InputError, match="fc7/bias is missing; fc7/kernel is missing"):
        save(tmp_path, "torchvision", NETS[0], params)
    assert list(tmp_path.iterdir()) == []


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"needs h5py: pip install 'vgg_jax\[keras\]'"):
        save(tmp_path, "keras", NETS[0], random_params(NETS[0]))
    assert list(tmp_path.iterdir()) == []
