"""Evaluation of a whole set as a stream: posteriors part by part, then errors in which every image counts once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax import Array

from vgg_jax.errors import InputError
from vgg_jax.eval.crops import DEFAULT_CROPS, centre_crops, crop_posteriors, grid_crops
from vgg_jax.eval.dense import dense_posteriors, fc_to_conv
from vgg_jax.eval.programs import local_mesh, replicated, set_rows
from vgg_jax.eval.protocol import View
from vgg_jax.eval.stored import Part
from vgg_jax.metrics import class_recalls, top_k_correct
from vgg_jax.model import VGG

T = TypeVar("T")
Advance = Callable[[float], object]
Record = tuple[int, int, list[np.ndarray] | None]  # record index, label, the image at each Q (None: unreadable)
PosteriorsOf = Callable[[View, Sequence[np.ndarray], Advance], np.ndarray]


class SetErrors(NamedTuple):
    """Errors in percent over the labelled images (None without labels); ``wrong`` is bool [n] for each k.

    mean_class_recall: in percent too; in it each class counts the same, in top1_error each image.
    """

    top1_error: float | None
    top5_error: float | None
    mean_class_recall: float | None
    num_images: int
    skipped: list[int]  # records that could not be read
    wrong: dict[int, np.ndarray]


def view_posteriors(model: VGG, params: dict[str, dict[str, Array]], batch_size: int | None = None) -> PosteriorsOf:
    """A function (view, images at the view's scale, advance) -> posteriors [N, K], over all devices of this process.

    advance: told how many images were done, in parts, for a progress bar.
    """
    mesh = local_mesh()
    params = replicated(params, mesh)
    conv_params = fc_to_conv(params)

    def posteriors_of(view: View, images: Sequence[np.ndarray], advance: Advance) -> np.ndarray:
        default = set_rows if view.method == "dense" else DEFAULT_CROPS
        options: dict[str, Any] = {"flip": view.flip, "mesh": mesh, "advance": advance}
        options["batch_size"] = batch_size or default  # fixed, so that a resumed evaluation gives the same bits
        if view.method == "dense":
            dense_model = model.clone(fully_convolutional=True, pool_rounding=view.pool_rounding)
            return dense_posteriors(dense_model, conv_params, images, **options)
        crops_of = centre_crops if view.method == "centre_crop" else grid_crops()
        return crop_posteriors(model, params, images, crops_of, **options)

    return posteriors_of


def compute_part(
    posteriors_of: PosteriorsOf, records: Sequence[Record], views: dict[View, int], num_classes: int, advance: Advance
) -> Iterator[tuple[View, Part]]:
    """The part of each view, over the same records.

    views: view -> the position of its scale in the records' images. Raises InputError for a label outside the classes.
    """
    readable = np.array([images is not None for _, _, images in records])
    labels = np.array([label for _, label, _ in records], np.int32)
    check_labels(labels, num_classes)
    pyramids = [images for _, _, images in records if images is not None]
    for view, position in views.items():
        posteriors = np.full((len(records), num_classes), np.nan, np.float32)
        if pyramids:
            posteriors[readable] = posteriors_of(view, [images[position] for images in pyramids], advance)
        advance(len(records) - len(pyramids))
        yield view, Part(np.array([index for index, _, _ in records]), labels, readable, posteriors)


def loaded_ahead(load: Callable[[int], T], indices: Sequence[int]) -> Iterator[tuple[int, T]]:
    """(index, load(index)) in order, each loaded in a thread while the caller works on the one before."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(load, indices[0]) if indices else None
        for position, index in enumerate(indices):
            assert coming is not None
            loaded = coming.result()
            coming = pool.submit(load, indices[position + 1]) if position + 1 < len(indices) else None
            yield index, loaded


def own_share(parts: Sequence[int]) -> list[int]:
    """The parts that this process computes; the shares of all processes are disjoint and hold every part."""
    return [part for part in parts if part % jax.process_count() == jax.process_index()]


def set_errors(parts: Iterable[Part], count: int) -> SetErrors:
    """Errors and mean class recall of the posteriors of a set of ``count`` records; each must come exactly once.

    Unreadable images are left out and counted, unlabelled ones have no errors. Raises InputError where no image could
    be read.
    """
    seen = 0
    skipped: list[int] = []
    labels: list[np.ndarray] = []
    wrong: dict[int, list[np.ndarray]] = {1: [], 5: []}
    for part in parts:
        expected = np.arange(seen, seen + len(part.records))
        assert np.array_equal(part.records, expected), "a record came twice, or one is missing"
        seen += len(part.records)
        skipped += part.records[~part.readable].tolist()
        known = part.readable & (part.labels >= 0)
        labels.append(part.labels[known])
        for k, flags in wrong.items():
            flags.append(~top_k_correct(part.posteriors[known], part.labels[known], k))
    assert seen == count, f"{count} records were to be evaluated, but {seen} were seen"
    num_images = count - len(skipped)
    if not num_images:
        raise InputError("no image of the split could be read: nothing was evaluated")
    flags_of = {k: np.concatenate(flags) for k, flags in wrong.items()}
    top1, top5 = (100.0 * float(flags_of[k].mean()) if len(flags_of[k]) else None for k in (1, 5))
    recall = None if top1 is None else float(class_recalls(np.concatenate(labels), ~flags_of[1]).mean())
    return SetErrors(top1, top5, recall, num_images, skipped, flags_of)


def check_labels(labels: Sequence[int] | np.ndarray, num_classes: int) -> None:
    """Raise InputError for a label outside [0, num_classes); -1 stands for an unlabelled image."""
    outside = [int(label) for label in labels if not -1 <= label < num_classes]
    if outside:
        raise InputError(
            f"label {outside[0]} lies outside the net's {num_classes} classes: the data set and the net do not belong "
            "together"
        )
