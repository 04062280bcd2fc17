"""Colour statistics against numpy on all pixels laid end to end."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from vgg_jax.data import statistics as module
from vgg_jax.data.sources import Record, open_source
from vgg_jax.data.statistics import IMAGENET_STATISTICS, colour_statistics, load_statistics, save_statistics
from vgg_jax.errors import InputError
from vgg_jax.images.decode import decode_rgb


class Pictures:
    """A source of PNG files in memory."""

    class_names = ("one",)

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        if self.images[index] is None:
            return Record(b"broken", 0, f"{index}.png")
        buffer = io.BytesIO()
        Image.fromarray(self.images[index]).save(buffer, "PNG")
        return Record(buffer.getvalue(), 0, f"{index}.png")

    def location(self, index):
        return f"{index}.png"


RNG = np.random.default_rng(0)
MIX = np.array([[0.9, 0.2, 0.1], [0.8, -0.1, -0.3], [0.7, -0.3, 0.5]])
IMAGES = [
    np.clip(120 + 60 * RNG.normal(size=(h, w, 3)) @ MIX.T, 0, 255).astype(np.uint8)
    for h, w in [(20, 31), (7, 50), (44, 9)]
]


def assert_statistics_of(pixels, statistics, **tolerance):
    np.testing.assert_allclose(statistics.mean_rgb, pixels.mean(axis=0), **tolerance)
    covariance = np.cov(pixels.T / 255.0, bias=True)
    values, vectors = np.array(statistics.eigenvalues), np.array(statistics.eigenvectors)
    assert values[0] >= values[1] >= values[2] >= 0
    np.testing.assert_allclose(vectors @ np.diag(values) @ vectors.T, covariance, atol=1e-12, **tolerance)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("chunk", [2**20, 100])
@pytest.mark.parametrize("threads", [1, 4])
def test_statistics_are_numpys(monkeypatch, chunk, threads):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    pixels = np.concatenate([image.reshape(-1, 3) for image in IMAGES]).astype(np.float64)
    assert_statistics_of(pixels, colour_statistics(Pictures(IMAGES), progress=False, threads=threads), rtol=1e-9)


def test_signs_are_imagenets():
    vectors = np.array(colour_statistics(Pictures(IMAGES), progress=False).eigenvectors)
    assert ((vectors * np.array(IMAGENET_STATISTICS.eigenvectors)).sum(axis=0) > 0).all()


def test_one_gray_has_no_variance():
    statistics = colour_statistics(Pictures([np.full((3, 3, 3), 200, np.uint8)]), progress=False)
    assert statistics.mean_rgb == (200.0, 200.0, 200.0) and statistics.eigenvalues == (0.0, 0.0, 0.0)


def test_unreadable_files():
    broken = Pictures([None, *IMAGES, None])
    with pytest.raises(InputError, match=r"0\.png"):
        colour_statistics(broken, progress=False)
    skipping = colour_statistics(broken, progress=False, on_error="skip")
    assert skipping == colour_statistics(Pictures(IMAGES), progress=False)
    with pytest.raises(InputError, match="no readable image"):
        colour_statistics(Pictures([None]), progress=False, on_error="skip")
    with pytest.raises(InputError, match="choose one of raise, skip"):
        colour_statistics(broken, progress=False, on_error="ignore")


def test_saved_and_loaded_exactly(tmp_path):
    statistics = colour_statistics(Pictures(IMAGES), progress=False)
    save_statistics(tmp_path / "colour.json", statistics)
    assert load_statistics(tmp_path / "colour.json") == statistics
    assert [path.name for path in tmp_path.iterdir()] == ["colour.json"]


@pytest.mark.parametrize(
    "text", [None, "{", "[]", "{}", '{"mean_rgb": [1, 2], "eigenvalues": [1, 2, 3], "eigenvectors": []}']
)
def test_a_bad_file_is_named(tmp_path, text):
    if text is not None:
        (tmp_path / "colour.json").write_text(text)
    with pytest.raises(InputError, match=r"colour\.json"):
        load_statistics(tmp_path / "colour.json")


def test_photographs_look_like_imagenet(real_data):
    """102 photographs: near numpy's statistics, and their first axis near ImageNet's, which is brightness."""
    source = open_source("folder", str(real_data / "caltech101"), "train", images_per_class=1)
    statistics = colour_statistics(source, progress=False)
    images = [decode_rgb(source[i].image) for i in range(len(source))]
    pixels = np.concatenate([image.reshape(-1, 3) for image in images]).astype(np.float64)
    assert_statistics_of(pixels, statistics, rtol=1e-7)
    angle = math.acos(np.dot(*(np.array(s.eigenvectors)[:, 0] for s in (statistics, IMAGENET_STATISTICS))))
    assert math.degrees(angle) < 5
