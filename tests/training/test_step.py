import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tolerances import SAME_PROGRAM, assert_close

from vgg_jax import VGG, InputError
from vgg_jax.architectures import FC_LAYERS
from vgg_jax.data.statistics import IMAGENET_STATISTICS
from vgg_jax.optimizer import sgd
from vgg_jax.training.state import TrainState, init_params, init_state, split_params
from vgg_jax.training.step import Objective, eval_step, sum_over_parts, train_step

BATCH = 8
COLOURS = IMAGENET_STATISTICS.eigenvalues, IMAGENET_STATISTICS.eigenvectors


def net(**fields):
    return VGG(**{"arch": "A", "num_classes": 4, "width_multiplier": 0.03, "crop_size": 32, **fields})


@functools.cache
def params_of(model, seed=0):
    return init_params(model, seed)


def draw_batch(seed=0, size=BATCH, num_classes=4):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (size, 32, 32, 3), np.uint8),
        "label": rng.integers(0, num_classes, size).astype(np.int32),
        "index": (seed * size + np.arange(size)).astype(np.int32),
    }


@functools.partial(jax.jit, static_argnames=("model", "colours", "trained", "micro_batches", "batch_size"))
def jitted_step(state, batch, *, model, colours=(None, None), seed=0, trained="all", micro_batches=1, batch_size=BATCH):
    objective = Objective(model, *colours, trained)
    options = {"batch_size": batch_size, "micro_batches": micro_batches}
    return train_step(state, batch, seed, objective=objective, optimizer=plain(), **options)


def plain():
    """Without decay and at rate 1: the first velocity is minus the gradient."""
    return sgd(1.0, weight_decay=0.0)


def step(model, params, batch, trained="all", **options):
    """(gradient, new state, metrics) of a first step."""
    state = init_state(params, plain(), trained)
    new, metrics = jitted_step(state, batch, model=model, trained=trained, **options)
    velocity = optax.tree.get(new.opt_state, "trace")
    return jax.tree.map(lambda v: -np.asarray(v), velocity), new, metrics


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params, images):
    return model.apply({"params": params}, images)


@functools.partial(jax.jit, static_argnums=0)
def reference_gradient(model, params, batch):
    """Of the mean loss over the whole batch, in one piece; the soft-max written out."""

    def mean_loss(params):
        logits = model.apply({"params": params}, batch["image"])
        shifted = logits - logits.max(axis=1, keepdims=True)
        log_probabilities = shifted - jnp.log(jnp.exp(shifted).sum(axis=1, keepdims=True))
        return -(log_probabilities * jax.nn.one_hot(batch["label"], logits.shape[1])).sum() / len(logits)

    return jax.grad(mean_loss)(params)


@pytest.mark.parametrize("micro_batches", [1, 2, 4, 8])
def test_gradients_equal_those_of_the_whole_batch(micro_batches):
    model, batch = net(dropout_rate=0.0), draw_batch()
    gradient, _, _ = step(model, params_of(model), batch, micro_batches=micro_batches)
    expected = reference_gradient(model, params_of(model), batch)
    for name in expected:
        for part in ("kernel", "bias"):
            assert_close(gradient[name][part], expected[name][part], SAME_PROGRAM)


def test_gradients_equal_finite_differences():
    with jax.enable_x64(True):
        model, batch = net(dropout_rate=0.0, dtype=jnp.dtype("float64")), draw_batch()
        params = jax.tree.map(lambda a: np.asarray(a, np.float64), params_of(net(dropout_rate=0.0)))
        gradient, _, _ = step(model, params, batch)
        rng = np.random.default_rng(1)
        direction = jax.tree.map(lambda a: rng.normal(size=a.shape) * np.abs(a).max(), params)
        epsilon = 1e-7  # small, so that few ReLUs and pools switch in between

        def loss(at):
            logits = np.asarray(
                logits_of(model, jax.tree.map(lambda a, d: a + at * d, params, direction), batch["image"])
            )
            picked = logits[np.arange(BATCH), batch["label"]]
            return (np.log(np.exp(logits).sum(axis=1)) - picked).mean()

        slope = (loss(epsilon) - loss(-epsilon)) / (2 * epsilon)
        products = jax.tree.map(lambda g, d: (g * d).sum(), gradient, direction)
        assert gradient["fc8"]["kernel"].dtype == np.float64
        np.testing.assert_allclose(sum(jax.tree.leaves(products)), slope, rtol=1e-5)


def test_metrics_are_the_means_of_the_batch():
    model, batch = net(dropout_rate=0.0, num_classes=8), draw_batch(num_classes=8)
    logits = np.asarray(logits_of(model, params_of(model), batch["image"]), np.float64)
    label_scores = logits[np.arange(BATCH), batch["label"]]
    better = (logits >= label_scores[:, None]).sum(axis=1)
    _, state, metrics = step(model, params_of(model), batch, micro_batches=4)
    assert set(metrics) == {"loss", "update_norm", "top1_error", "top5_error"}
    np.testing.assert_allclose(metrics["loss"], (np.log(np.exp(logits).sum(axis=1)) - label_scores).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["top1_error"], 100 * (better > 1).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["top5_error"], 100 * (better > 5).mean(), rtol=1e-5)
    assert int(state.step) == 1


def test_the_first_step_moves_against_the_gradient():
    model, batch = net(dropout_rate=0.0), draw_batch()
    before = params_of(model)
    gradient, state, _ = step(model, before, batch)
    for name in before:
        expected = np.asarray(before[name]["kernel"]) - gradient[name]["kernel"]
        np.testing.assert_allclose(state.params[name]["kernel"], expected, rtol=1e-6, atol=1e-7)


def test_randomness_belongs_to_the_position_and_the_seed():
    model, batch = net(), draw_batch()
    options = {"colours": COLOURS}
    gradient, _, metrics = step(model, params_of(model), batch, **options)
    order = np.random.default_rng(0).permutation(BATCH)
    shuffled = {name: a[order] for name, a in batch.items()}
    again, _, _ = step(model, params_of(model), shuffled, **options)
    for name in gradient:
        assert_close(again[name]["kernel"], gradient[name]["kernel"], SAME_PROGRAM)
    elsewhere = {**batch, "index": batch["index"] + BATCH}
    losses = {
        float(metrics["loss"]),
        float(step(model, params_of(model), elsewhere, **options)[2]["loss"]),
        float(step(model, params_of(model), batch, **options, seed=1)[2]["loss"]),
        float(step(model, params_of(model), batch)[2]["loss"]),  # no colour shift
    }
    assert len(losses) == 4


def test_training_the_fully_connected_layers_alone():
    model, batch = net(), draw_batch()
    before = params_of(model)
    gradient, state, _ = step(model, before, batch, trained="fc")
    assert set(gradient) == set(FC_LAYERS)
    for name in before:
        same = [np.array_equal(before[name][part], state.params[name][part]) for part in ("kernel", "bias")]
        assert same == [name not in FC_LAYERS] * 2, name
    whole, _, _ = step(model, before, batch)
    for name in FC_LAYERS:
        assert_close(gradient[name]["kernel"], whole[name]["kernel"], SAME_PROGRAM)


def test_bfloat16_keeps_float32_params():
    model, batch = net(dtype=jnp.dtype("bfloat16")), draw_batch()
    gradient, state, metrics = step(model, params_of(model), batch, micro_batches=2)
    assert {a.dtype for a in jax.tree.leaves((state.params, gradient))} == {np.dtype("float32")}
    assert np.isfinite(metrics["loss"]) and metrics["loss"].dtype == np.float32


def test_unknown_layers_to_train():
    with pytest.raises(InputError, match="unknown train_layers 'conv': choose one of all, fc"):
        split_params({}, "conv")


def test_init_state_is_at_step_0():
    state = init_state(params_of(net()), plain())
    assert isinstance(state, TrainState) and int(state.step) == 0


@pytest.mark.parametrize("count", [1, 2, 8, 16])
def test_parts_are_added_as_a_balanced_tree(count):
    parts = np.random.default_rng(0).normal(size=(count, 50)).astype(np.float32)
    expected = parts
    while len(expected) > 1:
        expected = expected[0::2] + expected[1::2]
    total = jax.jit(lambda parts: sum_over_parts(lambda a: a, parts, count))(parts)
    assert np.asarray(total).tobytes() == expected[0].tobytes()
    if count == 16:  # so the order is seen
        assert expected[0].tobytes() != functools.reduce(np.add, parts).tobytes()


@pytest.mark.parametrize("micro_batches", [1, 4])
def test_eval_step_counts_what_the_mask_shows(micro_batches):
    model = net(num_classes=8)
    batch = draw_batch(num_classes=8)
    mask = np.array([True, False, True, True, False, True, True, False])
    label = np.where(mask, batch["label"], -1)
    logits = np.asarray(logits_of(model, params_of(model), batch["image"]), np.float64)[mask]
    label_scores = logits[np.arange(5), label[mask]]
    better = (logits >= label_scores[:, None]).sum(axis=1)
    jitted = jax.jit(functools.partial(eval_step, model=model, micro_batches=micro_batches))
    sums = jitted(params_of(model), {"image": batch["image"], "label": label, "mask": mask})
    assert (sums["count"], sums["top1_correct"], sums["top5_correct"]) == (5, (better <= 1).sum(), (better <= 5).sum())
    np.testing.assert_allclose(sums["loss"], (np.log(np.exp(logits).sum(axis=1)) - label_scores).sum(), rtol=1e-5)
