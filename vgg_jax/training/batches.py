"""The training batches of a stage, with a record of the images that could not be read."""

import contextlib
import logging
from collections.abc import Generator
from pathlib import Path
from typing import Any

import filelock
import jax
import numpy as np

from vgg_jax.data.pipeline import training_batches
from vgg_jax.data.sources import Source, record_name
from vgg_jax.report import write_atomically

logger = logging.getLogger(__name__)


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
        workers=config.data.workers,
        threads=config.data.threads,
    )
    with contextlib.closing(batches):  # ends the decoding threads and workers
        for batch in batches:
            if batch["skipped"].any():
                _note(_passed_over(batch, source), bad_images)
            yield {name: batch[name] for name in ("image", "label", "index")}


def _passed_over(batch: dict[str, np.ndarray], source: Source) -> set[str]:
    spans = zip(batch["record"].tolist(), batch["skipped"].tolist())
    return {record_name(source, (record + i) % len(source)) for record, skipped in spans for i in range(skipped)}


def _note(names: set[str], path: Path) -> None:
    with filelock.FileLock(f"{path}.lock"):  # each process notes its own
        known = set(path.read_text().splitlines()) if path.exists() else set()
        if fresh := sorted(names - known):
            write_atomically(path, "".join(f"{name}\n" for name in sorted(known | names)))
    if fresh:
        logger.warning("unreadable and replaced: %s (%d so far, see %s)", ", ".join(fresh), len(known | names), path)
