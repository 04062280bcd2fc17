import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_reference import TABLE, reference
from test_model import MEAN, apply, narrow, photographs, random_params
from tolerances import ANOTHER_PROGRAM, SAME_PROGRAM, assert_close

from vgg_jax import InputError, features
from vgg_jax.architectures import activation_names
from vgg_jax.eval import compilation_count

FC = ("fc6/pre", "fc6", "fc7/pre", "fc7", "fc8")
TINY = {"crop_size": 32, "width_multiplier": 0.03}


def body(params):
    """A convolutional body: without the fully connected layers."""
    return {name: layer for name, layer in params.items() if name.startswith("conv")}


def assert_all_close(ours, theirs, of_largest):
    assert list(ours) == list(theirs)
    for name in theirs:
        assert_close(ours[name], theirs[name], of_largest)


@pytest.mark.parametrize("arch", TABLE)
def test_every_layer_equals_onnxruntimes(arch):
    model = narrow(arch)
    params, images = random_params(model), photographs((2, 97, 130, 3))
    names = activation_names(arch)
    ours = features(model, params, images, names)
    assert_all_close(ours, reference(arch, params, images, mean_rgb=MEAN, dense=True, layers=names), ANOTHER_PROGRAM)
    assert ours["conv1_1"].shape[1:3] == (97, 130) and ours["pool5"].shape[1:3] == (3, 4)
    assert ours["fc7"].shape[1:3] == (2, 3)


@pytest.mark.parametrize("given", ["model", "argument"])
def test_pools_that_round_up(given):
    model = narrow("C", crop_size=32)
    params, images = random_params(model), photographs((1, 71, 101, 3))
    names = activation_names("C")
    rounded = model.clone(pool_rounding="ceil") if given == "model" else model
    ours = features(rounded, params, images, names, pool_rounding="ceil" if given == "argument" else None)
    options = {"mean_rgb": MEAN, "dense": True, "layers": names}
    assert_all_close(ours, reference("C", params, images, pool_rounding="ceil", **options), ANOTHER_PROGRAM)
    assert ours["pool1"].shape[1:3] == (36, 51) and ours["pool5"].shape[1:3] == (3, 4)


def test_names_are_the_nets_layers_in_order():
    assert activation_names("A-LRN")[:6] == ("conv1_1/pre", "conv1_1", "pool1", "conv2_1/pre", "conv2_1", "pool2")
    assert len(activation_names("D")) == 2 * 13 + 5 + 5 and activation_names("D")[-6:] == ("pool5", *FC)


def test_fc_layers_are_vectors_at_crop_size_and_maps_elsewhere():
    model = narrow("A")
    params, images = random_params(model), photographs((2, 64, 64, 3))
    vectors = features(model, params, images, FC)
    logits = apply(model, params, images)
    assert_close(vectors["fc8"], logits, SAME_PROGRAM)
    assert vectors["fc6"].shape == (2, params["fc6"]["bias"].size)
    np.testing.assert_array_equal(vectors["fc7"], np.maximum(vectors["fc7/pre"], 0))
    here, there = features(model, params, [images[0], photographs((64, 96, 3))], ["fc8"])
    assert_close(here["fc8"], logits[0], SAME_PROGRAM)
    assert there["fc8"].shape == (1, 2, 7)


MIXED = [narrow(arch, pool_rounding=rounding, **TINY) for arch, rounding in (("A-LRN", "floor"), ("B-5x5", "ceil"))]
PARAMS = {model: random_params(model) for model in MIXED}
SIZES = st.lists(st.tuples(st.integers(33, 64), st.integers(33, 96)), min_size=1, max_size=4)
DRAWN_LAYERS = ("conv1_1", "pool1", "conv3_1/pre", "conv4_1", "pool4", "conv5_1", "pool5", "fc6", "fc8")


@settings(max_examples=15, derandomize=True, deadline=None, database=None)
@given(st.sampled_from(MIXED), SIZES, st.integers(0))
def test_images_of_mixed_sizes_are_as_each_alone(model, sizes, seed):
    params, rng = PARAMS[model], np.random.default_rng(seed)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    ours = features(model, params, images, DRAWN_LAYERS, batch_size=2)
    options = {"mean_rgb": MEAN, "dense": True, "pool_rounding": model.pool_rounding, "layers": DRAWN_LAYERS}
    for maps, image in zip(ours, images, strict=True):
        alone = reference(model.arch, params, image[None], **options)
        assert_all_close(maps, {name: a[0] for name, a in alone.items()}, ANOTHER_PROGRAM)
    alone = features(model, params, images[0][None], DRAWN_LAYERS, batch_size=2)
    assert_all_close(ours[0], {name: a[0] for name, a in alone.items()}, SAME_PROGRAM)


def test_small_images_have_every_layer_that_has_a_position():
    model = narrow("D", **TINY)
    params, image = body(random_params(model)), photographs((9, 17, 3))
    names = ("conv1_1", "conv4_3", "pool3")
    ours = features(model, params, [image], names)[0]
    full = {**params, **{name: layer for name, layer in random_params(model).items() if name.startswith("fc")}}
    padded = np.full((64, 64, 3), MEAN, np.float32)  # zeros after the mean, as the padding of a convolution
    padded[:9, :17] = image
    expected = reference("D", full, padded[None], mean_rgb=MEAN, dense=True, layers=names)
    assert_close(ours["conv1_1"], expected["conv1_1"][0, :9, :17], ANOTHER_PROGRAM)
    assert ours["conv4_3"].shape[:2] == ours["pool3"].shape[:2] == (1, 2)
    with pytest.raises(InputError, match="image 0 is 9x17, too small for pool5, which takes at least 32x32"):
        features(model, params, [image], ["conv1_1", "pool5"])
    with pytest.raises(InputError, match="image 0 is 40x63, too small for fc6, which takes at least 64x64"):
        features(narrow("D"), random_params(narrow("D")), photographs((1, 40, 63, 3)), ["fc6"])


def test_nothing_beyond_the_deepest_layer_is_needed_or_computed():
    model = narrow("D", **TINY)
    params, images = random_params(model), photographs((1, 32, 32, 3))
    full = features(model, params, images, activation_names("D"))
    for deepest in ("conv1_2", "conv4_1/pre", "pool5", "fc6"):
        names = activation_names("D")
        needed = {name.removesuffix("/pre") for name in names[: names.index(deepest) + 1]}
        part = {name: layer for name, layer in params.items() if name in needed}
        assert_close(features(model, part, images, [deepest])[deepest], full[deepest], SAME_PROGRAM)
    traced = jax.make_jaxpr(lambda x: features(model, body(params), x, ("conv1_2",)))(images)
    assert str(traced).count("conv_general_dilated[") == 2
    with pytest.raises(InputError, match=r"params lack conv1_2, needed for pool1 of net D$"):
        features(model, {"conv1_1": params["conv1_1"]}, images, ("pool1",))


def test_a_convolutional_body_has_features_and_says_why_no_scores():
    model = narrow("A")
    params, images = body(random_params(model)), photographs((1, 64, 64, 3))
    assert features(model, params, images, ("pool5",))["pool5"].shape[1:3] == (2, 2)
    with pytest.raises(InputError, match="params lack fc6, fc7, needed for fc7 of net A: a convolutional body has"):
        features(model, params, images, ("pool5", "fc7"))
    with pytest.raises(InputError, match=r"params have no fc6: .* vgg_jax\.features gives the activations up to pool5"):
        apply(model, params, images)


def test_works_under_jit_grad_and_vmap():
    model = narrow("A", **TINY)
    params, images = random_params(model), photographs((2, 45, 66, 3)).astype(np.float32)
    names = ("fc7", "conv2_1", "pool5")
    expected = features(model, params, images, names)
    jitted = jax.jit(lambda p, x: [features(model, p, x, names)[name] for name in names])(params, images)
    assert_all_close(dict(zip(names, jitted)), expected, SAME_PROGRAM)
    mapped = jax.jit(jax.vmap(lambda x: features(model, params, x[None], names)))(images)
    assert_all_close({name: mapped[name][:, 0] for name in names}, expected, SAME_PROGRAM)
    listed = jax.jit(lambda a, b: features(model, params, [a, b], names, value_range=(0, 1)))
    for maps, image in zip(listed(images[0] / 255, images[1, :32, :32] / 255), (images[0], images[1, :32, :32])):
        assert_all_close({n: maps[n] for n in names}, features(model, params, [image], names)[0], SAME_PROGRAM)
    assert maps["fc7"].shape == (params["fc7"]["bias"].size,)


@pytest.mark.parametrize("transform", [jax.jit, jax.grad, lambda f: jax.jit(jax.grad(f))])
def test_concrete_images_in_a_traced_function(transform):
    """As the fixed target of a perceptual loss."""
    model = narrow("A", **TINY)
    target = features(model, PARAMS_A, IMAGES, ("conv1_1", "fc6"))

    def loss(x):
        maps = features(model, PARAMS_A, IMAGES, ("conv1_1", "fc6"))
        assert_all_close(maps, target, SAME_PROGRAM)
        return x * jnp.sum(maps["conv1_1"])

    assert transform(loss)(1.0) == pytest.approx(float(jnp.sum(target["conv1_1"])), rel=1e-5)


def test_gradient_equals_finite_differences():
    """In float64 and away from kinks, the slope along a direction."""
    model = narrow("A", dtype=jnp.float64, **TINY)
    with jax.enable_x64():
        params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), PARAMS_A)
        images = jnp.asarray(photographs((1, 37, 41, 3)), jnp.float64)
        direction = jnp.asarray(np.random.default_rng(1).normal(size=images.shape))

        @jax.jit
        def loss(x):
            maps = features(model, params, x, ("conv1_1/pre", "conv2_1", "pool3"))
            return sum(jnp.sum(a**2) for a in maps.values())

        slope = jnp.sum(jax.grad(loss)(images) * direction)
        step = 1e-6
        difference = (loss(images + step * direction) - loss(images - step * direction)) / (2 * step)
    assert slope == pytest.approx(float(difference), rel=1e-6)


def test_compiles_at_most_once_a_bucket():
    model = narrow("A", crop_size=32, width_multiplier=0.02)
    params, rng = random_params(model), np.random.default_rng(1)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in rng.integers(33, 97, (40, 2))]
    buckets = {tuple(-(-side // 32) for side in image.shape[:2]) for image in images}
    assert len(buckets) == 4 and len({image.shape for image in images}) > 30
    before = compilation_count()
    features(model, params, images, ("conv2_1", "pool5"))
    assert 0 < compilation_count() - before <= len(buckets)
    before = compilation_count()
    features(model, params, images[::-1], ("conv2_1", "pool5"))
    assert compilation_count() == before


PARAMS_A, IMAGES = random_params(narrow("A", **TINY)), photographs((2, 37, 40, 3))


@pytest.mark.parametrize(
    ("images", "layers", "sentence"),
    [
        (IMAGES, ("conv1_1", "conv6_1"), "unknown layer 'conv6_1': net A has conv1_1, pool1, conv2_1, .*, fc7, fc8;"),
        (IMAGES, ("fc8/pre",), "unknown layer 'fc8/pre'"),
        (IMAGES, ("conv1_2",), "unknown layer 'conv1_2': net A has conv1_1, pool1"),
        (IMAGES, (3,), "unknown layer 3"),
        (IMAGES, (), r"layers is \(\), but a sequence of names"),
        (IMAGES, "conv1_1", "layers is 'conv1_1', but a sequence of names"),
        (IMAGES, None, "layers is None, but a sequence of names"),
        (IMAGES[0], ("conv1_1",), r"images have shape \[37, 40, 3\]"),
        ([IMAGES[0], IMAGES[1, ..., 0]], ("conv1_1",), r"image 1 has shape \[37, 40\]"),
        ([], ("conv1_1",), "no images"),
        (IMAGES / 255, ("conv1_1",), r"lie in \[0, 1\]"),
        (np.full((1, 37, 40, 3), np.nan), ("conv1_1",), "image 0 has NaN"),
    ],
)
def test_bad_input_gives_one_sentence(images, layers, sentence):
    model = narrow("A", **TINY)
    with pytest.raises(InputError, match=sentence):
        features(model, PARAMS_A, images, layers)


def test_value_range_and_order_and_repeats():
    model = narrow("A", **TINY)
    ours = features(model, PARAMS_A, IMAGES / np.float32(255), ("pool2", "conv1_1", "pool2"), value_range=(0, 1))
    assert list(ours) == ["pool2", "conv1_1"]
    assert_all_close(ours, features(model, PARAMS_A, IMAGES, ("pool2", "conv1_1")), SAME_PROGRAM)
