"""The learning rate of a stage: by steps, or dropped when the error stops falling (sec. 3.1)."""

from typing import Any

import numpy as np
from jax.sharding import Mesh

from vgg_jax import optimizer
from vgg_jax.training import parallel
from vgg_jax.training.stage_checkpoint import Progress
from vgg_jax.training.state import TrainState

Config = Any


def rate_at(stage: Config, config: Config, progress: Progress, steps_done: int) -> float:
    """The rate of the step after ``steps_done``."""
    if stage.rate_control == "steps":
        factor = config.rate_control.factor
        return optimizer.stepped_rate(stage.learning_rate, steps_done, stage.rate_boundaries, factor)
    return progress.rate.learning_rate


def with_rate(state: TrainState, rate: float, mesh: Mesh) -> TrainState:
    """The state with another rate in its optimizer."""
    dtype = state.opt_state.hyperparams["learning_rate"].dtype
    hyperparams = {**state.opt_state.hyperparams, "learning_rate": parallel.replicate(np.asarray(rate, dtype), mesh)}
    return state._replace(opt_state=state.opt_state._replace(hyperparams=hyperparams))


def after_validation(
    config: Config, stage: Config, progress: Progress, val_error: float, train_error: float
) -> Progress:
    """The progress after a validation on schedule: the plateau's decision, and a new count of training errors."""
    progress = progress._replace(train_error_sum=0.0, train_error_steps=0)
    if stage.rate_control != "plateau":
        return progress
    control = config.rate_control
    watched = {"val": val_error, "train": train_error}[control.split]
    options = {"patience": control.patience, "min_delta": control.min_delta, "factor": control.factor}
    return progress._replace(rate=optimizer.after_epoch(progress.rate, watched, **options))
