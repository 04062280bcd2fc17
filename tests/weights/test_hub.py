"""Folders in the hub's form, and repositories of a hub that runs on this machine (hub_server.py)."""

import sys

import jax
import numpy as np
import pytest
from hub_server import hub_server
from running_scripts import script
from test_model import random_params

from vgg_jax import VGG, InputError
from vgg_jax.weights import load_weights
from vgg_jax.weights.hub import fetch_folder, push, save_folder

MODEL = VGG(arch="D", num_classes=3, width_multiplier=0.02, crop_size=64, std_rgb=(2, 3, 4))


@pytest.fixture
def hub(monkeypatch):
    from huggingface_hub import constants

    with hub_server() as (address, repositories):
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
        yield repositories


def assert_holds(folder, params):
    model, loaded = load_weights(folder)
    assert model == MODEL
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded, params))


@pytest.mark.parametrize("layout", ["vgg_jax", "torchvision", "keras"])
def test_to_a_repository_and_back(layout, hub, tmp_path):
    params = random_params(MODEL)
    path = save_folder(tmp_path / "there", MODEL, params, layout=layout)
    assert sorted(p.name for p in path.parent.iterdir()) == ["README.md", path.name]
    assert_holds(path.parent, params)
    (path.parent / "secret.txt").write_text("not the hub's")
    assert push(path.parent, "somebody/narrow").startswith("http")
    assert set(hub["somebody/narrow"]) == {"README.md", path.name}
    assert hub["somebody/narrow"][path.name] == path.read_bytes()
    assert b"library_name:" in hub["somebody/narrow"]["README.md"]
    fetched = fetch_folder("somebody/narrow", tmp_path / "back")
    assert fetched.read_bytes() == path.read_bytes()
    assert (tmp_path / "back" / "README.md").read_bytes() == (path.parent / "README.md").read_bytes()
    assert_holds(tmp_path / "back", params)


def test_a_folder_and_a_repository_hold_one_net(hub, tmp_path):
    """Of two layouts written to one place the last counts, wherever it is read."""
    params, old = random_params(MODEL), MODEL.clone(arch="B")
    save_folder(tmp_path / "there", old, random_params(old))
    push(tmp_path / "there", "somebody/narrow")
    fetch_folder("somebody/narrow", tmp_path / "back")
    save_folder(tmp_path / "there", MODEL, params, layout="keras")
    assert_holds(tmp_path / "there", params)
    push(tmp_path / "there", "somebody/narrow")
    assert set(hub["somebody/narrow"]) == {"README.md", "model.h5"}
    assert fetch_folder("somebody/narrow", tmp_path / "back").name == "model.h5"
    assert_holds(tmp_path / "back", params)
    with pytest.raises(InputError, match="unknown layout 'pickle': choose one of"):
        save_folder(tmp_path / "no", MODEL, params, layout="pickle")
    assert not (tmp_path / "no").exists()


def test_mistakes_are_one_sentence(hub, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"has neither model\.safetensors nor model\.h5: .*hub\.py save"):
        push(tmp_path, "somebody/narrow")
    with pytest.raises(InputError, match=r"somebody/absent: .*404"):
        fetch_folder("somebody/absent", tmp_path / "back")
    hub["somebody/other"] = {"pytorch_model.bin": b"x"}
    with pytest.raises(InputError, match=r"nor model\.h5, but pytorch_model\.bin"):
        fetch_folder("somebody/other", tmp_path / "back")
    with pytest.raises(InputError, match="no name/at all: "):
        fetch_folder("no name/at all", tmp_path / "back")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # where nobody answers
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # before it tries again
    for reach in (lambda: fetch_folder("somebody/narrow", tmp_path / "back"), lambda: push(tmp_path / "a", "some/net")):
        save_folder(tmp_path / "a", MODEL, random_params(MODEL))
        with pytest.raises(InputError, match=r"^some\S+: .*(refused|connect)"):
            reach()
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"need huggingface_hub: pip install 'vgg_jax\[hub\]'"):
        fetch_folder("somebody/narrow", tmp_path / "back")


def test_the_script_saves_a_folder(tmp_path):
    params = random_params(MODEL)
    path = save_folder(tmp_path / "ours", MODEL, params)
    run = script("hub.py", "save", path, tmp_path / "torch", "--layout=torchvision")
    assert run.returncode == 0, run.stderr
    assert f"wrote {tmp_path / 'torch' / 'model.safetensors'}" in run.stdout
    assert_holds(tmp_path / "torch", params)
