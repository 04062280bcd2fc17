import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vgg_jax.optimizer import RateState, after_epoch, sgd, stepped_rate

RATES = [1e-2] * 10 + [1e-3] * 10 + [1e-4] * 10  # two drops by 10
SHAPES = {"conv1_1": {"kernel": (3, 3, 3, 4), "bias": (4,)}, "fc8": {"kernel": (4, 5), "bias": (5,)}}


def draws(seed):
    rng = np.random.default_rng(seed)
    return {
        layer: {name: rng.normal(size=shape).astype(np.float32) for name, shape in parts.items()}
        for layer, parts in SHAPES.items()
    }


def flat(tree):
    return {(layer, name): a for layer, parts in tree.items() for name, a in parts.items()}


def ours(rates, **options):
    """Params after steps on the gradients draws(1), draws(2), ..., the rate set from outside as the loop does."""
    optimizer = sgd(rates[0], **options)
    params = draws(0)
    state = optimizer.init(params)
    for step, rate in enumerate(rates):
        state = state._replace(hyperparams={**state.hyperparams, "learning_rate": jnp.asarray(rate, jnp.float32)})
        updates, state = optimizer.update(draws(step + 1), state, params)
        params = optax.apply_updates(params, updates)
    return flat(params)


def caffe(rates, momentum=0.9, weight_decay=5e-4, decay_biases=True, bias_rate=1.0):
    """V <- momentum v - rate (g + decay w);  w <- w + v, in float64."""
    params = {key: a.astype(np.float64) for key, a in flat(draws(0)).items()}
    velocity = {key: np.zeros(a.shape) for key, a in params.items()}
    for step, rate in enumerate(rates):
        for key, gradient in flat(draws(step + 1)).items():
            is_bias = key[1] == "bias"
            decay = weight_decay if decay_biases or not is_bias else 0.0
            key_rate = rate * (bias_rate if is_bias else 1.0)
            velocity[key] = momentum * velocity[key] - key_rate * (gradient + decay * params[key])
            params[key] = params[key] + velocity[key]
    return params


def assert_same(params, expected, of_largest=1e-6):
    for key, values in expected.items():
        error = np.abs(params[key] - values).max() / np.abs(values).max()
        assert error < of_largest, (key, error)


def test_sgd_equals_numpy_across_learning_rate_drops():
    assert_same(ours(RATES), caffe(RATES))


def test_sgd_without_decay_of_biases_at_twice_the_rate_equals_numpy():
    # a large decay, so that biases that decay or do not differ far beyond the tolerance
    options = {"weight_decay": 0.1, "decay_biases": False}
    assert_same(ours(RATES, **options, bias_rate_multiplier=2.0), caffe(RATES, **options, bias_rate=2.0))
    with pytest.raises(AssertionError, match="bias"):
        assert_same(ours(RATES, weight_decay=0.1), caffe(RATES, **options))


def test_sgd_with_another_momentum_equals_numpy():
    assert_same(ours(RATES, momentum=0.5, weight_decay=0.0), caffe(RATES, momentum=0.5, weight_decay=0.0))


def test_optax_sgd_is_another_rule_after_a_drop():
    def optax_sgd(rates):
        params = draws(0)
        trace = optax.trace(0.9)
        state = trace.init(params)
        for step, rate in enumerate(rates):
            gradients = draws(step + 1)
            decayed, _ = optax.add_decayed_weights(5e-4).update(gradients, optax.EmptyState(), params)
            updates, state = trace.update(decayed, state)
            params = optax.apply_updates(params, optax.tree.scale(-rate, updates))
        return flat(params)

    assert_same(optax_sgd(RATES[:10]), caffe(RATES[:10]))
    with pytest.raises(AssertionError):
        assert_same(optax_sgd(RATES[:12]), caffe(RATES[:12]), of_largest=1e-3)


def run_epochs(state, errors, **options):
    for error in errors:
        state = after_epoch(state, error, **options)
    return state


def test_plateau_waits_for_its_patience():
    start = RateState(0.01)
    state = run_epochs(start, [50.0, 50.0, 51.0], patience=3)
    assert state == RateState(0.01, best_error=50.0, epochs_since_best=2)
    assert after_epoch(state, 49.0, patience=3) == RateState(0.01, best_error=49.0)
    dropped = after_epoch(state, 50.0, patience=3)
    assert dropped == RateState(pytest.approx(0.001), best_error=50.0, drops=1)


def test_plateau_counts_only_a_best_by_at_least_min_delta():
    options = {"patience": 2, "min_delta": 0.5}
    assert run_epochs(RateState(1.0), [50.0, 49.5, 49.0], **options).drops == 0  # each better by just 0.5
    creeping = run_epochs(RateState(1.0), [50.0, 49.75, 49.625], **options)  # never by 0.5 from 50
    assert (creeping.drops, creeping.best_error) == (1, 50.0)


def test_plateau_without_min_delta_wants_a_better_error():
    assert run_epochs(RateState(1.0), [50.0, 50.0], patience=1).drops == 1


def test_three_drops_by_ten_and_the_fourth_plateau_ends_the_training():
    state, rates = RateState(0.01), []
    for epoch in range(9):
        state = after_epoch(state, 50.0, patience=2)
        rates.append(state.learning_rate)
        assert state.finished == (epoch == 8)
    np.testing.assert_allclose(rates, [1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5, 1e-5], rtol=1e-12)
    assert state.drops == 3


def test_an_error_that_is_not_a_number_is_no_new_best():
    assert run_epochs(RateState(1.0), [float("nan")] * 2, patience=2).drops == 1


def test_stepped_rate_drops_at_its_boundaries():
    rates = [stepped_rate(0.01, step, (2, 5)) for step in range(7)]
    np.testing.assert_allclose(rates, [1e-2, 1e-2, 1e-3, 1e-3, 1e-3, 1e-4, 1e-4], rtol=1e-12)
    assert stepped_rate(0.01, 10, ()) == 0.01
    assert stepped_rate(0.01, 10, (1,), factor=0.5) == 0.005
