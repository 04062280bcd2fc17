import jax
import jax.numpy as jnp
import numpy as np
import pytest
from onnx_reference import TABLE, reference
from test_model import MEAN, apply, narrow, photographs, random_params
from tolerances import ANOTHER_PROGRAM, SAME_PROGRAM, assert_close

from vgg_jax import VGG, InputError
from vgg_jax.eval import compilation_count, dense_eval, dense_scores, fc_to_conv
from vgg_jax.images.rescale import rescale


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("size", [(64, 64), (97, 130), (160, 75)])
@pytest.mark.parametrize("arch", TABLE)
def test_score_maps_equal_onnxruntime(arch, size):
    model = narrow(arch)
    params, images = random_params(model), photographs((2, *size, 3))
    scores = dense_scores(model, params, images)
    assert_close(scores, reference(arch, params, images, mean_rgb=MEAN, dense=True), ANOTHER_PROGRAM)


@pytest.mark.parametrize("rounding", ["floor", "ceil"])
def test_pool_rounding_equals_onnxruntimes_modes(rounding):
    model = narrow("D", crop_size=32)
    params, images = random_params(model), photographs((1, 71, 101, 3))
    scores = dense_scores(model, params, images, pool_rounding=rounding)
    expected = reference("D", params, images, mean_rgb=MEAN, dense=True, pool_rounding=rounding)
    assert_close(scores, expected, ANOTHER_PROGRAM)
    assert scores.shape[1:3] == {"floor": (2, 3), "ceil": (3, 4)}[rounding]


@pytest.mark.parametrize("arch", ["A-LRN", "C"])
@pytest.mark.parametrize("rounding", ["floor", "ceil"])
def test_padded_images_score_as_unpadded_ones(arch, rounding):
    model = narrow(arch, crop_size=32, pool_rounding=rounding)
    params = random_params(model)
    rng = np.random.default_rng(0)
    sizes = rng.integers(32, 130, (6, 2))
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    dense = model.clone(fully_convolutional=True)
    alone = [apply(dense, fc_to_conv(params), image[None])[0] for image in images]
    largest = max(np.abs(a).max() for a in alone)
    for ours, expected in zip(dense_scores(model, params, images), alone):
        assert ours.shape == expected.shape
        assert np.abs(ours - expected).max() < SAME_PROGRAM * largest


def test_at_crop_size_dense_is_the_ordinary_net():
    model = narrow("E")
    params, images = random_params(model), photographs((3, 64, 64, 3))
    logits = apply(model, params, images)
    assert_close(dense_scores(model, params, images)[:, 0, 0], logits, SAME_PROGRAM)
    assert_close(dense_eval(model, params, images, flip=False), softmax(np.asarray(logits)), SAME_PROGRAM)


def test_each_score_is_the_ordinary_nets_on_its_window_of_a_one_convolution_case():
    """With kernels that copy the centre, no layer looks beyond its pixel: window i of the map is crop i."""
    model = VGG(arch="A", num_classes=5, width_multiplier=3 / 64, crop_size=32, mean_rgb=(0.0, 0.0, 0.0))
    params = jax.tree.map(np.array, random_params(model))
    for name, layer in params.items():
        if name.startswith("conv") and name != "conv1_1":
            copy = np.zeros_like(layer["kernel"])
            for channel in range(copy.shape[3]):
                copy[1, 1, channel % copy.shape[2], channel] = 1.0
            params[name] = {"kernel": copy, "bias": np.zeros_like(layer["bias"])}
    params["conv1_1"]["kernel"][:] = 0.0
    params["conv1_1"]["kernel"][1, 1] = np.eye(3)  # the one convolution: its 3 channels are R, G, B
    image = photographs((96, 128, 3))
    scores = dense_scores(model, params, [image])[0]
    assert scores.shape == (3, 4, 5)
    for i in range(3):
        for j in range(4):
            window = image[None, 32 * i : 32 * i + 32, 32 * j : 32 * j + 32]
            assert_close(scores[i, j], apply(model, params, window)[0], SAME_PROGRAM)


def test_fc_to_conv_reshapes_in_height_width_channel_order():
    params = random_params(narrow("B", crop_size=96))
    conv = fc_to_conv(params)
    assert list(conv) == list(params)
    channels = params["conv5_2"]["bias"].size
    kernel = conv["fc6"]["kernel"]
    assert kernel.shape[:3] == (3, 3, channels)
    np.testing.assert_array_equal(kernel[1, 2, 4], params["fc6"]["kernel"][(1 * 3 + 2) * channels + 4])
    assert conv["fc8"]["kernel"].shape == (1, 1, *params["fc8"]["kernel"].shape)
    assert jax.tree.structure(fc_to_conv(conv)) == jax.tree.structure(conv)
    for name in ("fc6", "fc7", "fc8"):
        with pytest.raises(InputError, match=name):
            fc_to_conv({k: v for k, v in params.items() if k != name})


def test_posteriors_are_means_over_space_then_flips_then_scales():
    """Spelled out on onnxruntime's score maps: mean over the map, soft-max, mean of flips, mean of scales."""
    model = narrow("D", crop_size=32)
    params = random_params(model)
    images = [photographs(size, seed) for seed, size in enumerate([(50, 71, 3), (81, 60, 3)])]
    expected = []
    for image in images:
        views = [v for q in (40, 64) for v in (rescale(image, q), rescale(image, q)[:, ::-1])]
        maps = [reference("D", params, view[None], mean_rgb=MEAN, dense=True)[0] for view in views]
        expected.append(np.mean([softmax(m.mean((0, 1))) for m in maps], axis=0))
    probs = dense_eval(model, params, images, scales=(40, 64))
    assert probs.dtype == np.float32 and isinstance(probs, np.ndarray)
    assert_close(probs, np.stack(expected), ANOTHER_PROGRAM)


@pytest.mark.parametrize("spatial", ["mean", "sum", "posterior_mean"])
def test_the_three_readings_of_the_spatial_mean(spatial):
    model = narrow("A", crop_size=32)
    params, image = random_params(model), photographs((70, 101, 3))
    scores = reference("A", params, image[None], mean_rgb=MEAN, dense=True)[0].reshape(-1, 7)
    expected = {
        "mean": softmax(scores.mean(0)),
        "sum": softmax(scores.sum(0)),
        "posterior_mean": softmax(scores).mean(0),
    }[spatial]
    ours = dense_eval(model, params, [image], flip=False, spatial=spatial)[0]
    np.testing.assert_allclose(ours, expected, atol=2e-4)


def test_input_order_and_kinds_of_input():
    model = narrow("A", crop_size=32)
    params = random_params(model)
    images = photographs((5, 45, 66, 3))
    as_array = dense_eval(model, params, images)
    order = [3, 1, 4, 0, 2]
    shuffled = dense_eval(model, params, [images[i] for i in order], batch_size=2)
    assert_close(shuffled, as_array[order], SAME_PROGRAM)
    assert_close(dense_eval(model, params, jnp.asarray(images, jnp.float32)), as_array, SAME_PROGRAM)


def test_works_under_jit_grad_and_vmap():
    model = narrow("A", crop_size=32)
    params, images = random_params(model), photographs((2, 45, 66, 3)).astype(np.float32)
    expected = dense_eval(model, params, images, scales=(40,))
    jitted = jax.jit(lambda p, x: dense_eval(model, p, x, scales=(40,)))(params, images)
    assert_close(jitted, expected, ANOTHER_PROGRAM)
    scores = dense_scores(model, params, images)
    assert_close(jax.jit(lambda x: dense_scores(model, params, x))(images), scores, ANOTHER_PROGRAM)
    mapped = jax.vmap(lambda x: dense_scores(model, params, x[None])[0])(images)
    assert_close(mapped, scores, ANOTHER_PROGRAM)
    gradient = jax.grad(lambda x: dense_scores(model, params, x)[..., 3].sum())(images)
    assert gradient.shape == images.shape and np.abs(gradient).max() > 0


def test_compiles_at_most_once_a_bucket():
    model = narrow("A", crop_size=32, width_multiplier=0.02)
    params, rng = random_params(model), np.random.default_rng(1)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in rng.integers(32, 129, (60, 2))]
    buckets = {(-(-a.shape[0] // 32), -(-a.shape[1] // 32)) for a in images}
    before = compilation_count()
    dense_eval(model, params, images)
    assert compilation_count() - before <= len(buckets)
    before = compilation_count()
    dense_eval(model, params, images[::-1])
    assert compilation_count() == before


@pytest.mark.parametrize(
    ("images", "options", "sentence"),
    [
        ([np.zeros((40, 40, 3), np.uint8), np.zeros((40, 20, 3), np.uint8)], {}, "image 1 is 40x20, smaller than"),
        ([], {}, "no images"),
        (np.zeros((40, 40, 3), np.uint8), {}, r"shape \[40, 40, 3\]"),
        ([np.zeros((40, 40), np.uint8)], {}, r"image 0 has shape \[40, 40\]"),
        ([np.zeros((40, 40, 3), np.uint8)], {"spatial": "max"}, "unknown spatial 'max'"),
        ([np.zeros((40, 40, 3), np.uint8)], {"scales": ()}, r"scales is \(\), but a sequence"),
        ([np.zeros((40, 40, 3), np.uint8)], {"pool_rounding": "up"}, "unknown pool_rounding 'up'"),
    ],
)
def test_bad_input_gives_one_sentence(images, options, sentence):
    model = narrow("A", crop_size=32)
    with pytest.raises(InputError, match=sentence):
        dense_eval(model, random_params(model), images, **options)
