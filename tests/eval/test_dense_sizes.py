"""Images of any size: padding and masks leave no trace in the scores, and compilations stay bounded."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_reference import reference
from test_model import MEAN, apply
from tolerances import SAME_PROGRAM, assert_close

from vgg_jax import VGG
from vgg_jax.eval import compilation_count, dense_eval, dense_scores, fc_to_conv, multi_crop_eval

STD = 64.0  # keeps the logits near 1, so that no posterior is 0 or 1; a power of two, exact wherever it is divided by
TINY = {"num_classes": 5, "width_multiplier": 0.03, "mean_rgb": MEAN, "std_rgb": (STD,) * 3}
NETS = [
    VGG(arch=arch, pool_rounding=rounding, crop_size=crop, **TINY)
    for arch, rounding, crop in (("A-LRN", "floor", 64), ("C", "ceil", 64), ("C", "floor", 32), ("B-5x5", "ceil", 32))
]


def random_params(model, rng):
    """Params drawn by numpy, without a compilation; biases are not zero, or no mask would be needed."""
    crop = np.zeros((1, model.crop_size, model.crop_size, 3), np.uint8)
    shapes = jax.eval_shape(model.init, jax.random.key(0), crop)["params"]

    def draw(shape):
        std = np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 0.3
        return np.float32(std) * rng.standard_normal(shape, np.float32)

    return jax.tree.map(lambda a: draw(a.shape), shapes)


def random_images(sizes, rng):
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


def unpadded_scores(model, params, image):
    """Score map [h, w, K] of an image alone, without any padding, by onnxruntime."""
    first = {**params["conv1_1"], "kernel": params["conv1_1"]["kernel"] / np.float32(STD)}
    options = {"mean_rgb": MEAN, "dense": True, "pool_rounding": model.pool_rounding}
    return reference(model.arch, {**params, "conv1_1": first}, image[None], **options)[0]


def softmax_of_mean(scores):
    logits = scores.mean((0, 1), dtype=np.float64)
    e = np.exp(logits - logits.max())
    return e / e.sum()


@st.composite
def nets_and_sizes(draw):
    """A net and four sizes in any order, two in each of two shape buckets: batches of one shape, few compilations.

    The smallest size is the smallest that the net's window takes: with "ceil" 31 pixels less than the crop.
    """
    model = draw(st.sampled_from(NETS))
    bucket = model.crop_size if model.pool_rounding == "ceil" else model.crop_size + 32
    side = st.integers(bucket - 31, bucket)
    sizes = [(draw(side) + extra, draw(side)) for extra in (0, 0, 32, 32)]
    return model, draw(st.permutations(sizes))


@settings(max_examples=25, derandomize=True, deadline=None, database=None)
@given(nets_and_sizes(), st.integers(0, 2**32 - 1))
def test_images_of_mixed_sizes_score_as_each_alone(net_and_sizes, seed):
    model, sizes = net_and_sizes
    rng = np.random.default_rng(seed)
    params, images = random_params(model, rng), random_images(sizes, rng)
    maps, mirrored = ([unpadded_scores(model, params, image[:, ::s]) for image in images] for s in (1, -1))
    for ours, expected in zip(dense_scores(model, params, images), maps):
        assert_close(ours, expected, SAME_PROGRAM)
    image, mirror = (np.stack([softmax_of_mean(m) for m in views]) for views in (maps, mirrored))
    assert_close(dense_eval(model, params, images, flip=False), image, SAME_PROGRAM)
    assert_close(dense_eval(model, params, images, flip=True), (image + mirror) / 2, SAME_PROGRAM)


@pytest.mark.parametrize("junk", [1e6, np.nan], ids=["large", "nan"])
@pytest.mark.parametrize("model", NETS, ids=lambda model: f"{model.arch}-{model.pool_rounding}")
def test_what_stands_in_the_padding_does_not_matter(model, junk):
    rng = np.random.default_rng(0)
    params, sizes = random_params(model, rng), [(70, 96), (128, 67), (96, 96)]
    images = random_images(sizes, rng)
    frames = np.full((3, 128, 96, 3), junk, np.float32)
    for frame, image in zip(frames, images):
        frame[: image.shape[0], : image.shape[1]] = image
    dense, conv_params = model.clone(fully_convolutional=True), fc_to_conv(params)
    scores = np.asarray(apply(dense, conv_params, frames, valid_size=np.array(sizes, np.int32)))
    for ours, image in zip(scores, images):
        expected = unpadded_scores(model, params, image)
        assert_close(ours[: expected.shape[0], : expected.shape[1]], expected, SAME_PROGRAM)


def test_two_hundred_sizes_compile_at_most_once_a_bucket():
    rng = np.random.default_rng(0)
    model = VGG(arch="A", crop_size=32, **TINY)
    params, images = random_params(model, rng), random_images(rng.integers(33, 129, (200, 2)), rng)
    assert len({image.shape for image in images}) > 190
    buckets = {tuple(-(-side // 32) for side in image.shape[:2]) for image in images}
    assert len(buckets) == 9
    for evaluate in (dense_eval, dense_scores):
        before = compilation_count()
        evaluate(model, params, images)
        assert 0 < compilation_count() - before <= len(buckets)
    before = compilation_count()
    for others in (images[::-1], images[:7], images[:1], images[5:90]):  # other numbers of images in a bucket too
        dense_eval(model, params, others)
        dense_scores(model, params, others)
    assert compilation_count() == before


def test_calls_with_one_image_then_many_compile_once_a_bucket():
    rng = np.random.default_rng(1)
    model = VGG(arch="B", crop_size=32, **TINY)
    params, images = random_params(model, rng), random_images(rng.integers(33, 65, (9, 2)), rng)
    for evaluate in (dense_eval, dense_scores, multi_crop_eval):
        before = compilation_count()
        single = [evaluate(model, params, [image])[0] for image in images]
        together = evaluate(model, params, images)
        assert compilation_count() - before == 1
        for alone, ours in zip(single, together, strict=True):
            assert_close(ours, alone, SAME_PROGRAM)
