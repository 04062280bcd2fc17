"""From a source to arrays: random views for training, whole or centre-cropped images for evaluation (on grain)."""

import dataclasses
import functools
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar

import grain
import numpy as np

from vgg_jax.data.bad_images import check_on_error, is_passed_over
from vgg_jax.data.read_ahead import read_ahead
from vgg_jax.data.sources import NO_LABEL, Record, Source
from vgg_jax.errors import InputError
from vgg_jax.images.crop import centre_crop, check_scale, random_view
from vgg_jax.images.decode import decode_rgb, open_image
from vgg_jax.images.decoders import DECODERS, check_decoder
from vgg_jax.images.rescale import rescale

Result = TypeVar("Result")


def training_batches(
    source: Source,
    *,
    scale: tuple[int, int],
    crop_size: int,
    batch_size: int,
    seed: int,
    first_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    on_error: str = "raise",
    decoder: str = "exact",
    workers: int = 0,
    threads: int = 8,
) -> Generator[dict[str, np.ndarray]]:
    """Endless training batches from step `first_step` on (sec. 3.1), a reshuffled epoch after the other.

    Each is image uint8 [n, crop, crop, 3]; label int32 [n]; index int32 [n], the global position step * batch_size +
    row; record int32 [n], the record meant; skipped int32 [n], how many unreadable records from `record` on were passed
    over, in index order and around the end, for the one used; n = batch_size / process_count.  Process p gets rows
    p * n to (p + 1) * n.  `scale` is the range of S, ends included.  `on_error` is for unreadable records: "raise",
    "skip", or "skip:FILE", which passes over those that FILE lists (as bad_images.txt) and raises for others.
    `decoder` is one of images.decoders.DECODERS.

    An example depends on (seed, its position, decoder) alone: not on workers (processes, 0 for none), threads, or where
    the run started.  Up to `threads` batches are made ahead, in each worker max(1, threads // workers).  Raises
    InputError at once for wrong arguments; while iterating for a label outside the classes, an unlabelled image, an
    unreadable record that `on_error` does not pass over, or where no record is readable.
    """
    check_on_error(on_error)
    check_decoder(decoder)
    check_scale(scale, crop_size)
    if len(source) == 0:
        raise InputError("the training split holds no records; check the data path and the split")
    _check_division(batch_size, process_count)
    if seed < 0:
        raise InputError(f"seed is {seed}; expected a whole number, 0 or larger")
    # Hashed apart, so that neither epochs nor views of one seed meet those of a neighbouring seed.
    shuffle_seed, *view_seed = (int(word) for word in np.random.SeedSequence(seed).generate_state(3))
    loader = _TrainingLoader(source, scale, crop_size, view_seed[0] << 32 | view_seed[1], on_error, decoder)
    examples = grain.MapDataset.range(len(source)).shuffle(seed=shuffle_seed).repeat().map_with_index(loader)
    blocks = examples.batch(batch_size // process_count)
    mine = blocks[first_step * process_count + process_index :: process_count]
    return read_ahead(mine, threads, workers)


def centre_crop_batches(
    source: Source,
    *,
    smallest_side: int,
    crop_size: int,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    on_error: str = "raise",
    threads: int = 8,
) -> Iterator[dict[str, np.ndarray]]:
    """Every record once, in order, rescaled and centre-cropped, in batches that are always full.

    n = batch_size / process_count: process p gets rows p * n to (p + 1) * n of each batch, and reads no others.
    Each is image uint8 [n, crop, crop, 3], label int32 [n], mask bool [n], record int32 [n].  mask is False for an
    unreadable image that `on_error="skip"` leaves out (image and label 0) and for the last batch's padding (record -1
    as well).  The label is -1 where unlabelled.  Raises InputError for wrong arguments and as `map_images` does.
    """
    check_scale((smallest_side, smallest_side), crop_size)
    _check_division(batch_size, process_count)
    rows = batch_size // process_count
    blocks = [
        range(min(first + process_index * rows, len(source)), min(first + (process_index + 1) * rows, len(source)))
        for first in range(0, len(source), batch_size)
    ]
    view = functools.partial(_centre_view, smallest_side, crop_size)
    crops = map_images(source, view, [i for block in blocks for i in block], on_error=on_error, threads=threads)

    def batches() -> Iterator[dict[str, np.ndarray]]:
        for block in blocks:
            batch: dict[str, np.ndarray] = {
                "image": np.zeros((rows, crop_size, crop_size, 3), np.uint8),
                "label": np.zeros(rows, np.int32),
                "mask": np.zeros(rows, bool),
                "record": np.full(rows, -1, np.int32),
            }
            for row in range(len(block)):
                batch["record"][row], label, crop = next(crops)
                if crop is not None:
                    batch["image"][row], batch["label"][row], batch["mask"][row] = crop, label, True
            yield batch

    return batches()


def rescaled_images(
    source: Source,
    smallest_sides: Sequence[int],
    records: Sequence[int] | None = None,
    *,
    on_error: str = "raise",
    threads: int = 8,
) -> Iterator[tuple[int, int, list[np.ndarray] | None]]:
    """The records (None for all) in their order: (record, label, the uint8 image at each side, decoded once).

    The images are None, and the label -1, where the record is unreadable and on_error is "skip".  Raises InputError as
    `map_images` does.
    """
    pyramid = functools.partial(_pyramid, tuple(smallest_sides))
    return map_images(source, pyramid, records, on_error=on_error, threads=threads)


def map_images(
    source: Source,
    function: Callable[[np.ndarray], Any],
    records: Sequence[int] | None = None,
    *,
    on_error: str = "raise",
    threads: int = 8,
) -> Iterator[tuple[int, int, Any]]:
    """(record, label, function(decoded image)) for the records, by their index and in their order (None for all), made
    in `threads` threads.

    At most `threads` results are made ahead.  An unreadable record, or one for which `function` raises InputError,
    gives (record, -1, None) where on_error is "skip"; "raise" raises InputError naming the file.  Labels may be -1,
    for unlabelled; one outside the classes raises InputError always.
    """
    check_on_error(on_error)

    make = functools.partial(_of_decoded, function)

    def load(index: int) -> tuple[int, int, Any]:
        loaded = _load(source, index, make, on_error, unlabelled=True)
        return (index, NO_LABEL, None) if loaded is None else (index, *loaded)

    wanted = range(len(source)) if records is None else records
    return read_ahead(grain.MapDataset.source(wanted).map(load), threads) if wanted else iter(())


@dataclasses.dataclass(frozen=True)
class _TrainingLoader:
    """(position, record index) -> example.  An object, because worker processes need it pickled."""

    source: Source
    scale: tuple[int, int]
    crop_size: int
    view_seed: int  # 64 bits
    on_error: str
    decoder: str

    def __call__(self, position: int, index: int) -> dict[str, np.ndarray | np.int32]:
        """The view of the first readable record from `index` on, around the end; skipped: how many were passed over."""
        view, count = functools.partial(self._view, position), len(self.source)
        for skipped in range(count):
            loaded = _load(self.source, (index + skipped) % count, view, self.on_error, unlabelled=False)
            if loaded is not None:
                return {
                    "image": loaded[1],
                    "label": np.int32(loaded[0]),
                    "index": np.int32(position),
                    "record": np.int32(index),
                    "skipped": np.int32(skipped),
                }
        raise InputError(f"none of the {count} training records is readable; check the data")

    def _view(self, position: int, data: bytes, name: str) -> np.ndarray:
        """Chosen by the header, before anything is decoded."""
        encoded = open_image(data, name)
        rng = np.random.Generator(np.random.Philox(key=[self.view_seed, position]))
        view = random_view(rng, *encoded.size, self.scale, self.crop_size)
        return DECODERS[self.decoder](encoded, view, self.crop_size)


def _load(
    source: Source, index: int, make: Callable[[bytes, str], Result], on_error: str, *, unlabelled: bool
) -> tuple[int, Result] | None:
    """(label, make(image file, its name)) of a record, or None where it is unreadable and on_error is "skip".

    Every record that a pipeline uses comes from here, its label checked: on_error is for unreadable pictures alone.
    """
    record = _attempt(on_error, source.location(index), source.__getitem__, index)
    if record is None:
        return None
    _check_label(record, len(source.class_names), unlabelled)
    made = _attempt(on_error, record.name, make, record.image, record.name)
    return None if made is None else (record.label, made)


def _attempt(on_error: str, name: str, function: Callable[..., Result], *arguments: Any) -> Result | None:
    """function(*arguments); where it raises InputError, None if on_error passes over `name`."""
    try:
        return function(*arguments)
    except InputError as error:
        if is_passed_over(on_error, name):
            return None
        raise InputError(
            f"{error}, or pass over such files with on_error=skip (--config.data.on_error=skip)"
        ) from error


def _check_label(record: Record, num_classes: int, unlabelled: bool) -> None:
    if record.label == NO_LABEL and not unlabelled:
        raise InputError(
            f"{record.name}: the training split holds an unlabelled image (label {NO_LABEL}): it cannot be trained on"
        )
    if not (0 <= record.label < num_classes or record.label == NO_LABEL):
        raise InputError(
            f"{record.name}: label {record.label} is outside the {num_classes} classes; "
            "correct the label or the class names"
        )


def _of_decoded(function: Callable[[np.ndarray], Result], data: bytes, name: str) -> Result:
    """function(the decoded image), whose InputErrors get the name of the file."""
    image = decode_rgb(data, name)
    try:
        return function(image)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _centre_view(smallest_side: int, crop_size: int, image: np.ndarray) -> np.ndarray:
    return centre_crop(rescale(image, smallest_side), crop_size)


def _pyramid(smallest_sides: tuple[int, ...], image: np.ndarray) -> list[np.ndarray]:
    return [rescale(image, side) for side in smallest_sides]


def _check_division(batch_size: int, process_count: int) -> None:
    if batch_size < 1 or batch_size % process_count:
        raise InputError(f"batch_size {batch_size} does not divide over {process_count} processes; choose a multiple")
