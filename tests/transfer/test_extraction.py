import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_model import narrow, random_params

from vgg_jax import InputError
from vgg_jax.data.folder import folder_source
from vgg_jax.eval.evaluation import DataSet
from vgg_jax.images.decode import decode_rgb
from vgg_jax.images.rescale import rescale
from vgg_jax.transfer import extraction
from vgg_jax.transfer.descriptors import descriptors
from vgg_jax.transfer.extraction import Wanted, extract
from vgg_jax.transfer.store import opened_store, read_descriptors, stored_records, write_part
from vgg_jax.weights import load_weights, save_weights

LAYERS, SCALES = ("pool4", "pool5"), (40, 42)


def open_data(folder):
    return DataSet(folder_source(str(folder), "train", val_fraction=0.0), "tiny", "all", threads=2)


def killed_in_the_third_part(weights, pictures, features):
    """In another process."""

    def write_or_die(folder, records, values):
        if len(list(folder.glob("*.npz"))) == 2:
            (folder / ".00002.npz.tmp").write_bytes(b"half a part")
            os.kill(os.getpid(), signal.SIGKILL)
        write_part(folder, records, values)

    extraction.PART = 4
    extraction.write_part = write_or_die
    extract(Wanted(weights, LAYERS, SCALES), open_data(pictures), range(10), features)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    model = narrow("A", crop_size=32, width_multiplier=0.03)
    save_weights(path, model, random_params(model))
    return path


@pytest.fixture(scope="module")
def whole(weights, pictures, tmp_path_factory):
    """The stores of ten records, extracted without a stop."""
    return extract(Wanted(weights, LAYERS, SCALES), open_data(pictures), range(10), tmp_path_factory.mktemp("features"))


def test_a_store_holds_the_descriptors_of_the_rescaled_images(whole, weights, pictures):
    source = open_data(pictures).source
    model, params = load_weights(weights)
    for scale in SCALES:
        images = [rescale(decode_rgb(source[record].image), scale) for record in (7, 2)]
        expected = descriptors(model, params, images, LAYERS)
        for layer in LAYERS:
            np.testing.assert_array_equal(read_descriptors(whole[layer, scale], [7, 2]), expected[layer])


def test_after_a_kill_only_the_rest_is_computed_and_all_is_the_same(whole, weights, pictures, tmp_path, monkeypatch):
    folders = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    program = (
        f"import sys; sys.path[:0] = {folders}; import conftest\n"
        "from pathlib import Path; import test_extraction\n"
        f"test_extraction.killed_in_the_third_part(*map(Path, {[str(weights), str(pictures), str(tmp_path)]}))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == -signal.SIGKILL, run.stderr
    left = {key: set(stored_records(tmp_path / store.parent.name / store.name)) for key, store in whole.items()}
    assert {key: len(records) for key, records in left.items()} == {
        **{("pool4", 40): 8, ("pool5", 40): 8, ("pool4", 42): 8, ("pool5", 42): 8}
    }
    computed = []
    monkeypatch.setattr(extraction, "descriptors", lambda *a, **k: computed.append(len(a[2])) or descriptors(*a, **k))
    again = extract(Wanted(weights, LAYERS, SCALES), open_data(pictures), range(10), tmp_path)
    assert computed == [2, 2]
    for key, store in whole.items():
        np.testing.assert_array_equal(read_descriptors(again[key], range(10)), read_descriptors(store, range(10)))
    extract(Wanted(weights, LAYERS[:1], SCALES[::-1]), open_data(pictures), [9, 0], tmp_path)
    assert computed == [2, 2]


def test_another_data_set_is_refused(whole, weights, pictures, tmp_path):
    other, features = tmp_path / "pictures", tmp_path / "features"
    shutil.copytree(pictures, other)
    shutil.copytree(whole["pool5", 40].parents[1], features)
    shutil.copy(other / "class0/0_00.jpg", other / "class0/new.jpg")
    with pytest.raises(
        InputError, match=r"holds descriptors of other settings \(num_records 48 there, 49 now; listing"
    ):
        extract(Wanted(weights, LAYERS, SCALES), open_data(other), range(10), features)
    with pytest.raises(InputError, match=r"\(scale 32 there, 64 now\): give another --features"):
        with opened_store(tmp_path / "a", {"scale": 32}):
            pass
        with opened_store(tmp_path / "a", {"scale": 64}):
            pass


def test_damaged_stores_and_bad_input_give_one_sentence(whole, weights, pictures, tmp_path):
    shutil.copytree(whole["pool5", 40].parents[1], tmp_path, dirs_exist_ok=True)
    store = tmp_path / whole["pool5", 40].parent.name / "pool5-Q40"
    (store / "00000.npz").write_bytes((store / "00000.npz").read_bytes()[:-100])
    data = open_data(pictures)
    with pytest.raises(InputError, match=r"00000\.npz holds no descriptors .*: remove it and extract again"):
        extract(Wanted(weights, LAYERS, SCALES), data, range(10), tmp_path)
    (store / "00000.npz").unlink()  # as advised
    again = extract(Wanted(weights, LAYERS, SCALES), data, range(10), tmp_path)["pool5", 40]
    np.testing.assert_array_equal(read_descriptors(again, range(10)), read_descriptors(whole["pool5", 40], range(10)))
    (store / "store.json").write_text("[")
    with pytest.raises(InputError, match=r"store\.json cannot be read"):
        extract(Wanted(weights, LAYERS, SCALES), data, range(10), tmp_path)
    with pytest.raises(InputError, match="scale 31 is too small for pool5"):
        extract(Wanted(weights, ("pool5",), (31,)), data, range(10), tmp_path)
    with pytest.raises(InputError, match="unknown layer 'pool6'"):
        extract(Wanted(weights, ("pool6",), (32,)), data, range(10), tmp_path)


def test_a_part_that_was_removed_from_among_others(tmp_path):
    for part in range(5):
        write_part(tmp_path, [2 * part, 2 * part + 1], np.full((2, 2, 2, 1), part, np.float32))
    (tmp_path / "00002.npz").rename(tmp_path / "00002 copy.npz")
    write_part(tmp_path, [4, 5], np.full((2, 2, 2, 1), 7, np.float32))
    assert sorted(stored_records(tmp_path)) == list(range(10))
    np.testing.assert_array_equal(read_descriptors(tmp_path, [4, 9, 0])[:, 0, 0, 0], [7, 4, 0])


def test_an_unreadable_image_is_named(weights, pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "pictures")
    (tmp_path / "pictures/class0/0_00.jpg").write_bytes(b"text")
    with pytest.raises(InputError, match=r"class0/0_00\.jpg"):
        extract(Wanted(weights, LAYERS, SCALES), open_data(tmp_path / "pictures"), range(10), tmp_path / "features")
