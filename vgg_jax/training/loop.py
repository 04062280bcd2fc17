"""The loop of one stage: train, validate, control the rate, checkpoint, resume at the exact step (sec. 3.1)."""

import contextlib
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from vgg_jax import checkpoint, signals
from vgg_jax.data.bad_images import BAD_IMAGES_FILE
from vgg_jax.data.sources import Source
from vgg_jax.data.statistics import ColourStatistics
from vgg_jax.errors import InputError
from vgg_jax.model import VGG
from vgg_jax.processes import is_first
from vgg_jax.progress import progress_bar
from vgg_jax.training import parallel
from vgg_jax.training.batches import stage_batches
from vgg_jax.training.log import StageLog
from vgg_jax.training.program import StageStep, fitting_step, is_long, stage_seed
from vgg_jax.training.rates import after_validation, rate_at, with_rate
from vgg_jax.training.stage_checkpoint import Progress, save, start_or_resume
from vgg_jax.training.state import Params, TrainState
from vgg_jax.training.validation import make_validation
from vgg_jax.weights.load import model_fields

logger = logging.getLogger(__name__)

_POLL = 5e-4  # seconds between looks at a running step

Config = Any  # an ml_collections.ConfigDict; the loop is the lowest floor that sees one


class StageInputs(NamedTuple):
    """What a stage trains on; statistics of the training split, or None for no colour shift."""

    train: Source
    val: Source
    dataset: str
    statistics: ColourStatistics | None
    mesh: Mesh


def run_stage(
    config: Config, name: str, directory: Path, model: VGG, start: Callable[[], tuple[Params, str]], inputs: StageInputs
) -> None:
    """Train a stage to its end in ``directory``, going on from its latest checkpoint if there is one.

    start: gives the params that a fresh run begins with, and in words where they come from; the words are saved in
    each checkpoint. Raises InputError for bad input, for too little memory and for a loss that is not finite, and
    `signals.Stopped` when the run was told to stop; then it has saved the newest finished step.
    """
    stage, train = config.stages[name], config.train
    droppable = is_long(model, train.batch_size)
    train_step = fitting_step(config, name, model, inputs.statistics, inputs.mesh, donate=not droppable)
    with checkpoint.open_checkpoints(directory / "checkpoints") as manager:
        state, progress, init = start_or_resume(config, name, manager, start, model, inputs.mesh)
        if (progress.rate.finished or progress.step >= stage.steps) and not progress.validation_due:
            return
        info = {
            **{"stage": name, "train_scale": list(stage.scale), "init": init},
            **{"model": model_fields(model), "dataset": inputs.dataset, "seed": config.seed},
        }
        bad_images = directory.parent / BAD_IMAGES_FILE  # one list for the chain
        batches = stage_batches(
            *(config, stage, inputs.train),
            seed=stage_seed(config.seed, name),
            first_step=progress.step,
            bad_images=bad_images,
        )
        validate = make_validation(config, stage, model, inputs.val, inputs.mesh, bad_images)
        epoch_steps = max(1, len(inputs.train) // train.batch_size)
        may_fail = train.on_save_error == "continue"
        with StageLog(directory, progress.step, may_fail=may_fail) as log, contextlib.closing(batches):
            run = _Run(config, stage, info, manager, log, validate, epoch_steps, model.num_classes, droppable)
            _train(run, train_step, state, progress, batches, inputs.mesh)


class _Run(NamedTuple):
    config: Config
    stage: Config
    info: dict[str, Any]
    manager: Any
    log: StageLog
    validate: Callable[[Params], dict[str, float]]
    epoch_steps: int
    num_classes: int
    droppable: bool  # a running step can be given up, because the state before it is kept


def _train(run: _Run, train_step: StageStep, state: TrainState, progress: Progress, batches: Any, mesh: Mesh) -> None:
    train, stage = run.config.train, run.stage
    validate_every = train.validate_every or run.epoch_steps
    window: list[dict[str, float]] = []  # metrics since the last log row
    pending: tuple[int, dict[str, Any]] | None = None
    rate_in_state: float | None = None
    settled, saved = state, progress.step  # the state after the last step that is known to be finished

    def settle() -> None:
        """Take in the metrics of the step before: one step late, so that the device is never idle."""
        nonlocal pending, progress
        if pending is None:
            return
        while not pending[1]["loss"].is_ready():
            if signals.requested() and run.droppable:
                stop()
            time.sleep(_POLL)
        step, metrics = pending[0], {key: float(value) for key, value in pending[1].items()}
        pending = None
        if metrics.pop("skipped", False) and progress.skipped < train.skip_nonfinite:
            progress = progress._replace(step=step, skipped=progress.skipped + 1)
            counted = (progress.skipped, train.skip_nonfinite)
            logger.warning("%s step %d: not finite, skipped (%d of at most %d)", run.info["stage"], step, *counted)
        else:
            _check_finite("loss", metrics["loss"], step, stage)
            _check_finite("size of the update", metrics["update_norm"], step, stage)
            window.append(metrics)
            progress = progress._replace(
                step=step,
                train_error_sum=progress.train_error_sum + metrics["top1_error"],
                train_error_steps=progress.train_error_steps + 1,
            )
        bar.set_postfix(loss=f"{metrics['loss']:.3f}", refresh=False)
        if step % train.log_every == 0 or step == stage.steps:
            means = {f"train_{key}": float(np.mean([m[key] for m in window])) for key in metrics if window}
            if train.skip_nonfinite:
                means["skipped"] = progress.skipped
            run.log.write(step, **means, learning_rate=rate_at(stage, run.config, progress, step - 1))
            window.clear()

    def stop() -> None:
        """Save the last settled step, if it is not, and raise; a step that runs on is dropped and done again later."""
        if progress.step > saved:
            save(run.manager, run.info, settled, progress)
        raise signals.Stopped

    def keep(error: float | None = None, again: bool = False) -> None:
        """Save the settled state; at the end of a stage that must not fail."""
        nonlocal saved
        at_end = progress.rate.finished or progress.step >= stage.steps
        may_fail = train.on_save_error == "continue" and not at_end
        if save(run.manager, run.info, settled, progress, error, again=again, may_fail=may_fail):
            saved = progress.step

    def validate_and_save() -> None:
        nonlocal progress
        step, again = progress.step, progress.validation_due
        progress = progress._replace(validation_due=True)
        try:
            error, progress = _validated(run, settled.params, progress, step, step % validate_every == 0)
        except signals.Stopped:
            stop()
        progress = progress._replace(validation_due=False)
        keep(error, again)

    images = train.batch_size
    with (
        signals.deferred(),
        progress_bar(
            total=stage.steps * images,
            initial=progress.step * images,
            unit="img",
            unit_scale=True,
            desc=run.info["stage"],
            disable=not is_first(),
        ) as bar,
    ):
        if progress.validation_due:
            validate_and_save()
        for step in range(progress.step + 1, stage.steps + 1):
            if progress.rate.finished:
                logger.info("%s: the error no longer falls; the stage ends at step %d", run.info["stage"], step - 1)
                break
            if (rate := rate_at(stage, run.config, progress, step - 1)) != rate_in_state:
                state, rate_in_state = with_rate(state, rate, mesh), rate
            before = state
            state, metrics = train_step(state, parallel.shard_batch(next(batches), mesh))
            settle()
            settled, pending = before, (step, metrics)
            bar.update(images)
            due = step % validate_every == 0 or step == stage.steps
            stopping = signals.agreed()
            if stopping and run.droppable:
                stop()
            if due or stopping or (train.checkpoint_every and step % train.checkpoint_every == 0):
                settle()
                settled = state
            if stopping:
                progress = progress._replace(validation_due=due)
                stop()
            if due:
                validate_and_save()
            elif settled is state:
                keep()


def _validated(run: _Run, params: Params, progress: Progress, step: int, on_schedule: bool) -> tuple[float, Progress]:
    """Validation error at a step, and the progress after it; the rate controller does not hear of a stage's odd end."""
    val = run.validate(params)
    _check_finite("validation loss", val["loss"], step, run.stage)
    run.log.write(step, **{f"val_{key}": value for key, value in val.items()})
    train_error = progress.train_error_sum / max(progress.train_error_steps, 1)
    logger.info(
        "%s step %d: val top-1 error %.2f%%, top-5 %.2f%%, loss %.4f; train top-1 error %.2f%%, rate %g",
        *(run.info["stage"], step, val["top1_error"], val["top5_error"], val["loss"]),
        *(train_error, progress.rate.learning_rate),
    )
    if abs(val["loss"] - math.log(run.num_classes)) < 5e-3 * math.log(run.num_classes):
        logger.warning(
            "%s: the loss is still ln(%d) = %.3f, that of a constant guess: if it stays there, try a larger "
            "learning_rate, model.initializer=glorot, or a warm start from net A (stages.%s.init_from)",
            *(run.info["stage"], run.num_classes, math.log(run.num_classes), run.info["stage"]),
        )
    if not on_schedule:
        return val["top1_error"], progress
    return val["top1_error"], after_validation(run.config, run.stage, progress, val["top1_error"], train_error)


def _check_finite(what: str, value: float, step: int, stage: Config) -> None:
    if not math.isfinite(value):
        raise InputError(
            f"the {what} is {value} at step {step}: the training diverged; try a smaller learning_rate "
            f"than {stage.learning_rate:g}, or model.initializer=glorot; the checkpoints before this step are intact"
        )
