import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from onnx_reference import reference
from tolerances import ANOTHER_PROGRAM, assert_close

from vgg_jax import ARCHITECTURES, VGG, InputError
from vgg_jax.training.state import init_params, multiply_adds

MEAN = (120.0, 110.0, 100.0)
# Table 1 and 2: parameters at 1000 classes, 224x224
PARAMETERS = {
    "A": 132_863_336,
    "A-LRN": 132_863_336,
    "B": 133_047_848,
    "B-5x5": 134_503_528,
    "C": 133_638_952,
    "D": 138_357_544,
    "E": 143_667_240,
}


def narrow(arch, **fields):
    options = {"width_multiplier": 0.05, "crop_size": 64, "num_classes": 7, "mean_rgb": MEAN, **fields}
    return VGG(arch=arch, **options)


def photographs(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@functools.partial(jax.jit, static_argnums=0, static_argnames="train")
def apply(model, params, images, **options):
    return model.apply({"params": params}, images, **options)


def random_params(model, seed=0):
    """Params as large as Glorot's, biases that are not zero and differ; drawn by numpy, which compiles nothing."""
    crop = model.crop_size
    rng = np.random.default_rng(seed)

    def draw(struct):
        fans = struct.shape[-2:] if len(struct.shape) > 1 else (800, 0)  # biases: standard deviation 0.05
        field = np.prod(struct.shape[:-2]) if len(struct.shape) > 1 else 1
        return jnp.asarray(rng.normal(0, (2 / (field * sum(fans))) ** 0.5, struct.shape), struct.dtype)

    images = jax.ShapeDtypeStruct((1, crop, crop, 3), jnp.uint8)
    return jax.tree.map(draw, jax.eval_shape(model.init, jax.random.key(0), images)["params"])


@pytest.mark.parametrize("arch", PARAMETERS)
def test_parameter_counts_are_the_papers(arch):
    shapes = jax.eval_shape(VGG(arch).init, jax.random.key(0), jnp.zeros((1, 224, 224, 3), jnp.uint8))
    assert sum(a.size for a in jax.tree.leaves(shapes)) == PARAMETERS[arch]
    assert {a.dtype for a in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}


def test_architectures_are_the_seven_rows():
    assert list(ARCHITECTURES) == list(PARAMETERS)


@pytest.mark.parametrize("crop", [32, 64, 96])
@pytest.mark.parametrize("arch", PARAMETERS)
def test_logits_equal_onnxruntime(arch, crop):
    model = narrow(arch, crop_size=crop)
    params, images = random_params(model), photographs((2, crop, crop, 3))
    logits = apply(model, params, images)
    assert_close(logits, reference(arch, params, images, mean_rgb=MEAN), ANOTHER_PROGRAM)


@pytest.mark.parametrize("lrn", ["krizhevsky", "caffe"])
def test_lrn_conventions_equal_onnxruntime(lrn):
    model = narrow("A-LRN", lrn=lrn, width_multiplier=0.2)
    params, images = random_params(model), photographs((2, 64, 64, 3))
    logits = apply(model, params, images)
    assert_close(logits, reference("A-LRN", params, images, mean_rgb=MEAN, lrn=lrn), ANOTHER_PROGRAM)
    other = reference("A-LRN", params, images, mean_rgb=MEAN, lrn={"krizhevsky": "caffe", "caffe": "krizhevsky"}[lrn])
    with pytest.raises(AssertionError):
        assert_close(logits, other, ANOTHER_PROGRAM)


def test_uint8_and_float_images_give_the_same_logits():
    model = narrow("D")
    params, images = random_params(model), photographs((2, 64, 64, 3))
    a, b = (apply(model, params, x) for x in (images, images.astype(np.float32)))
    np.testing.assert_array_equal(a, b)


def test_std_rgb_divides():
    params, images = random_params(narrow("A")), photographs((2, 64, 64, 3)).astype(np.float32)
    ours = apply(narrow("A", std_rgb=(2.0, 4.0, 8.0)), params, images)
    scaled = (images - MEAN) / np.array([2.0, 4.0, 8.0]) + MEAN
    assert_close(ours, reference("A", params, scaled, mean_rgb=MEAN), ANOTHER_PROGRAM)


def test_bfloat16_computes_narrow_and_returns_float32():
    model = narrow("D", dtype=jnp.bfloat16)
    params, images = random_params(model), photographs((2, 64, 64, 3))
    logits = apply(model, params, images)
    assert logits.dtype == jnp.float32
    exact = apply(narrow("D"), params, images)
    assert 0 < np.abs(logits - exact).max() < 0.1 * np.abs(exact).max()


def test_initializers():
    wide = VGG(arch="A", width_multiplier=0.5, crop_size=32, num_classes=100)
    glorot, gaussian = (init_params(net, 0) for net in (wide, wide.clone(initializer="gaussian", initializer_std=0.1)))
    for name, layer in glorot.items():
        assert not np.any(layer["bias"])
        *window, inputs, outputs = layer["kernel"].shape
        expected = np.sqrt(2 / (np.prod(window, dtype=int) * (inputs + outputs)))
        assert np.std(layer["kernel"]) == pytest.approx(expected, rel=0.05), name
        assert np.std(gaussian[name]["kernel"]) == pytest.approx(0.1, rel=0.05), name
        assert not np.any(gaussian[name]["bias"])


def test_dropout_drops_half_scales_up_and_only_in_training():
    model = narrow("A", width_multiplier=0.1)
    params, images = random_params(model), photographs((4, 64, 64, 3))
    rngs = {"dropout": jax.random.key(3)}
    plain = apply(model, params, images)
    np.testing.assert_array_equal(plain, apply(model, params, images, rngs=rngs))
    # fc7 and fc8 as identities on what dropout leaves of fc6: about half of the units, doubled
    features = VGG(arch="A", width_multiplier=0.1, crop_size=64, num_classes=410, mean_rgb=MEAN)
    eye = {"kernel": jnp.eye(410), "bias": jnp.zeros(410)}
    eyes = {**params, "fc7": eye, "fc8": eye}
    kept = apply(features, eyes, images, train=True, rngs=rngs)
    full = apply(features, eyes, images)
    ratios = np.asarray(kept)[np.asarray(full) > 0] / np.asarray(full)[np.asarray(full) > 0]
    assert set(np.round(np.unique(ratios), 5)) == {0.0, 4.0}  # two dropouts, each doubles
    assert np.mean(ratios == 0) == pytest.approx(0.75, abs=0.06)


def test_dropout_belongs_to_the_example_not_to_its_place_in_the_batch():
    model = narrow("D")
    params, images = random_params(model), photographs((4, 64, 64, 3))

    def run(images, index):
        index = None if index is None else jnp.asarray(index)
        rngs = {"dropout": jax.random.key(3)}
        return np.asarray(apply(model, params, images, train=True, example_index=index, rngs=rngs))

    whole = run(images, [7, 8, 9, 10])
    np.testing.assert_allclose(run(images[2:], [9, 10]), whole[2:], rtol=1e-5, atol=1e-4)
    assert np.abs(run(images[2:], [7, 8]) - whole[2:]).max() > 1e-2
    np.testing.assert_array_equal(run(images, None), run(images, [0, 1, 2, 3]))


@pytest.mark.parametrize(
    ("fields", "shape", "sentence"),
    [
        ({}, (1, 65, 64, 3), "images are 65x64, but this VGG takes 64x64"),
        ({}, (1, 64, 64, 1), r"shape \[1, 64, 64, 1\]"),
        ({}, (64, 64, 3), r"shape \[64, 64, 3\]"),
        ({"arch": "F"}, (1, 64, 64, 3), "unknown architecture 'F': choose one of A, A-LRN, B"),
        ({"crop_size": 60}, (1, 60, 60, 3), "crop_size is 60, but it must be a multiple of 32"),
        ({"lrn": "other"}, (1, 64, 64, 3), "unknown lrn 'other'"),
        ({"initializer": "zeros"}, (1, 64, 64, 3), "unknown initializer 'zeros'"),
        ({"pool_rounding": "up"}, (1, 64, 64, 3), "unknown pool_rounding 'up'"),
    ],
)
def test_bad_input_gives_one_sentence(fields, shape, sentence):
    with pytest.raises(InputError, match=sentence):
        narrow(**{"arch": "D", **fields}).init(jax.random.key(0), np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    "arch, giga",
    [("A", 7.609), ("A-LRN", 7.609), ("B", 11.308), ("B-5x5", 9.36), ("C", 11.771), ("D", 15.470), ("E", 19.632)],
)
def test_multiply_adds(arch, giga):
    """Known figures of the nets at crop 224."""
    assert multiply_adds(VGG(arch)) / 1e9 == pytest.approx(giga, abs=5e-3 if arch == "B-5x5" else 5e-4)
