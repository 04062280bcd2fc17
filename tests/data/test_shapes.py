"""The built-in pictures: reproducible, balanced, of many sizes; drawn once however many ask for them."""

import collections
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops

from vgg_jax.data import shapes
from vgg_jax.data.shapes import KINDS, draw_picture, shapes_source
from vgg_jax.data.sources import open_source

REPOSITORY = Path(__file__).parents[2]
SMALL = {"train": 40, "validation": 20, "test": 20}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A cache with fewer pictures than the real one."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "SPLIT_SIZES", SMALL)
        shapes_source(cache, "train")
    return cache


def pictures(count, seed):
    return [
        draw_picture(kind, np.random.default_rng((seed, i, j))) for i in range(count) for j, kind in enumerate(KINDS)
    ]


def opened(data):
    return Image.open(io.BytesIO(data))


def test_the_same_seed_draws_the_same_bytes_and_another_seed_others():
    assert pictures(2, seed=1) == pictures(2, seed=1)
    first, second = pictures(2, seed=1), pictures(2, seed=2)
    assert not set(first) & set(second)
    assert len(set(first)) == len(first)


def test_jpeg_of_the_stated_sizes_some_gray():
    images = [opened(data) for data in pictures(30, seed=3)]
    assert {image.format for image in images} == {"JPEG"}
    short, long = (np.array([pick(image.size) for image in images]) for pick in (min, max))
    assert short.min() >= 64 and short.max() <= 112 and short.max() - short.min() > 40
    assert (long / short).max() <= 1.61 and (long / short).max() > 1.4
    assert {image.mode for image in images} == {"RGB", "L"}
    assert 0.03 < np.mean([image.mode == "L" for image in images]) < 0.2


def test_every_object_stands_out_from_the_background():
    """Drawn twice from the same generator, with and without the object: the difference is large where it is."""

    def without_object(kind, height, width, rng):
        return 0 * coverage(kind, height, width, rng)

    coverage = shapes._coverage
    for i, kind in enumerate(KINDS):
        seen = opened(draw_picture(kind, np.random.default_rng(i))).convert("L")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shapes, "_coverage", without_object)
            empty = opened(draw_picture(kind, np.random.default_rng(i))).convert("L")
        difference = np.asarray(ImageChops.difference(seen, empty), dtype=float)
        changed = difference > 40
        assert 0.002 < changed.mean() < 0.64, kind  # 0.64 = pi / 4 * 0.9^2: the largest disc in a square


def test_kinds_differ_whatever_the_turn_mirroring_and_size():
    """The distances of its pixels from its centre of mass, sorted, over its size, tell every two kinds apart."""

    def profile(kind):
        mask = shapes._coverage(kind, 200, 200, np.random.default_rng(0)) > 0.5
        points = np.argwhere(mask)
        radius = np.sort(np.linalg.norm(points - points.mean(axis=0), axis=1))
        return np.interp(np.linspace(0, 1, 50), np.linspace(0, 1, len(radius)), radius / np.sqrt(len(points)))

    profiles = {kind: profile(kind) for kind in KINDS}
    assert len(profiles) == 10
    distances = {(a, b): np.abs(profiles[a] - profiles[b]).max() for a in KINDS for b in KINDS if a < b}
    assert min(distances.values()) > 0.02, min(distances, key=distances.get)


def test_balanced_splits_with_the_right_labels(small):
    for split, size in (("train", 40), ("val", 20), ("test", 20)):
        source = open_source("shapes", str(small), split)
        assert source.class_names == tuple(KINDS)
        assert collections.Counter(record.label for record in source) == dict.fromkeys(range(10), size // 10)
        assert all(f"_{source.class_names[record.label]}.jpg" in record.name for record in source)
    images = [record.image for split in ("train", "val", "test") for record in shapes_source(small, split)]
    assert len(set(images)) == 80  # no picture in two splits


def test_the_real_sizes_are_balanced():
    assert shapes.SPLIT_SIZES == {"train": 4000, "validation": 500, "test": 500}
    assert all(size % len(KINDS) == 0 for size in shapes.SPLIT_SIZES.values())


def test_the_data_set_is_reproducible(small, tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "SPLIT_SIZES", SMALL)
    assert list(shapes_source(tmp_path, "train")) == list(shapes_source(small, "train"))


def test_it_is_drawn_once(small, monkeypatch):
    monkeypatch.setattr(shapes, "draw_picture", None)  # drawing would fail
    assert len(shapes_source(small, "train")) == 40


@pytest.mark.parametrize("variable", ["VGG_JAX_CACHE", "HOME"])
def test_an_empty_path_means_the_cache(variable, tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "SPLIT_SIZES", {"train": 10, "validation": 10, "test": 10})
    monkeypatch.delenv("VGG_JAX_CACHE", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    shapes_source("", "val")
    cache = tmp_path if variable == "VGG_JAX_CACHE" else tmp_path / ".cache" / "vgg_jax"
    assert (cache / "shapes" / "1.1.0" / "dataset_info.json").exists()


def start_drawing(cache, size):
    code = f"""
import sys
from vgg_jax.data import shapes
shapes.SPLIT_SIZES = {{"train": {size}, "validation": 10, "test": 10}}
print(len(shapes.shapes_source(sys.argv[1], "train")))
"""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    arguments = [sys.executable, "-c", code, str(cache)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)


def test_two_processes_at_once(tmp_path):
    processes = [start_drawing(tmp_path, 100) for _ in range(2)]
    assert [process.communicate()[0].split()[-1] for process in processes] == ["100", "100"]
    assert [path.name for path in (tmp_path / "shapes").iterdir()] == ["1.1.0"]


def test_a_killed_drawing_is_drawn_again(tmp_path, monkeypatch):
    process = start_drawing(tmp_path, 100_000)
    while not list(tmp_path.glob("shapes/incomplete.*")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert list(tmp_path.glob("shapes/incomplete.*"))
    monkeypatch.setattr(shapes, "SPLIT_SIZES", SMALL)
    assert len(shapes_source(tmp_path, "train")) == 40
    assert [path.name for path in (tmp_path / "shapes").iterdir()] == ["1.1.0"]
