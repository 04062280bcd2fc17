import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from tolerances import SAME_PROGRAM, assert_close

from vgg_jax import VGG, winograd
from vgg_jax.eval import dense_scores, fc_to_conv
from vgg_jax.optimizer import sgd
from vgg_jax.training.parallel import parallel_train_step, replicate, shard_batch
from vgg_jax.training.state import init_params, init_state
from vgg_jax.training.step import Objective

DOUBLE = 1e-14  # of the largest value: float64


def correlated(x, kernel):
    """Convolution, its values by definition, in numpy."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    _, height, width, _ = x.shape
    windows = ((i, j, padded[:, i : i + height, j : j + width]) for i, j in itertools.product(range(3), range(3)))
    return sum(np.einsum("nhwc,cf->nhwf", window, kernel[i, j]) for i, j, window in windows)


def gradients(x, kernel, cotangent):
    """Of sum(cotangent * convolution), by definition."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    of_padded, of_kernel = np.zeros_like(padded), np.zeros_like(kernel)
    _, height, width, _ = x.shape
    for i, j in itertools.product(range(3), range(3)):
        of_kernel[i, j] = np.einsum("nhwc,nhwf->cf", padded[:, i : i + height, j : j + width], cotangent)
        of_padded[:, i : i + height, j : j + width] += np.einsum("nhwf,cf->nhwc", cotangent, kernel[i, j])
    return of_padded[:, 1:-1, 1:-1], of_kernel


@pytest.fixture
def everywhere(monkeypatch):
    """Winograd in all 3x3 convolutions, however small."""
    for name in ("_LEAST_CHANNELS", "_CHANNELS", "_LEAST_TILES"):
        monkeypatch.setattr(winograd, name, 1)


@pytest.mark.parametrize("size", [(2, 6, 8), (1, 5, 7), (2, 9, 4), (3, 1, 1), (1, 2, 3)])
def test_values_and_gradients_are_those_of_the_definition(size):
    rng = np.random.default_rng(0)
    x, kernel, cotangent = (rng.standard_normal(shape) for shape in ((*size, 3), (3, 3, 3, 5), (*size, 5)))
    with jax.enable_x64(True):
        values, back = jax.vjp(winograd.convolve_3x3, jnp.asarray(x), jnp.asarray(kernel))
        of_x, of_kernel = back(jnp.asarray(cotangent))
    assert_close(values, correlated(x, kernel), DOUBLE)
    for ours, theirs in zip((of_x, of_kernel), gradients(x, kernel, cotangent)):
        assert_close(ours, theirs, DOUBLE)


def test_float32_is_near_to_the_truth():
    rng = np.random.default_rng(1)
    x, kernel = rng.standard_normal((2, 14, 14, 256)), rng.standard_normal((3, 3, 256, 256))
    x32, kernel32 = x.astype(np.float32), kernel.astype(np.float32)
    truth = correlated(x32.astype(np.float64), kernel32.astype(np.float64))
    assert_close(winograd.convolve_3x3(x32, kernel32), truth, 2e-6)


@pytest.mark.parametrize(
    ("shape", "kernel", "dtype", "expected"),
    [
        ((2, 56, 56, 256), (3, 3, 256, 256), "float32", True),
        ((2, 56, 56, 128), (3, 3, 128, 256), "float32", True),
        ((8, 4, 4, 512), (3, 3, 512, 512), "float32", True),
        ((2, 7, 7, 512), (3, 3, 512, 512), "float32", True),  # 4x4 tiles each
        ((7, 4, 4, 512), (3, 3, 512, 512), "float32", False),  # few tiles
        ((1, 56, 56, 256), (3, 3, 256, 256), "float32", False),  # one image
        ((32, 56, 56, 256), (3, 3, 256, 256), "float32", True),
        ((64, 56, 56, 256), (3, 3, 256, 256), "float32", False),  # much memory
        ((2, 112, 112, 128), (3, 3, 128, 128), "float32", False),  # few channels
        ((2, 224, 224, 3), (3, 3, 3, 512), "float32", False),
        ((2, 56, 56, 256), (1, 1, 256, 256), "float32", False),  # net C
        ((2, 56, 56, 256), (5, 5, 256, 256), "float32", False),  # B's 5x5 twin
        ((2, 56, 56, 256), (3, 3, 256, 256), "bfloat16", False),
    ],
)
def test_which_convolutions_it_takes(shape, kernel, dtype, expected):
    assert winograd.suits(jax.ShapeDtypeStruct(shape, jnp.dtype(dtype)), kernel) is expected


def test_only_a_cpu_gains(monkeypatch):
    assert winograd.pays()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not winograd.pays()


def test_a_net_gives_the_same_logits_and_gradients_either_way(everywhere):
    model = VGG(arch="C", num_classes=5, width_multiplier=0.05, crop_size=32)
    params = init_params(model, 0)
    images = np.random.default_rng(2).integers(0, 256, (2, 32, 32, 3), np.uint8)

    def loss(params, **how):
        return (model.apply({"params": params}, images, **how) ** 2).sum()

    of_step = jax.make_jaxpr(lambda p: model.apply({"params": p}, images, winograd=True))(params)
    assert str(of_step).count("conv_general_dilated[") == 3  # the 1x1 ones
    direct, ours = jax.jit(jax.grad(loss))(params), jax.jit(jax.grad(lambda p: loss(p, winograd=True)))(params)
    for name, layer in direct.items():
        assert_close(ours[name]["kernel"], layer["kernel"], SAME_PROGRAM)


@pytest.mark.parametrize("rounding", ["floor", "ceil"])
def test_padded_images_score_as_each_alone_by_the_direct_convolution(everywhere, rounding):
    model = VGG(arch="A", num_classes=5, width_multiplier=0.05, crop_size=32, pool_rounding=rounding)
    params, dense = init_params(model, 0), model.clone(fully_convolutional=True)
    sizes = np.array(((33, 47), (64, 64), (51, 90), (32, 35)), np.int32)
    padded = np.random.default_rng(3).integers(0, 256, (4, 64, 96, 3), np.uint8)
    apply = jax.jit(lambda p, x, s: dense.apply({"params": p}, x, valid_size=s, winograd=True))
    scores = apply(fc_to_conv(params), padded, sizes)
    alone = dense_scores(model, params, [image[:height, :width] for image, (height, width) in zip(padded, sizes)])
    for ours, theirs in zip(scores, alone):
        assert_close(ours[: theirs.shape[0], : theirs.shape[1]], theirs, SAME_PROGRAM)


def test_nan_reaches_all_that_the_direct_convolution_would_spoil():
    x = np.ones((1, 8, 8, 2), np.float32)
    x[0, 3, 4, 1] = np.nan
    assert np.isnan(winograd.convolve_3x3(x, np.ones((3, 3, 2, 4), np.float32))[0, 2:5, 3:6]).all()


@pytest.mark.usefixtures("full_optimization")
def test_training_has_the_same_bits_on_any_number_of_devices(everywhere, monkeypatch):
    """Of a single tile products would be multiplications, which sums over the parts take in."""
    monkeypatch.setattr(winograd, "_LEAST_TILES", 16)
    model = VGG(arch="A", num_classes=4, width_multiplier=0.05, crop_size=32)
    start = jax.tree.map(np.asarray, init_params(model, 0))
    rng = np.random.default_rng(4)
    batch = {"image": rng.integers(0, 256, (4, 32, 32, 3), np.uint8), "label": np.arange(4, dtype=np.int32)}
    batch["index"] = np.arange(4, dtype=np.int32)

    def trained(devices, winograd):
        mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
        objective = Objective(model, winograd=winograd)
        step = parallel_train_step(objective, sgd(1e-2), mesh, batch_size=4, micro_batches=2)
        state = replicate(init_state(start, sgd(1e-2)), mesh)
        for seed in range(10):
            state, _ = step(state, shard_batch(batch, mesh), seed)
        return jax.tree.map(np.asarray, state.params)

    alone = trained(1, winograd=True)
    assert jax.tree.all(jax.tree.map(np.array_equal, trained(2, winograd=True), alone))
    assert not jax.tree.all(jax.tree.map(np.array_equal, trained(1, winograd=False), alone))
