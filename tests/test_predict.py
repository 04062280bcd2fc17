"""experiments/predict.py, run as a user does, against a graph of onnx nodes; names of classes."""

import json
import logging

import numpy as np
import pytest
from onnx_reference import reference
from PIL import Image
from running_scripts import script
from test_model import MEAN, narrow, random_params

from vgg_jax import InputError
from vgg_jax.weights import save_weights
from vgg_jax.weights.class_names import class_names

NAMES = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu"]


def test_five_names_with_their_posteriors(tmp_path):
    model = narrow("A", crop_size=32)
    params = random_params(model)
    pixels = np.random.default_rng(0).integers(
        0, 256, (32, 32, 3), np.uint8
    )  # as large as the crop: nothing to rescale
    Image.fromarray(pixels).save(tmp_path / "a.png")
    save_weights(tmp_path / "net.safetensors", model, params, metadata={"classes": json.dumps(NAMES)})
    arguments = (tmp_path / "a.png", f"--weights={tmp_path}/net.safetensors", "--protocol=centre_crop", "--scales=32")
    run = script("predict.py", *arguments, "--noflip")
    assert run.returncode == 0, run.stderr
    logits = reference("A", params, pixels[None], mean_rgb=MEAN)[0].astype(np.float64)
    posteriors = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    best = np.argsort(-posteriors)[:5]
    printed = [line.split() for line in run.stdout.splitlines()]
    assert [name for _, name in printed] == [NAMES[index] for index in best]
    ours = [float(percent.removesuffix("%")) for percent, _ in printed]
    assert ours == pytest.approx(100 * posteriors[best], abs=0.011)

    (tmp_path / "six.txt").write_text("\n".join(NAMES[:6]))
    run = script("predict.py", *arguments[:2], f"--classes={tmp_path}/six.txt")
    assert run.returncode == 1 and "six.txt has 6 names, one a line, but the net has 7 classes" in run.stderr


def test_where_names_come_from(tmp_path, caplog):
    caplog.set_level(logging.INFO, "vgg_jax")
    (tmp_path / "names.txt").write_text("Hündin\nb\n", encoding="utf-8")
    assert class_names(2, ["x", "y"], tmp_path / "names.txt") == ["Hündin", "b"]
    assert class_names(2, ["x", "y"]) == ["x", "y"]
    assert class_names(2, None) == ["class 0", "class 1"]
    assert "numbered from 0" in caplog.messages[-1]
    imagenet = class_names(1000, None)
    assert "ImageNet's 1000" in caplog.messages[-1]
    assert class_names(1000, [name.split()[0] for name in imagenet]) == imagenet
    assert class_names(1000, ["x"] * 1000) == ["x"] * 1000
    with pytest.raises(InputError, match=r"names\.txt has 2 names"):
        class_names(3, None, tmp_path / "names.txt")
    (tmp_path / "latin1.txt").write_text("Hündin\nb\n", encoding="latin-1")
    with pytest.raises(InputError, match=r"latin1\.txt is no text in UTF-8"):
        class_names(2, None, tmp_path / "latin1.txt")


def test_imagenets_names_are_in_the_order_of_wordnet_ids(real_data):
    """The files of the sample are named by id and name, and do not come from where the list does."""
    lines = class_names(1000, None)
    ids = [line.split()[0] for line in lines]
    assert len(set(ids)) == 1000 and ids == sorted(ids)
    names = {line.partition(" ")[0]: line.partition(" ")[2] for line in lines}
    files = [path.stem.partition("_")[::2] for path in (real_data / "imagenet_sample").glob("*.JPEG")]
    assert len(files) == 100
    for wordnet_id, name in files:
        assert names[wordnet_id].replace(" ", "_").lower() == name.lower()
