"""Crops against slices, and the distribution of the random view against the paper's words."""

import numpy as np
import pytest

from vgg_jax.errors import InputError
from vgg_jax.images.crop import View, apply_view, centre_crop, random_view
from vgg_jax.images.rescale import rescale, rescaled_size


@pytest.mark.parametrize("height, width, top, left", [(8, 8, 2, 2), (7, 9, 2, 2), (4, 11, 0, 4), (5, 10, 0, 3)])
def test_centre_crop_offsets_round_to_even(height, width, top, left):
    image = np.arange(height * width * 3).reshape(height, width, 3)
    np.testing.assert_array_equal(centre_crop(image, 4), image[top : top + 4, left : left + 4])


def test_centre_crop_of_a_smaller_image():
    with pytest.raises(InputError, match="3 x 9"):
        centre_crop(np.zeros((3, 9, 3)), 4)


def test_apply_view_is_rescale_slice_flip():
    image = np.random.default_rng(0).integers(0, 256, (70, 50, 3), dtype=np.uint8)
    window = rescale(image, 45)[11:43, 6:38].astype(int)
    for flip, expected in ((False, window), (True, window[:, ::-1])):
        difference = np.abs(apply_view(image, View(45, 11, 6, flip), 32) - expected)
        assert difference.max() <= 1 and difference.mean() < 0.05


def test_views_are_uniform():
    """6000 draws: every S, every offset of each S and both flips come, each as often as chance allows (5 sigma)."""
    rng = np.random.default_rng(0)
    n, low, high, crop = 6000, 32, 36, 32
    views = [random_view(rng, 60, 48, (low, high), crop) for _ in range(n)]

    def assert_uniform(values, size):
        counts = np.bincount(values, minlength=size)
        assert len(counts) == size
        expected = len(values) / size
        assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)

    assert_uniform(np.array([view.smallest_side - low for view in views]), high - low + 1)
    assert_uniform(np.array([int(view.flip) for view in views]), 2)
    for side in range(low, high + 1):
        height, width = rescaled_size(60, 48, side)
        mine = [view for view in views if view.smallest_side == side]
        assert_uniform(np.array([view.top for view in mine]), height - crop + 1)
        assert_uniform(np.array([view.left for view in mine]), width - crop + 1)


def test_parts_of_a_view_are_independent():
    rng = np.random.default_rng(1)
    draws = np.array([random_view(rng, 100, 100, (64, 64), 32)[1:] for _ in range(4000)], float)
    correlation = np.corrcoef(draws.T) - np.eye(3)
    assert np.abs(correlation).max() < 5 / np.sqrt(4000)


@pytest.mark.parametrize("scale", [(31, 64), (64, 48)])
def test_a_bad_scale_is_refused(scale):
    with pytest.raises(InputError, match="scale"):
        random_view(np.random.default_rng(0), 60, 48, scale, 32)
