"""Evaluation of a whole set as a stream: every image exactly once, sums and counts."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from jax import Array

from vgg_jax.errors import InputError
from vgg_jax.eval.dense import dense_posteriors, fc_to_conv
from vgg_jax.eval.posteriors import average_posteriors
from vgg_jax.metrics import top_k_correct
from vgg_jax.model import VGG

CHUNK = 512  # images held at once; each chunk is grouped by size

View = tuple[int, int, list[np.ndarray] | None]  # record index, label, the image at each Q (None: unreadable)


class SetErrors(NamedTuple):
    """Errors in percent over the images that could be read (None without labels), and how many could not."""

    top1_error: float | None
    top5_error: float | None
    num_images: int
    num_skipped: int


def dense_set_errors(
    model: VGG,
    params: dict[str, dict[str, Array]],
    views: Iterable[View],
    count: int,
    *,
    flip: bool = True,
    pool_rounding: str | None = None,
    batch_size: int | None = None,
    advance: Callable[[float], object] = lambda images: None,
) -> SetErrors:
    """Top-1 and top-5 errors of dense evaluation over a stream of ``count`` records.

    views: as `vgg_jax.data.pipeline.rescaled_images` gives them. advance: told how many images were done, for a
    progress bar; an image counts in parts, one a scale. Raises InputError where nothing could be read or a
    label lies outside the classes; asserts that each record was seen exactly once.
    """
    dense_model = model.clone(fully_convolutional=True, pool_rounding=pool_rounding or model.pool_rounding)
    conv_params = fc_to_conv(params)
    correct, labelled, seen, skipped = {1: 0, 5: 0}, 0, set[int](), 0
    stream = iter(views)
    while chunk := list(islice(stream, CHUNK)):
        indices = [index for index, _, _ in chunk]
        assert seen.isdisjoint(indices) and len(set(indices)) == len(indices), "a record came twice"
        seen.update(indices)
        readable = [(label, images) for _, label, images in chunk if images is not None]
        skipped += len(chunk) - len(readable)
        advance(len(chunk) - len(readable))
        if not readable:
            continue
        labels = np.array([label for label, _ in readable])
        check_labels(labels, model.num_classes)
        at_scales = list(zip(*(images for _, images in readable)))
        options: dict[str, Any] = {
            "flip": flip,
            "batch_size": batch_size,
            "advance": _in_parts(advance, len(at_scales)),
        }
        posteriors = average_posteriors([dense_posteriors(dense_model, conv_params, a, **options) for a in at_scales])
        known = labels >= 0
        labelled += int(known.sum())
        for k in correct:
            correct[k] += int(top_k_correct(posteriors[known], labels[known], k).sum())
    assert seen == set(range(count)), f"{count} records were to be evaluated, but {len(seen)} were seen"
    num_images = count - skipped
    if not num_images:
        raise InputError("no image of the split could be read: nothing was evaluated")
    errors = [100.0 * (1.0 - correct[k] / labelled) if labelled else None for k in (1, 5)]
    return SetErrors(errors[0], errors[1], num_images, skipped)


def _in_parts(advance: Callable[[float], object], parts: int) -> Callable[[int], object]:
    return lambda images: advance(images / parts)


def check_labels(labels: Sequence[int] | np.ndarray, num_classes: int) -> None:
    """Raise InputError for a label outside [0, num_classes); -1 stands for an unlabelled image."""
    outside = [int(label) for label in labels if not -1 <= label < num_classes]
    if outside:
        raise InputError(
            f"label {outside[0]} lies outside the net's {num_classes} classes: the data set and the net do not belong "
            "together"
        )
