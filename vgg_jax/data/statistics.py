"""The mean RGB and the principal colours of a training set (sec. 3.1)."""

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vgg_jax.data.pipeline import map_images
from vgg_jax.data.sources import Source
from vgg_jax.errors import InputError
from vgg_jax.images.colour import IMAGENET_EIGENVALUES, IMAGENET_EIGENVECTORS, IMAGENET_MEAN_RGB
from vgg_jax.progress import progress_bar

logger = logging.getLogger(__name__)

Row = tuple[float, float, float]
_CHUNK = 2**20  # pixels at a time, to bound the memory of large images


class ColourStatistics(NamedTuple):
    """Mean and principal components of the RGB values of all pixels."""

    mean_rgb: Row  # 0..255
    eigenvalues: Row  # of the covariance with RGB in [0, 1], largest first
    eigenvectors: tuple[Row, Row, Row]  # rows R, G, B; columns p_i


class PixelSums(NamedTuple):
    """Whole numbers of any size: how many pixels, the sum of their RGB [3] and of its outer products [3, 3]."""

    pixels: int
    total: list[int]
    products: list[list[int]]
    skipped: list[int]  # records that could not be read


IMAGENET_STATISTICS = ColourStatistics(IMAGENET_MEAN_RGB, IMAGENET_EIGENVALUES, IMAGENET_EIGENVECTORS)


def colour_statistics(
    source: Source, *, progress: bool = True, on_error: str = "raise", threads: int = 8
) -> ColourStatistics:
    """Statistics of all pixels of the source at their stored size, each pixel with equal weight.

    The sums are exact whole numbers, so order and threads do not matter.  on_error="skip" leaves unreadable files out
    and warns of them.
    Raises InputError naming an unreadable file, or where nothing is readable.
    """
    return statistics_of([pixel_sums(source, progress=progress, on_error=on_error, threads=threads)])


def pixel_sums(
    source: Source,
    records: Sequence[int] | None = None,
    *,
    progress: bool = True,
    on_error: str = "raise",
    threads: int = 8,
) -> PixelSums:
    """The exact sums of the pixels of some records, all if None; arguments as of `colour_statistics`."""
    pixels, total, products = 0, np.zeros(3, object), np.zeros((3, 3), object)  # Python's integers: no overflow
    skipped = []
    results = map_images(source, _pixel_sums, records, on_error=on_error, threads=threads)
    count = len(source if records is None else records)
    for record, _, sums in progress_bar(results, "colour statistics", count, unit=" images", disable=not progress):
        if sums is not None:
            pixels, total, products = pixels + sums[0], total + sums[1], products + sums[2]
        else:
            skipped.append(record)
    if skipped:
        logger.warning("colour statistics: %d of %d images could not be read: left out", len(skipped), count)
    return PixelSums(pixels, total.tolist(), products.tolist(), skipped)


def statistics_of(shares: Sequence[PixelSums]) -> ColourStatistics:
    """The statistics of all pixels that went into some sums."""
    pixels = sum(share.pixels for share in shares)
    total = np.sum([np.array(share.total, object) for share in shares], axis=0)
    products = np.sum([np.array(share.products, object) for share in shares], axis=0)
    if pixels == 0:
        raise InputError("colour statistics: no readable image in the split; check the data path")
    covariance = (pixels * products - np.outer(total, total)) / (255 * pixels) ** 2
    eigenvalues, eigenvectors = np.linalg.eigh(covariance.astype(np.float64))
    eigenvalues, eigenvectors = np.maximum(eigenvalues[::-1], 0), eigenvectors[:, ::-1]
    # An eigenvector's sign is arbitrary: take ImageNet's, for comparison.
    against = np.sum(eigenvectors * np.array(IMAGENET_EIGENVECTORS), axis=0) < 0
    return _from_lists(
        (total / pixels).astype(float).tolist(),
        eigenvalues.tolist(),
        np.where(against[None, :], -eigenvectors, eigenvectors).tolist(),
    )


def save_statistics(path: str | os.PathLike, statistics: ColourStatistics) -> None:
    """Write the statistics as JSON, whole or not at all."""
    temporary = Path(f"{path}.tmp{os.getpid()}")
    temporary.write_text(json.dumps(statistics._asdict(), indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def load_statistics(path: str | os.PathLike) -> ColourStatistics:
    """Read what `save_statistics` wrote, exactly; raises InputError where the file is absent or something else."""
    try:
        fields = json.loads(Path(path).read_text(encoding="utf-8"))
        statistics = _from_lists(fields["mean_rgb"], fields["eigenvalues"], fields["eigenvectors"])
    except OSError as error:
        raise InputError(f"colour statistics {path} cannot be read ({error.strerror}); compute them first") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no file of colour statistics ({error!r}); compute it again") from error
    return statistics


def _pixel_sums(image: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Number, sum [3] and sum of outer products [3, 3] of the pixels of uint8 [H, W, 3]; exact."""
    pixels = image.reshape(-1, 3)
    total, products = np.zeros(3, np.int64), np.zeros((3, 3), np.int64)
    for first in range(0, len(pixels), _CHUNK):
        chunk = pixels[first : first + _CHUNK].astype(np.float64)
        total += chunk.sum(axis=0).astype(np.int64)
        products += (chunk.T @ chunk).astype(np.int64)  # 2**20 * 255**2 < 2**53: exact in float64
    return len(pixels), total.astype(object), products.astype(object)


def _from_lists(mean_rgb: list, eigenvalues: list, eigenvectors: list) -> ColourStatistics:
    return ColourStatistics(
        _row(mean_rgb), _row(eigenvalues), (_row(eigenvectors[0]), _row(eigenvectors[1]), _row(eigenvectors[2]))
    )


def _row(values: list) -> Row:
    first, second, third = (float(value) for value in values)
    return first, second, third
