"""Checks of a config before anything runs: what is wrong must not come out after days of training."""

from typing import Any

from vgg_jax.data.sources import SPLITS
from vgg_jax.errors import InputError
from vgg_jax.images.decoders import check_decoder
from vgg_jax.layers import POOL_ROUNDINGS
from vgg_jax.optimizer import RATE_CONTROLS
from vgg_jax.training.parallel import REDUCTIONS
from vgg_jax.training.state import TRAINED_LAYERS
from vgg_jax.weights.warm_start import TAKEN_LAYERS

INIT_KINDS = ("stage", "workdir", "weights")


def check_config(config: Any) -> None:
    """Raise InputError for the first field whose value cannot be; each stage of the chain is checked too."""
    for field, value, least in (
        ("seed", config.seed, 0),
        ("train.batch_size", config.train.batch_size, 1),
        ("train.log_every", config.train.log_every, 1),
        ("train.validate_every", config.train.validate_every, 0),
        ("train.checkpoint_every", config.train.checkpoint_every, 0),
        ("train.skip_nonfinite", config.train.skip_nonfinite, 0),
        ("rate_control.patience", config.rate_control.patience, 1),
        ("data.threads", config.data.threads, 1),
        ("data.workers", config.data.workers, 0),
        ("eval.batch_size", config.eval.batch_size or 1, 1),
    ):
        if value < least:
            raise InputError(f"{field} is {value}, but at least {least} is expected")
    _check_choice("train.reduction", config.train.reduction, REDUCTIONS)
    _check_choice("train.on_save_error", config.train.on_save_error, ("stop", "continue"))
    _check_choice("rate_control.split", config.rate_control.split, ("val", "train"))
    _check_choice("eval.split", config.eval.split, SPLITS)
    _check_choice("model.pool_rounding", config.model.pool_rounding, POOL_ROUNDINGS)
    check_decoder(config.data.decoder)
    if not config.chain:
        raise InputError(f"chain is empty, but at least one of {', '.join(config.stages)} is expected")
    for position, name in enumerate(config.chain):
        if name not in config.stages:
            raise InputError(f"chain names the stage {name!r}, but config.stages has {', '.join(config.stages)}")
        _check_stage(config.stages[name], f"stages.{name}", config.model.crop_size, config.chain[:position])


def _check_stage(stage: Any, field: str, crop: int, earlier: tuple[str, ...]) -> None:
    scale = tuple(stage.scale)
    if len(scale) != 2 or scale[0] > scale[1]:
        raise InputError(f"{field}.scale is {scale}, but a pair (S_min, S_max) is expected, as (256, 512)")
    if scale[0] < crop:
        raise InputError(
            f"{field}.scale begins at {scale[0]}, smaller than the crop of {crop}: "
            "choose a scale of at least model.crop_size"
        )
    if stage.steps < 1:
        raise InputError(f"{field}.steps is {stage.steps}, but at least 1 is expected")
    _check_choice(f"{field}.rate_control", stage.rate_control, RATE_CONTROLS)
    if stage.rate_control == "steps" and not stage.rate_boundaries:
        raise InputError(
            f"{field}.rate_control is steps, but {field}.rate_boundaries names no step where the rate drops"
        )
    _check_choice(f"{field}.train_layers", stage.train_layers, TRAINED_LAYERS)
    _check_choice(f"{field}.init_layers", stage.init_layers, TAKEN_LAYERS)
    kind, _, where = stage.init_from.partition(":")
    if stage.init_from and (kind not in INIT_KINDS or not where):
        raise InputError(
            f"{field}.init_from is {stage.init_from!r}, but stage:NAME, workdir:DIR/STAGE or weights:FILE is expected"
        )
    if kind == "stage" and where not in earlier:
        known = ", ".join(earlier) or "none"
        raise InputError(f"{field}.init_from is {stage.init_from}, but the stages before it in the chain are: {known}")


def _check_choice(field: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{field} is {value!r}: choose one of {', '.join(choices)}")
