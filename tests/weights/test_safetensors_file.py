import json
import os
import pickle
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from vgg_jax import VGG, InputError
from vgg_jax.weights import load_weights, save_weights
from vgg_jax.weights.load import load_stage, model_fields
from vgg_jax.weights.safetensors_file import MAX_HEADER, read_safetensors, save_safetensors

MODEL = VGG(
    arch="A-LRN",
    num_classes=3,
    width_multiplier=0.03,
    crop_size=32,
    mean_rgb=(120.5, 110.1, 0.1 + 0.2),
    pool_rounding="ceil",
    lrn="caffe",
    dtype=jnp.bfloat16,
)
METADATA = {
    "classes": json.dumps(["cat", "Hündin", "a\nb"]),
    "train_scale": "[37, 74]",
    "stage": "jitter",
    "seed": "0",
    "dataset": "pets",
    "step": "1500",
    "init": "glorot",
    "note": "anything",
}


def random_params(model=MODEL, seed=0):
    images = jax.ShapeDtypeStruct((1, model.crop_size, model.crop_size, 3), jnp.uint8)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: rng.standard_normal(a.shape, np.float32), shapes)


def assert_same_bits(ours, expected):
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected)):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(np.asarray(a).view(np.uint32), b.view(np.uint32))


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "net.safetensors"
    save_safetensors(path, MODEL, random_params(), METADATA)
    return path


def rewritten(path, edit_arrays=lambda arrays: arrays, edit_metadata=lambda metadata: metadata):
    """The file with other arrays or metadata, written by the safetensors package."""
    header = json.loads(path.read_bytes()[8:][: struct.unpack("<Q", path.read_bytes()[:8])[0]])
    save_file(edit_arrays(load_file(path)), path, edit_metadata(header["__metadata__"]))
    return path


def test_a_round_trip_is_exact_to_the_bit(tmp_path):
    params = random_params()
    params["fc8"]["bias"][:] = (-0.0, np.nan, np.float32(1e-45))
    path = tmp_path / "net.safetensors"
    save_safetensors(path, MODEL, params, METADATA)
    model, restored, metadata = read_safetensors(path)
    assert model == MODEL and metadata == METADATA
    assert_same_bits(restored, params)
    assert os.listdir(tmp_path) == ["net.safetensors"]
    save_safetensors(path, model, restored, metadata)
    assert read_safetensors(path)[::2] == (MODEL, METADATA)


def test_other_programs_see_plain_arrays_in_our_layout(written):
    """The bytes spelled out: an 8-byte length, a JSON header, then little-endian arrays at the offsets it gives."""
    data, params = written.read_bytes(), random_params()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    assert header.pop("__metadata__")["format"] == "vgg_jax"
    assert set(header) == {f"{layer}/{name}" for layer in params for name in ("kernel", "bias")}
    entry = header["conv2_1/kernel"]
    start, end = entry["data_offsets"]
    array = np.frombuffer(data[8 + length :][start:end], "<f4").reshape(entry["shape"])
    np.testing.assert_array_equal(array, params["conv2_1"]["kernel"])


def test_who_may_read_a_file_may_read_weights(written):
    ordinary = written.with_name("ordinary")
    ordinary.touch()
    assert written.stat().st_mode == ordinary.stat().st_mode


def test_load_weights_and_load_stage_take_a_file(tmp_path):
    params = jax.tree.map(jnp.asarray, random_params())
    path = tmp_path / "net.SAFETENSORS"
    save_weights(path, MODEL, params)
    model, restored = load_weights(path)
    assert model == MODEL
    assert_same_bits(restored, random_params())
    names = ("step", "stage", "seed", "train_scale", "dataset", "init", "classes")
    assert load_stage(path)[2] == {**dict.fromkeys(names), "checkpoint": "file"}
    save_weights(path, MODEL, params, metadata=METADATA)
    assert load_stage(str(path))[2] == {
        **{"step": 1500, "stage": "jitter", "seed": 0, "train_scale": [37, 74], "dataset": "pets", "init": "glorot"},
        **{"classes": ["cat", "Hündin", "a\nb"], "checkpoint": "file"},
    }


def test_numpy_numbers_in_a_model_are_saved(tmp_path):
    model = VGG(arch="A", num_classes=np.int64(3), width_multiplier=np.float32(0.03), crop_size=32)
    save_safetensors(tmp_path / "net.safetensors", model, random_params(model))
    assert read_safetensors(tmp_path / "net.safetensors")[0].num_classes == 3


@pytest.mark.parametrize("kept", [0, 5, 8, 100, 0.3, -1])
def test_a_file_that_was_cut_off_is_named(written, kept):
    data = written.read_bytes()
    written.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(InputError, match=r"net\.safetensors is cut off"):
        load_weights(written)


def with_header(header, data=b""):
    return struct.pack("<Q", len(header)) + header + data


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (struct.pack("<Q", 2**63) + b"{}", "has 10 bytes, but by its first eight needs 9223372036854775816"),
        (with_header(b" " * (MAX_HEADER + 1)), f"header of {MAX_HEADER + 1} bytes, but at most {MAX_HEADER}"),
        (with_header(b"not JSON"), "damaged or no safetensors file"),
        (with_header(b"\xff\xfe{}"), "damaged or no safetensors file"),
        (with_header(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', b"1234"), "damaged"),
        (with_header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"1234"), "format None"),
        (with_header(b"{}"), "format None"),
        (b"<!DOCTYPE html><html>not found</html>", "no safetensors file"),
    ],
)
def test_a_malformed_header(tmp_path, content, sentence):
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=sentence) as raised:
        read_safetensors(path)
    assert str(path) in str(raised.value)


class Bomb:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (self.marker, "w")


def test_a_renamed_pickle_is_not_executed(tmp_path):
    path, marker = tmp_path / "net.safetensors", tmp_path / "executed"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path.write_bytes(pickle.dumps(Bomb(str(marker)), protocol))
        with pytest.raises(InputError, match=r"is a pickle|no weights file"):
            load_weights(path)
    assert not marker.exists()


def test_every_missing_extra_and_misshapen_array_is_listed(written):
    def edit(arrays):
        del arrays["conv3_1/kernel"], arrays["fc6/bias"]
        arrays["conv9_1/kernel"] = np.zeros(3, np.float32)
        arrays["fc8/kernel"] = np.ascontiguousarray(arrays["fc8/kernel"].T)
        arrays["conv1_1/bias"] = arrays["conv1_1/bias"].astype(np.float16)
        return arrays

    with pytest.raises(InputError) as raised:
        load_weights(rewritten(written, edit))
    assert str(raised.value) == (
        f"{written}: the arrays are not those of its model, a net A-LRN: conv3_1/kernel is missing; "
        "fc6/bias is missing; conv9_1/kernel is none of its arrays; conv1_1/bias is float16 but float32 is needed; "
        "fc8/kernel has shape [3, 123] but [123, 3] is needed"
    )


FIELDS = {**model_fields(MODEL), "mean_rgb": list(MODEL.mean_rgb), "std_rgb": list(MODEL.std_rgb)}


def fields(**changed):
    return {"model": json.dumps({**FIELDS, **changed})}


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"format": "pt"}, "no weights file of vgg_jax: its metadata have format 'pt'"),
        ({"model": "D"}, "model is 'D', but JSON of a model's fields is expected"),
        ({"model": "[" * 100_000}, "JSON of a model's fields is expected"),
        ({"model": json.dumps({"arch": "D"})}, "num_classes is missing; width_multiplier is missing"),
        (fields(width=1), "width is no field of a model"),
        (fields(num_classes=-3), "num_classes is -3"),
        (fields(num_classes=True), "num_classes is True"),
        (fields(crop_size=32.0), r"crop_size is 32\.0"),
        (fields(width_multiplier=float("nan")), "width_multiplier is nan"),
        (fields(mean_rgb=[1.0, 2.0]), r"mean_rgb is \[1\.0, 2\.0\]"),
        (fields(std_rgb=[1.0, 2.0, "3"]), "std_rgb is"),
        (fields(dtype="object"), "dtype is 'object', none of float32, bfloat16"),
        (fields(arch="F"), "cannot be built: unknown architecture 'F'"),
        (fields(crop_size=33), "cannot be built: crop_size is 33"),
        (fields(crop_size=32 * 10**40), "cannot be built"),
        (fields(width_multiplier=10**400), "cannot be built"),
        (fields(arch="E"), "conv1_2/kernel is missing"),
        ({"classes": json.dumps(["a", "b"])}, "there are 2 class names, but the model has 3"),
        ({"classes": "cat, dog, bird"}, "classes is 'cat, dog, bird', but JSON of a list of names is expected"),
        ({"train_scale": "256"}, "train_scale is '256', but JSON of a list of two whole numbers"),
        ({"step": "1.5"}, "step is '1.5', but JSON of a whole number is expected"),
        ({"seed": "true"}, "seed is 'true'"),
    ],
)
def test_metadata_that_do_not_fit(written, changed, sentence):
    rewritten(written, edit_metadata=lambda metadata: {**metadata, **changed})
    with pytest.raises(InputError, match=sentence) as raised:
        read_safetensors(written)
    assert str(written) in str(raised.value)


@pytest.mark.parametrize(
    ("change", "metadata", "sentence"),
    [
        (lambda p: p.pop("fc7"), {}, "fc7/bias is missing; fc7/kernel is missing"),
        (lambda p: p.update(params={"fc7": {"kernel": np.zeros(2)}}), {}, "params/fc7/kernel is none of its arrays"),
        (lambda p: p["fc8"].update(bias=np.zeros(3)), {}, "fc8/bias is float64 but float32 is needed"),
        (lambda p: None, {"model": "x"}, "have the key 'model', which is the file's own"),
        (lambda p: None, {"step": 3}, "step is 3, but metadata are strings: use json.dumps"),
        (lambda p: None, {"classes": "[]"}, "there are 0 class names, but the model has 3"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(written, change, metadata, sentence):
    before, params = written.read_bytes(), random_params()
    change(params)
    with pytest.raises(InputError, match=sentence):
        save_safetensors(written, MODEL, params, metadata)
    assert written.read_bytes() == before


def test_a_write_that_fails_leaves_the_old_file_alone(written, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    before = written.read_bytes()
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match=r"net\.safetensors cannot be written: .*No space left"):
        save_weights(written, MODEL, random_params(seed=1))
    assert written.read_bytes() == before
    assert os.listdir(written.parent) == ["net.safetensors"]


def test_a_convolutional_body_is_stored_without_a_top(written):
    params = {name: layer for name, layer in random_params().items() if not name.startswith("fc")}
    save_safetensors(written, MODEL, params)
    model, restored = load_weights(written)
    assert model == MODEL
    assert_same_bits(restored, params)


def test_what_was_asked_for_must_be_in_the_file(written):
    assert load_weights(written, "A-LRN", input_order="RGB")[0] == MODEL
    with pytest.raises(InputError, match="holds a net A-LRN, not the net D that was asked for"):
        load_weights(written, "D")
    with pytest.raises(InputError, match="unknown architecture 'F'"):
        load_weights(written, "F")
    with pytest.raises(InputError, match="is our own and takes RGB: input_order='BGR'"):
        load_weights(written, input_order="BGR")


def test_paths_that_cannot_be(tmp_path):
    (tmp_path / "net.npz").write_bytes(b"PK")
    (tmp_path / "folder.safetensors").mkdir()
    for call, sentence in (
        (lambda: load_weights(tmp_path / "net.npz"), r"net\.npz is cut off, damaged or no weights file: none of Caffe"),
        (lambda: save_weights(tmp_path / "net.npz", MODEL, {}), r"cannot write .*net\.npz: .* named \*\.safetensors"),
        (lambda: load_weights(tmp_path / "no.safetensors"), "no weights file: it does not exist"),
        (lambda: read_safetensors(tmp_path / "no.safetensors"), "cannot be read: No such file"),
        (lambda: read_safetensors(tmp_path / "folder.safetensors"), "cannot be read: Is a directory"),
        (lambda: save_weights(tmp_path / "a" / "b.safetensors", MODEL, random_params()), "cannot be written"),
    ):
        with pytest.raises(InputError, match=sentence):
            call()
