"""The training batches of a stage, with a record of the images that could not be read."""

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vgg_jax.data.bad_images import note_bad_images
from vgg_jax.data.pipeline import training_batches
from vgg_jax.data.sources import Source, record_name


def stage_batches(
    config: Any, stage: Any, source: Source, *, seed: int, first_step: int, bad_images: Path
) -> Generator[dict[str, np.ndarray]]:
    """Endless batches {"image", "label", "index"} from a step on: this process's block of each global batch.

    Images that were passed over (``data.on_error=skip``) are warned of and listed in ``bad_images``, each once.
    """
    batches = training_batches(
        source,
        scale=tuple(stage.scale),
        crop_size=config.model.crop_size,
        batch_size=config.train.batch_size,
        seed=seed,
        first_step=first_step,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        on_error=config.data.on_error,
        decoder=config.data.decoder,
        workers=config.data.workers,
        threads=config.data.threads,
    )
    noted: set[int] = set()
    with contextlib.closing(batches):  # ends the decoding threads and workers
        for batch in batches:
            fresh = _passed_over(batch, len(source)) - noted
            note_bad_images(bad_images, (record_name(source, i) for i in fresh), "unreadable and replaced")
            noted |= fresh
            yield {name: batch[name] for name in ("image", "label", "index")}


def _passed_over(batch: dict[str, np.ndarray], count: int) -> set[int]:
    """The records, of ``count``, that could not be read."""
    spans = zip(batch["record"].tolist(), batch["skipped"].tolist())
    return {(record + i) % count for record, skipped in spans for i in range(skipped)}
