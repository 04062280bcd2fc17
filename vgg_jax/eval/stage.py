"""Evaluation of a workdir's stage on a split: one row of results (sec. 4.1, 4.2)."""

import logging
from collections.abc import Sequence
from pathlib import Path

from vgg_jax.data.pipeline import rescaled_images
from vgg_jax.data.sources import Source
from vgg_jax.errors import InputError
from vgg_jax.eval.dataset import dense_set_errors
from vgg_jax.eval.posteriors import single_scale
from vgg_jax.progress import progress_bar
from vgg_jax.report import Row
from vgg_jax.weights.load import load_stage

logger = logging.getLogger(__name__)

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total} [{elapsed}<{remaining}, {rate_fmt}]"


def dense_row(
    stage: str | Path,
    source: Source,
    *,
    split: str,
    scales: Sequence[int] | None = None,
    checkpoint: str = "best",
    flip: bool = True,
    pool_rounding: str | None = None,
    batch_size: int | None = None,
    on_error: str = "raise",
    threads: int = 8,
) -> Row:
    """The row of a stage, WORKDIR/STAGE, by dense evaluation of a split with a progress bar.

    scales: smallest sides Q; None means the single-scale rule, Q = S or the middle of the range. checkpoint: "best" or
    "latest". Raises InputError where the stage's classes are not the source's.
    """
    model, params, info = load_stage(stage, checkpoint=checkpoint)
    _check_classes(Path(stage), model.num_classes, source)
    test_scales = tuple(scales or (single_scale(info["train_scale"]),))
    views = rescaled_images(source, test_scales, on_error=on_error, threads=threads)
    description = f"{info['stage']} dense Q={','.join(map(str, test_scales))}"
    pool_rounding = pool_rounding or model.pool_rounding
    with progress_bar(total=len(source), unit="img", desc=description, bar_format=_BAR) as bar:
        errors = dense_set_errors(
            *(model, params, views, len(source)),
            flip=flip,
            pool_rounding=pool_rounding,
            batch_size=batch_size,
            advance=bar.update,
        )
    if errors.num_skipped:
        logger.warning("%d of %d images could not be read and were left out", errors.num_skipped, len(source))
    return {
        "dataset": info["dataset"],
        "split": split,
        "stage": info["stage"],
        "arch": model.arch,
        "seed": info["seed"],
        "train_scale": list(info["train_scale"]),
        "checkpoint": info["checkpoint"],
        "method": "dense",
        "test_scales": list(test_scales),
        "grid": None,
        "flip": flip,
        "pool_rounding": pool_rounding,
        "members": None,
        "top1_error": errors.top1_error,
        "top5_error": errors.top5_error,
        "num_images": errors.num_images,
        "num_skipped": errors.num_skipped,
        "step": info["step"],
        "init": info["init"],
    }


def _check_classes(stage: Path, num_classes: int, source: Source) -> None:
    if num_classes != len(source.class_names):
        raise InputError(
            f"{stage} was trained on {num_classes} classes, but the data set has {len(source.class_names)}"
        )
    names = stage.parent / "classes.txt"
    if names.exists() and names.read_text().splitlines() != list(source.class_names):
        raise InputError(f"the data set's classes are not those of {names}: it is another data set")
