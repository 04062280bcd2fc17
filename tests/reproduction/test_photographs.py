import base64
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from onnx_reference import reference
from PIL import Image
from test_model import MEAN, narrow
from tolerances import assert_close

from vgg_jax import InputError
from vgg_jax.reproduction import photographs

CLASSES = ["ant", "bee", "cat", "dog", "eel", "fly", "gnu"]
ROUNDED = 2e-3  # of the largest posterior: an entry has four digits


@pytest.fixture(scope="module")
def net():
    model = narrow("A", crop_size=64)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3), jnp.uint8))["params"]
    rng = np.random.default_rng(1)  # numpy's: compiling the initialisation takes longer than all the tests here
    params = jax.tree.map(lambda leaf: random_values(rng, leaf.shape), shapes)
    params["conv1_1"]["kernel"] /= 100  # pixels are about so large; the posteriors shall not be 0 or 1
    return model, params


def random_values(rng, shape):
    """Kernels that keep the size of what they are given (He's), and small biases."""
    std = (2 / np.prod(shape[:-1])) ** 0.5 if len(shape) > 1 else 0.05
    return jnp.asarray(std * rng.standard_normal(shape), jnp.float32)


@pytest.fixture(scope="module")
def image():
    """Blocks of colour of 20 pixels, which rescaling keeps different at each place."""
    blocks = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    return blocks.repeat(20, axis=0).repeat(20, axis=1)  # [180, 240, 3]


@pytest.fixture(scope="module")
def entry(net, image):
    return photographs.photograph_entry(*net, CLASSES, image, 180)


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_the_score_map_is_onnxruntimes(net, image, entry):
    scores = reference("A", net[1], image[None], mean_rgb=MEAN, dense=True)[0]  # [4, 6, K]
    assert scores.shape[:2] == (4, 6)
    assert_close(entry["score_map"], softmax(scores)[..., CLASSES.index(entry["shown_class"])], ROUNDED)


def test_the_classes_are_ranked_by_the_mean_with_the_mirror_image(net, image, entry):
    both = [reference("A", net[1], view[None], mean_rgb=MEAN, dense=True)[0] for view in (image, image[:, ::-1])]
    posteriors = np.mean([softmax(scores.mean(axis=(0, 1))) for scores in both], axis=0)
    ranked = np.argsort(-posteriors)[:5]
    assert [top["class"] for top in entry["top_classes"]] == [CLASSES[k] for k in ranked]
    assert_close([top["posterior"] for top in entry["top_classes"]], posteriors[ranked], ROUNDED)
    assert entry["shown_class"] == entry["top_classes"][0]["class"]


def test_crops_are_a_grid_of_five_each_its_own_image(net, image, entry):
    places = [(crop["top"], crop["left"]) for crop in entry["crops"]]
    assert places == [(top, left) for top in (0, 29, 58, 87, 116) for left in (0, 44, 88, 132, 176)]
    crops = np.stack([image[top : top + 64, left : left + 64] for top, left in places])
    posteriors = softmax(reference("A", net[1], crops, mean_rgb=MEAN))[:, CLASSES.index(entry["shown_class"])]
    assert_close([crop["posterior"] for crop in entry["crops"]], posteriors, ROUNDED)


def test_the_entry_has_the_sizes_of_the_rescaled_picture_and_one_to_look_at(net, image):
    entry = photographs.photograph_entry(*net, CLASSES, image, 90)
    assert (entry["width"], entry["height"], entry["window"], entry["stride"]) == (120, 90, 64, 32)
    kind, _, data = entry["image"].partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert (picture.format, picture.size) == ("JPEG", (240, 180))  # not smaller than it came
    assert entry == json.loads(json.dumps(entry))


@pytest.fixture
def stage(tmp_path, net, monkeypatch):
    """A stage trained at [128;192], without the checkpoint's file."""
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    monkeypatch.setattr(photographs, "load_stage", lambda path: (*net, {"train_scale": [128, 192]}))
    return tmp_path / "jitter"


def test_files_are_seen_at_the_largest_test_scale(tmp_path, stage, net, image):
    file = tmp_path / "blocks.png"
    Image.fromarray(image).save(file)
    (entry,) = photographs.photograph_entries(stage, [file], ["drawn"])
    assert (entry["name"], entry["credit"], entry["height"], entry["width"]) == ("blocks", "drawn", 192, 256)
    assert np.shape(entry["score_map"]) == (5, 7)


def test_each_file_needs_a_credit(stage, tmp_path):
    with pytest.raises(InputError, match="2 photographs were given with 1 credits: give one for each"):
        photographs.photograph_entries(stage, [tmp_path / "a.png", tmp_path / "b.png"], ["drawn"])


@pytest.mark.parametrize("names, words", [(None, "is absent"), ("ant\nbee\n", "names 2 classes, but the net has 7")])
def test_class_names_must_be_the_nets(stage, tmp_path, names, words):
    (tmp_path / "classes.txt").unlink()
    if names:
        (tmp_path / "classes.txt").write_text(names)
    with pytest.raises(InputError, match=rf"classes.txt {words}"):
        photographs.photograph_entries(stage, [], [])


def test_a_file_that_is_no_image(stage, tmp_path):
    (tmp_path / "text.jpg").write_text("text")
    with pytest.raises(InputError, match=r"text.jpg: is not a readable image"):
        photographs.photograph_entries(stage, [tmp_path / "text.jpg"], ["drawn"])
