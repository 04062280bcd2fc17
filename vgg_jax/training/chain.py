"""The chain of stages, S=256 -> 384 -> scale jitter: each starts from another's weights; one workdir holds them all."""

import contextlib
import json
import logging
from pathlib import Path
from typing import Any

import jax

from vgg_jax.checkpoint import find_step, read_info, set_damaged_aside
from vgg_jax.data.bad_images import BAD_IMAGES_FILE, note_bad_images
from vgg_jax.data.sources import Source, record_name
from vgg_jax.data.statistics import (
    IMAGENET_STATISTICS,
    ColourStatistics,
    PixelSums,
    load_statistics,
    pixel_sums,
    save_statistics,
    statistics_of,
)
from vgg_jax.errors import InputError
from vgg_jax.eval.posteriors import single_scale
from vgg_jax.eval.protocol import Member
from vgg_jax.eval.workdir import dataset_name, evaluate_members, open_split
from vgg_jax.model import VGG, model_dtype
from vgg_jax.processes import barrier, check_agreement, first_alone, gathered, is_first
from vgg_jax.report import Row, format_scale, plot_learning_curves, read_rows, write_atomically
from vgg_jax.training import parallel
from vgg_jax.training.config import check_config
from vgg_jax.training.log import read_log
from vgg_jax.training.loop import StageInputs, run_stage
from vgg_jax.training.program import stage_seed
from vgg_jax.training.state import Params, init_params
from vgg_jax.training.workdir import check_counts, check_identity, finished_steps, locked
from vgg_jax.weights.load import load_stage, model_fields
from vgg_jax.weights.warm_start import warm_start

logger = logging.getLogger(__name__)

Config = Any


def run_chain(config: Config, workdir: str | Path) -> list[Row]:
    """Train the stages of ``config.chain`` in order, and evaluate each densely; returns the rows of results.

    A finished stage is skipped, an interrupted one goes on at the exact step. Writes WORKDIR/STAGE/, results.json and
    learning_curve.png. Raises InputError for bad input; a workdir admits one writer at a time.
    """
    workdir = Path(workdir)
    check_config(config)
    check_agreement("configs", json.dumps(config.to_dict(), sort_keys=True))
    sources = {split: open_split(config.to_dict(), split) for split in ("train", "val", config.eval.split)}
    parallel.check_division(
        config.train.batch_size, config.train.micro_batches, jax.device_count(), config.train.reduction
    )
    check_agreement("data sets", json.dumps({split: len(source) for split, source in sources.items()}))
    with contextlib.ExitStack() as held:
        first_alone(lambda: held.enter_context(locked(workdir)))
        first_alone(lambda: _freeze(config, workdir, sources))
        statistics = _frozen_statistics(config, workdir, sources["train"])
        model = build_model(config, statistics, len(sources["train"].class_names))
        shown = statistics if config.train.colour_shift else None
        inputs = StageInputs(
            sources["train"], sources["val"], dataset_name(config.to_dict()), shown, parallel.data_mesh()
        )
        rows = []
        for name in config.chain:
            try:
                _train_stage(config, name, workdir, model, inputs)
            finally:
                if is_first():
                    _plot(config, workdir)
            rows.append(_stage_row(config, name, workdir))
        return rows


def _plot(config: Config, workdir: Path) -> None:
    path = workdir / "learning_curve.png"
    try:
        plot_learning_curves({stage: read_log(workdir / stage) for stage in config.chain}, path)
    except OSError as error:  # a full disk, of which the save that failed before tells more
        logger.warning("%s could not be drawn: %s", path, error.strerror)


def _freeze(config: Config, workdir: Path, sources: dict[str, Source]) -> None:
    """Check that this is the workdir of the config and the data set, or make it that."""
    check_identity(workdir, config.to_dict())
    _write_class_names(workdir, sources["train"])
    check_counts(workdir, {split: len(source) for split, source in sources.items()})


def build_model(config: Config, statistics: ColourStatistics, num_classes: int) -> VGG:
    """The model that a config describes; the classes come from the data, the config may only confirm their number."""
    if config.num_classes not in (None, num_classes):
        raise InputError(f"num_classes is {config.num_classes}, but the data set has {num_classes} classes")
    fields = {**config.model.to_dict(), "dtype": model_dtype(config.model.dtype)}
    return VGG(**fields, num_classes=num_classes, mean_rgb=statistics.mean_rgb)


def _train_stage(config: Config, name: str, workdir: Path, model: VGG, inputs: StageInputs) -> None:
    directory = workdir / name
    stage = config.stages[name]
    if (steps := finished_steps(directory)) >= stage.steps:
        logger.info("%s: finished (%d steps), skipped", name, steps)
        return
    directory.mkdir(exist_ok=True)
    barrier(f"{name}: the stage is not finished")
    logger.info("%s: S = %s, %d steps", name, format_scale(stage.scale), stage.steps)
    first_alone(lambda: set_damaged_aside(directory / "checkpoints"))
    model = stage_model(config, name, workdir, model)
    run_stage(config, name, directory, model, lambda: starting_params(config, name, workdir, model), inputs)
    first_alone(lambda: write_atomically(directory / "finished.json", json.dumps({"steps": stage.steps}) + "\n"))


def _stage_row(config: Config, name: str, workdir: Path) -> Row:
    """The single-scale dense row of a stage's best checkpoint, computed unless results.json has it."""
    scales = (single_scale(config.stages[name].scale),)
    best = find_step(workdir / name / "checkpoints", "best")
    protocol = {
        **{"stage": name, "split": config.eval.split, "step": best, "checkpoint": "best"},
        **{"method": "dense", "test_scales": list(scales), "num_skipped": 0},
        **{"flip": True, "pool_rounding": config.model.pool_rounding},
    }
    for row in read_rows(workdir / "results.json"):
        if protocol.items() <= row.items():
            return row
    return evaluate_members([Member(workdir / name, scales)], "dense", threads=config.data.threads).row


def stage_model(config: Config, name: str, workdir: Path, model: VGG) -> VGG:
    """The model of a stage: mean and std of what it starts from travel with the weights, whatever the data set's are.

    A stage that has begun keeps those of its checkpoints, so that it goes on where the weights have gone since.
    """
    if not config.stages[name].init_from:
        return model
    checkpoints, start = workdir / name / "checkpoints", _start_path(config, name, workdir)
    if (step := find_step(checkpoints, "latest")) is not None:
        fields = read_info(checkpoints, step)["model"]
    else:
        fields = model_fields(load_stage(start)[0])
    mean_rgb, std_rgb = tuple(fields["mean_rgb"]), tuple(fields["std_rgb"])
    if (mean_rgb, std_rgb) != (model.mean_rgb, model.std_rgb):
        logger.info("%s: mean RGB %s and std %s come with %s", name, mean_rgb, std_rgb, start)
    return model.clone(mean_rgb=mean_rgb, std_rgb=std_rgb)


def _start_path(config: Config, name: str, workdir: Path) -> Path:
    """Where the weights lie that a stage starts from."""
    kind, _, where = config.stages[name].init_from.partition(":")
    return workdir / where if kind == "stage" else Path(where)


def starting_params(config: Config, name: str, workdir: Path, model: VGG) -> tuple[Params, str]:
    """(params, where they come from in words) that a stage begins with.

    ``init_from`` is "" (fresh), "stage:NAME" of this workdir, "workdir:DIR/STAGE" of another, or "weights:FILE"; the
    best checkpoint of a stage is meant. ``init_layers`` says which layers are taken.
    """
    stage = config.stages[name]
    fresh = init_params(model, stage_seed(config.seed, name))
    drawn = model.initializer if model.initializer == "glorot" else f"{model.initializer}({model.initializer_std:g})"
    if not stage.init_from:
        return fresh, drawn
    _, donor, info = load_stage(_start_path(config, name, workdir))
    try:
        params = warm_start(fresh, donor, stage.init_layers)
    except InputError as error:
        raise InputError(f"stages.{name}.init_from={stage.init_from}: {error}") from None
    step = "" if info["step"] is None else f" (step {info['step']})"
    words = f"{stage.init_layers} layers of {stage.init_from}{step}"
    return params, words if stage.init_layers == "all" else f"{words}, others {drawn}"


def _frozen_statistics(config: Config, workdir: Path, train: Source) -> ColourStatistics:
    """The statistics that the workdir was begun with; each process computes the sums over its share of the images."""
    path = workdir / "colour_statistics.json"
    absent = not path.exists()
    barrier("all have looked for statistics")
    if absent:
        if config.data.statistics == "compute":
            options = {"on_error": config.data.on_error, "threads": config.data.threads, "progress": is_first()}
            records = range(jax.process_index(), len(train), jax.process_count())
            own = pixel_sums(train, records, **options)
            note_bad_images(workdir / BAD_IMAGES_FILE, (record_name(train, i) for i in own.skipped), "left out")
            shares = gathered(own, workdir / ".pixel_sums")
            statistics = statistics_of([PixelSums(*share) for share in shares])
        else:
            given = config.data.statistics
            statistics = IMAGENET_STATISTICS if given == "imagenet" else load_statistics(given)
        first_alone(lambda: save_statistics(path, statistics))
    return load_statistics(path)


def _write_class_names(workdir: Path, source: Source) -> None:
    path = workdir / "classes.txt"
    text = "".join(f"{name}\n" for name in source.class_names)
    if path.exists() and path.read_text() != text:
        raise InputError(f"the data set's classes differ from those in {path}: give another --workdir")
    write_atomically(path, text)
