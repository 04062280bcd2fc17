"""Rescaling against PIL itself and against an antialiased triangle filter written here."""

import numpy as np
import pytest
from PIL import Image

from vgg_jax.errors import InputError
from vgg_jax.images import rescale as module
from vgg_jax.images.decode import decode_rgb
from vgg_jax.images.rescale import rescale, rescale_window, rescaled_size

RNG = np.random.default_rng(1)


def noise(height, width):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def triangle_matrix(n_in, n_out):
    """[n_out, n_in]: weights of the antialiased bilinear filter, from its definition."""
    ratio = n_in / n_out
    support = max(ratio, 1.0)
    centres = (np.arange(n_out) + 0.5) * ratio
    distance = np.abs(np.arange(n_in)[None, :] + 0.5 - centres[:, None]) / support
    weights = np.maximum(1.0 - distance, 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    "height, width, side, expected",
    [
        (300, 240, 256, (320, 256)),
        (240, 300, 256, (256, 320)),
        (100, 100, 384, (384, 384)),
        (375, 500, 256, (256, 341)),
        (2, 5, 1, (1, 2)),  # 2.5 rounds to even
        (1, 1000, 64, (64, 64000)),
    ],
)
def test_rescaled_size(height, width, side, expected):
    assert rescaled_size(height, width, side) == expected


@pytest.mark.parametrize("height, width, side", [(40, 60, 24), (61, 37, 64), (50, 50, 13)])
def test_uint8_is_pil(height, width, side):
    image = noise(height, width)
    result = rescale(image, side)
    size = result.shape[:2][::-1]
    assert min(size) == side and result.dtype == np.uint8
    np.testing.assert_array_equal(result, np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)))


def test_a_thin_image_is_not_enlarged_without_bound(monkeypatch):
    line = np.zeros((1, 5000, 3), np.uint8)
    with pytest.raises(InputError, match=r"1 x 5000 pixels would be 256 x 1280000 .*at most 16777216 pixels"):
        rescale(line, 256)
    assert rescale(line, 32).shape == (32, 160000, 3)
    assert rescale_window(line, 256, 0, 10**6, 224).shape == (224, 224, 3)  # training computes the window alone
    monkeypatch.setattr(module, "MAX_ENLARGED", 1000)
    with pytest.raises(InputError, match="at most 19200 pixels"):
        rescale(noise(60, 80), 121)
    assert rescale(noise(60, 80), 120).shape == (120, 160, 3)  # four times its pixels


@pytest.mark.parametrize("height, width, side", [(40, 60, 24), (61, 37, 64), (50, 50, 13)])
def test_float_is_the_triangle_filter_unrounded(height, width, side):
    image = RNG.uniform(-50.0, 300.0, (height, width, 3)).astype(np.float32)
    result = rescale(image, side)
    rows, columns = triangle_matrix(height, result.shape[0]), triangle_matrix(width, result.shape[1])
    expected = np.einsum("ih,hwc,jw->ijc", rows, image, columns)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-3)


def test_uint8_and_float_agree_to_rounding():
    image = noise(90, 70)
    assert np.abs(rescale(image, 32) - rescale(image.astype(np.float32), 32)).max() <= 1.01


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_the_right_size_stays(dtype):
    image = noise(30, 41).astype(dtype)
    np.testing.assert_array_equal(rescale(image, 30), image)


def test_an_absurd_result_is_refused():
    with pytest.raises(InputError, match="1 x 100000 pixels"):
        rescale(np.zeros((1, 100000, 3), np.uint8), 512)


def assert_same_window(image, side, top, left, crop):
    expected = rescale(image, side)[top : top + crop, left : left + crop].astype(int)
    result = rescale_window(image, side, top, left, crop)
    assert result.shape == (crop, crop, 3) and result.dtype == np.uint8
    difference = np.abs(result - expected)
    assert (difference > 1).mean() < 1e-4 and difference.max() <= 2  # 2 where ties of both passes add up
    assert difference.mean() < 0.05


def windows(height, width, side, crop):
    bottom, right = (n - crop for n in rescaled_size(height, width, side))
    return {(0, 0), (bottom, right), (0, right), (bottom // 2, right // 3)}


@pytest.mark.parametrize(
    "height, width, side",
    [(200, 150, 64), (150, 200, 91), (40, 30, 128), (64, 64, 64), (65, 97, 65), (123, 57, 77), (96, 64, 80)],
)
def test_window_of_noise(height, width, side):
    image = noise(height, width)
    for top, left in windows(height, width, side, 48):
        assert_same_window(image, side, top, left, 48)


def test_window_in_simple_ratios_breaks_ties_as_the_whole_image_does():
    image = noise(60, 80)  # times 5/4, 4/3, 2/3, 7/5
    for side in (75, 80, 40, 84):
        for top, left in windows(60, 80, side, 32):
            expected = rescale(image, side)[top : top + 32, left : left + 32]
            assert (rescale_window(image, side, top, left, 32) != expected).mean() < 0.01


@pytest.mark.parametrize("shape", [(500, 200, 3), (300, 60, 3), (90, 400, 3)])
def test_pil_chooses_the_order_of_passes_we_do_not(shape):
    """Old versions of PIL never turn the order, new ones for tall images: 2 grey levels at most, and seldom."""
    image = noise(*shape[:2])
    result = rescale(image, 50)
    pil = np.asarray(Image.fromarray(image).resize(result.shape[1::-1], Image.Resampling.BILINEAR))
    difference = np.abs(result.astype(int) - pil)
    assert difference.max() <= 2 and difference.mean() < 0.35


@pytest.mark.parametrize("seed", range(40))
def test_columns_after_the_window_change_no_bit(monkeypatch, seed):
    """PIL gets the columns under its filter alone, and computes what it does from all of them."""
    rng = np.random.default_rng(seed)
    height, width, crop = (int(n) for n in rng.integers((20, 20, 1), (200, 300, 60)))
    side = crop + int(rng.integers(60)) if seed % 2 else max(crop, int(min(height, width) * rng.choice([0.5, 1, 1.5])))
    image = noise(height, width)
    places = windows(height, width, side, crop)
    cut = [rescale_window(image, side, *place, crop) for place in places]
    monkeypatch.setattr(module, "_picture", lambda image, columns: Image.fromarray(image))
    for window, place in zip(cut, places, strict=True):
        np.testing.assert_array_equal(window, rescale_window(image, side, *place, crop))


def test_window_of_lines_that_are_not_one_after_the_other():
    image = noise(60, 80)
    for view in (image[:, ::-1], image[::2], image.swapaxes(0, 1)):
        expected = rescale_window(view.copy(order="C"), 40, 3, 2, 24)
        np.testing.assert_array_equal(rescale_window(view, 40, 3, 2, 24), expected)


@pytest.mark.parametrize("side", [256, 311, 512])
def test_window_of_photographs(real_data, side):
    for path in sorted((real_data / "imagenet_sample").glob("*.JPEG"))[:4]:
        image = decode_rgb(path.read_bytes(), path.name)
        for top, left in windows(*image.shape[:2], side, 224):
            assert_same_window(image, side, top, left, 224)
