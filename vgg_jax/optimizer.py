"""The paper's SGD and the control of its learning rate (sec. 3.1)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import optax

RATE_CONTROLS = ("plateau", "steps", "constant")
MAX_DROPS = 3  # "the learning rate was decreased 3 times" (sec. 3.1); the fourth plateau ends the training


def sgd(
    learning_rate: float,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    decay_biases: bool = True,
    bias_rate_multiplier: float = 1.0,
) -> optax.GradientTransformationExtraArgs:
    """SGD as in Caffe: v <- momentum * v - rate * (gradient + weight_decay * w);  w <- w + v.

    The rate stands inside the velocity, so what was gathered at the old rate goes on after a drop; ``optax.sgd``
    differs there. The paper does not say whether biases decay or learn at another rate: Caffe's habit was no decay and
    twice the rate. The current rate is ``opt_state.hyperparams["learning_rate"]``.
    """

    def transformation(learning_rate: Any) -> optax.GradientTransformation:
        return optax.chain(
            optax.add_decayed_weights(weight_decay, None if decay_biases else _is_kernel),
            optax.scale_by_learning_rate(learning_rate),
            optax.masked(optax.scale(bias_rate_multiplier), _is_bias),
            optax.trace(decay=momentum),
        )

    return optax.inject_hyperparams(transformation)(learning_rate=learning_rate)


def _is_bias(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "bias", params)


def _is_kernel(params: Any) -> Any:
    return jax.tree.map(lambda is_bias: not is_bias, _is_bias(params))


class RateState(NamedTuple):
    """What the rate controller remembers between validations; saved in every checkpoint."""

    learning_rate: float
    best_error: float = float("inf")
    epochs_since_best: int = 0
    drops: int = 0
    finished: bool = False


def after_epoch(
    state: RateState, error: float, *, patience: int, min_delta: float = 0.0, factor: float = 0.1
) -> RateState:
    """The plateau rule: the controller's state after an epoch that ended with this top-1 error in percent.

    After ``patience`` epochs without a new best by at least ``min_delta`` (percent) the rate is multiplied by
    ``factor``; the fourth plateau sets ``finished`` instead. The weights are never rolled back.
    """
    if error < state.best_error and state.best_error - error >= min_delta:
        return state._replace(best_error=error, epochs_since_best=0)
    state = state._replace(epochs_since_best=state.epochs_since_best + 1)
    if state.epochs_since_best < patience:
        return state
    if state.drops == MAX_DROPS:
        return state._replace(finished=True)
    return state._replace(learning_rate=state.learning_rate * factor, epochs_since_best=0, drops=state.drops + 1)


def stepped_rate(learning_rate: float, step: int, boundaries: Sequence[int], factor: float = 0.1) -> float:
    """The rate at a step (from 0): multiplied by ``factor`` at each boundary that lies at or before it."""
    return learning_rate * factor ** sum(step >= boundary for boundary in boundaries)
