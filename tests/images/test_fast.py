"""The fast view against PIL's: the whole image resized by its triangle filter, then cut out and mirrored."""

import io

import numpy as np
import pytest
from odd_images import BAD, GOOD, encode
from PIL import Image

from vgg_jax.errors import InputError
from vgg_jax.images import decoders
from vgg_jax.images.crop import View, apply_view, random_view
from vgg_jax.images.decode import decode_rgb, open_image
from vgg_jax.images.decoders import DECODERS, check_decoder
from vgg_jax.images.fast import fast_view
from vgg_jax.images.rescale import rescaled_size


def reference(data, view, crop):
    image = Image.open(io.BytesIO(data)).convert("RGB")
    height, width = rescaled_size(image.height, image.width, view.smallest_side)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    image = image.crop((view.left, view.top, view.left + crop, view.top + crop))
    return np.asarray(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if view.flip else image).astype(float)


def photograph(height, width, seed=0):
    """Noise whose amplitude falls with the frequency, as that of photographs does."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    spectrum = np.fft.rfft2(rng.normal(size=(height, width))) / np.maximum(frequency, 1 / max(height, width)) ** 1.3
    image = np.fft.irfft2(spectrum, (height, width))
    tint = np.array([1.0, 0.8, 0.6])
    return np.clip(128 + 50 * tint * (image / image.std())[..., None], 0, 255).astype(np.uint8)


@pytest.mark.parametrize("reduction", [0.5, 0.7, 0.95, 1.0, 1.05, 1.3, 1.7, 1.99, 2.5, 3.1, 4.5, 6.2, 9.0])
def test_pixels_of_pil_and_about_a_grey_level_from_a_reduction_of_4_on(reduction):
    side = 48
    height, width = round(side * reduction), round(side * reduction * 1.3)
    data = encode(photograph(height, width), "JPEG", quality=95)
    rng = np.random.default_rng(int(100 * reduction))
    views = [random_view(rng, height, width, (side, side), 40) for _ in range(8)]
    corners = [(0, 0), tuple(n - 40 for n in rescaled_size(height, width, side))]
    views += [View(side, top, left, flip) for top, left in corners for flip in (False, True)]
    differences = []
    for view in views:
        window = fast_view(open_image(data), view, 40)
        assert window.shape == (40, 40, 3) and window.dtype == np.uint8
        differences.append(window - reference(data, view, 40))
    mean, worst, most = (1.3, 2.5, 30) if reduction >= 4 else (0.05, 0.1, 2)  # 2 where ties of both passes add up
    assert np.abs(differences).mean() < mean and abs(np.mean(differences)) < mean / 4
    assert np.abs(differences).mean(axis=(1, 2, 3)).max() < worst and np.abs(differences).max() <= most


@pytest.mark.parametrize("scale", [(256, 256), (256, 512)])
def test_photographs(real_data, scale):
    differences = {"exact": [], "fast": []}
    for seed, path in enumerate(sorted((real_data / "imagenet_sample").iterdir())[::2]):
        encoded = open_image(path.read_bytes(), path.name)
        if not encoded.ordinary:
            continue
        view = random_view(np.random.default_rng(seed), *encoded.size, scale, 224)
        expected = reference(encoded.data, view, 224)
        for name, values in differences.items():
            values.append(np.abs(DECODERS[name](encoded, view, 224) - expected).mean())
    assert np.mean(differences["exact"]) < 0.05
    assert np.mean(differences["fast"]) < 0.05


@pytest.mark.parametrize("reduction, most", [(1.6, 19), (1.95, 6), (2.5, 3), (3.3, 3), (4.7, 10), (7.8, 4), (15.5, 4)])
def test_fine_stripes_hardly_alias(reduction, most):
    """Stripes too fine for the result vanish to grey; linear interpolation alone leaves waves of deviation 31 to 35."""
    side, crop = 64, 56
    size = round(side * reduction)
    stripes = 128 + 80 * np.cos(np.arange(size) * 2 * np.pi * 0.42)  # cycles a pixel, of 0.5 that there can be
    stripes = np.tile(stripes[None, :, None], (size, 1, 3)).astype(np.uint8)
    view = View(side, 3, 5, False)
    assert fast_view(open_image(encode(stripes, "JPEG", quality=98)), view, crop).std() < most
    centres = (np.arange(side) + 0.5) * size / side - 0.5
    assert np.interp(centres, np.arange(size), stripes[0, :, 0]).std() > 30


@pytest.mark.parametrize("name", ["cmyk.jpg", "a_png_named.jpg", "rotated.jpg", "palette.png", "animated.gif"])
def test_unusual_files_get_pil_s_filter(name):
    encoded = open_image(GOOD[name], name)
    view = random_view(np.random.default_rng(0), *encoded.size, (40, 44), 32)
    np.testing.assert_array_equal(fast_view(encoded, view, 32), apply_view(decode_rgb(GOOD[name]), view, 32))


@pytest.mark.parametrize("name", ["truncated.jpg", "truncated_progressive.jpg", "without_its_end.jpg", "truncated.png"])
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("side", [16, 40])
def test_bad_files_are_refused(name, decoder, side):
    with pytest.raises(InputError, match=f"^{name}: cannot be decoded"):
        DECODERS[decoder](open_image(BAD[name], name), View(side, 0, 0, False), 16)


def test_decoders_are_checked(monkeypatch):
    for name in DECODERS:
        check_decoder(name)
    with pytest.raises(InputError, match=r"data\.decoder is 'quick': choose one of exact, fast"):
        check_decoder("quick")
    monkeypatch.setattr(decoders.importlib.util, "find_spec", lambda name: None)
    check_decoder("exact")
    with pytest.raises(InputError, match=r"needs cykooz-resizer: pip install 'vgg_jax\[fast\]'"):
        check_decoder("fast")
