"""The checkpoints of a stage: its arrays, what the loop remembers beside them, and going on from the latest one."""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from vgg_jax import checkpoint
from vgg_jax.errors import InputError
from vgg_jax.model import VGG
from vgg_jax.optimizer import RateState
from vgg_jax.training import parallel
from vgg_jax.training.program import stage_optimizer, state_shapes
from vgg_jax.training.state import Params, TrainState, init_state
from vgg_jax.weights.load import model_fields

logger = logging.getLogger(__name__)


class Progress(NamedTuple):
    """What the loop remembers beside the arrays; saved as JSON in every checkpoint."""

    step: int
    rate: RateState
    train_error_sum: float = 0.0  # of the steps since the last validation
    train_error_steps: int = 0
    skipped: int = 0  # updates that were not finite, in the whole stage
    validation_due: bool = False  # the run was stopped between this step and its validation


def save(
    manager: Any,
    info: dict[str, Any],
    state: TrainState,
    progress: Progress,
    error: float | None = None,
    *,
    again: bool = False,
    may_fail: bool = False,
) -> bool:
    """Checkpoint: params apart from the optimizer's state, so that evaluation reads no more than it needs.

    error: validation top-1 error, None if it was not measured. again: in place of the checkpoint of this step that was
    saved before its validation. may_fail: a failure is a warning, and the result False; several processes, of which one
    may have failed alone, stop.
    """
    record = {**progress._asdict(), "rate": progress.rate._asdict()}
    info = {**info, "step": progress.step, "progress": record, "val_top1_error": error}
    items = {"params": state.params, "optimizer": {"step": state.step, "opt_state": state.opt_state}}
    if again:
        manager.delete(progress.step)
    try:
        checkpoint.save(manager, progress.step, items, info, error)
    except checkpoint.SaveFailed as failure:
        if not may_fail or jax.process_count() > 1:
            raise
        logger.warning("%s; the training goes on, and saves again when a checkpoint is next due", failure)
        return False
    return True


def start_or_resume(
    config: Any, name: str, manager: Any, start: Callable[[], tuple[Params, str]], model: VGG, mesh: Mesh
) -> tuple[TrainState, Progress, str]:
    """State, progress and the words for where the params came from."""
    directory = manager.directory
    step = checkpoint.find_step(directory, "latest")
    if step is None:
        params, init = start()
        logger.info("a fresh start from %s", init)
        stage = config.stages[name]
        state = parallel.replicate(init_state(params, stage_optimizer(config, name), stage.train_layers), mesh)
        return state, Progress(0, RateState(stage.learning_rate)), init
    info = checkpoint.read_info(directory, step)
    saved, now = info["model"], _listed(model_fields(model))
    differing = [f"{k}: checkpoint {saved.get(k)}, now {v}" for k, v in now.items() if saved.get(k) != v]
    if differing:
        raise InputError(f"the checkpoint in {directory} is of another model: {'; '.join(differing)}")
    shapes = state_shapes(config, name, model, mesh)
    targets = {"params": shapes.params, "optimizer": {"step": shapes.step, "opt_state": shapes.opt_state}}
    restored = checkpoint.restore(directory, step, targets)
    logger.info("%s: resumed at step %d", info["stage"], step)
    record = info["progress"]
    progress = Progress(**{**record, "rate": RateState(**record["rate"])})
    arrays = restored["optimizer"]
    return TrainState(arrays["step"], restored["params"], arrays["opt_state"]), progress, info["init"]


def _listed(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
