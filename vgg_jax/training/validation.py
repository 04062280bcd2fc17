"""Validation during training: the centre crop at Q = S over the whole split."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from vgg_jax import processes, signals
from vgg_jax.data.bad_images import note_bad_images
from vgg_jax.data.pipeline import centre_crop_batches
from vgg_jax.data.sources import Source, record_name
from vgg_jax.errors import InputError
from vgg_jax.eval.dataset import check_labels
from vgg_jax.eval.posteriors import single_scale
from vgg_jax.model import VGG
from vgg_jax.training import parallel
from vgg_jax.training.state import Params

logger = logging.getLogger(__name__)


def make_validation(
    config: Any, stage: Any, model: VGG, source: Source, mesh: Mesh, bad_images: Path
) -> Callable[[Params], dict[str, float]]:
    """A function params -> {"loss", "top1_error", "top5_error"} of a split, errors in percent (sec. 3.1).

    Every image counts exactly once: sums and counts, never means of batch means. The jitted step is compiled once; each
    process reads its share of every batch. Images that cannot be read are left out, which is told each time, and listed
    in ``bad_images`` (``data.on_error=skip``). The function raises `signals.Stopped` when the run was told to stop.
    """
    train, data = config.train, config.data
    eval_step = parallel.parallel_eval_step(model, mesh, micro_batches=train.micro_batches)

    def validate(params: Params) -> dict[str, float]:
        totals: dict[str, float] = {}
        seen = 0
        for batch in centre_crop_batches(
            source,
            smallest_side=single_scale(stage.scale),
            crop_size=model.crop_size,
            batch_size=train.batch_size,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            on_error=data.on_error,
            threads=data.threads,
        ):
            labels = batch["label"][batch["mask"]]
            check_labels(labels, model.num_classes)
            if (labels < 0).any():
                raise InputError("the validation split holds unlabelled images (label -1): training needs their labels")
            seen += int(batch["mask"].sum())
            unreadable = batch["record"][~batch["mask"] & (batch["record"] >= 0)]
            note_bad_images(bad_images, (record_name(source, i) for i in unreadable.tolist()), "left out of validation")
            arrays = {name: batch[name] for name in ("image", "label", "mask")}
            sums = eval_step(params, parallel.shard_batch(arrays, mesh))
            totals = {key: totals.get(key, 0.0) + float(value) for key, value in sums.items()}
            if signals.agreed():
                raise signals.Stopped
        seen = processes.total(seen)
        if not seen:
            raise InputError("no image of the validation split could be read: check data.path")
        assert totals["count"] == seen, "validation did not count each image once"
        assert seen == len(source) or data.on_error != "raise", "validation did not see each image"
        if seen < len(source) and processes.is_first():
            logger.warning("validation left out %d of %d images: see %s", len(source) - seen, len(source), bad_images)
        errors = {f"top{k}_error": 100.0 * (1.0 - totals[f"top{k}_correct"] / seen) for k in (1, 5)}
        return {"loss": totals["loss"] / seen, **errors}

    return validate
