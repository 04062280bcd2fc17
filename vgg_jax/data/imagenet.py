"""ILSVRC2012's tars and development kit -> ArrayRecord shards of the original files.

Nothing is unpacked: one pass over the tars' headers finds where every picture lies, then the shards are copied out one
after the other, in blocks of nearly equal length: train in the tar's order (readers shuffle by random access), val and
test by number.
"""

import collections
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from filelock import FileLock, Timeout
from tqdm import tqdm

from vgg_jax.data.array_record import (
    CLASS_FILES,
    ArrayRecordSource,
    find_shards,
    read_class_names,
    shard_name,
    write_class_names,
    write_ilsvrc_ids,
    write_shard,
)
from vgg_jax.data.bad_images import BAD_IMAGES_FILE, read_bad_images, write_bad_images
from vgg_jax.data.imagenet_files import ENTRIES_OF_SPLIT, Entry, read_kit
from vgg_jax.data.sources import Record
from vgg_jax.errors import InputError
from vgg_jax.images.decode import decode_rgb
from vgg_jax.progress import progress_bar

Item = TypeVar("Item")
Result = TypeVar("Result")

NUM_IMAGES: Mapping[str, int] = MappingProxyType({"train": 1_281_167, "val": 50_000, "test": 100_000})
NUM_CLASSES = 1000
IMAGES_PER_SHARD = 5000  # about 550 MB; and few enough shards for a process to hold all of them open


def prepare_imagenet(
    tars: Mapping[str, str | Path],
    devkit: str | Path,
    output: str | Path,
    *,
    num_images: Mapping[str, int] = NUM_IMAGES,
    num_classes: int = NUM_CLASSES,
    images_per_shard: int = IMAGES_PER_SHARD,
    threads: int | None = None,
) -> dict[str, str]:
    """Write the shards of the splits in `tars` (keys train, val, test) and the class files into the directory `output`.

    Killed and started again, it keeps the finished shards and goes on with the others. A picture that does not decode
    is kept as it is, so that the counts hold; it is named on the screen and in bad_images.txt, and returned as {file
    name: what is wrong}. Raises InputError for missing, truncated or wrong tars, another kit, counts other than
    `num_images` (all before anything is written), and an `output` that holds something else or is being written.
    """
    paths = {split: Path(tar).expanduser() for split, tar in tars.items()}
    kit = read_kit(Path(devkit).expanduser(), num_classes)
    entries = {split: ENTRIES_OF_SPLIT[split](path, kit) for split, path in paths.items()}
    for split, found in entries.items():
        if len(found) != num_images[split]:
            raise InputError(
                f"{paths[split]} holds {len(found)} pictures, expected {num_images[split]} for {split}; fetch it"
                f" again, or give --num_{split}={len(found)} if it is meant so"
            )
    output = Path(output).expanduser()
    output.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(output / ".lock", timeout=0):
            _write_or_compare_class_names(output, kit.class_names)
            write_ilsvrc_ids(output, kit.ilsvrc_ids)
            for split, found in entries.items():
                _write_split(output, split, paths[split], found, images_per_shard, threads or os.cpu_count() or 1)
            return _bad_images(output)
    except Timeout as error:
        raise InputError(f"another run is writing to {output}; wait for it or give another output") from error


def _bad_images(output: Path) -> dict[str, str]:
    """The undecodable pictures found so far, {file name: what is wrong}."""
    file = output / BAD_IMAGES_FILE
    return read_bad_images(file) if file.exists() else {}


def _write_or_compare_class_names(output: Path, class_names: tuple[str, ...]) -> None:
    if not (output / CLASS_FILES[0]).exists():
        write_class_names(output, class_names)
    elif read_class_names(output) != class_names:
        raise InputError(f"{output}/{CLASS_FILES[0]} has other classes than the kit; give an empty output directory")


def _write_split(
    output: Path, split: str, tar: Path, entries: Sequence[Entry], images_per_shard: int, threads: int
) -> None:
    """Write the shards of a split that are not there yet."""
    count = -(-len(entries) // images_per_shard)
    blocks = {
        output / shard_name(split, i, count): entries[len(entries) * i // count : len(entries) * (i + 1) // count]
        for i in range(count)
    }
    others = set(find_shards(output).get(split, {})) - {count}
    if others:
        raise InputError(
            f"{output} holds {split} in {min(others)} shards, expected {count}; give an empty output directory"
        )
    finished = [shard for shard in blocks if shard.exists()]
    for shard in finished:
        _check_finished(shard, blocks[shard], read_class_names(output))
    done = sum(len(blocks[shard]) for shard in finished)
    with tar.open("rb") as file, progress_bar(total=len(entries), initial=done, desc=split, unit="image") as bar:
        for shard, block in blocks.items():
            if shard not in finished:
                write_shard(shard, _checked_records(file.fileno(), tar, block, output, threads, bar))


def _check_finished(shard: Path, block: Sequence[Entry], class_names: tuple[str, ...]) -> None:
    source = ArrayRecordSource([shard], class_names)
    if len(source) != len(block) or source[0].name != block[0].name:
        raise InputError(f"{shard} comes from other tars than the ones given; give an empty output directory")


def _checked_records(
    file: int, tar: Path, block: Sequence[Entry], output: Path, threads: int, bar: tqdm
) -> Iterator[Record]:
    """Read the pictures of a block in order; the undecodable ones are on record before the shard can be finished."""

    def read(entry: Entry) -> tuple[Record, str | None]:
        data = os.pread(file, entry.size, entry.offset)
        if len(data) != entry.size:
            raise InputError(f"{tar} ended within {entry.name}; fetch it again")
        return Record(data, entry.label, entry.name), _decoding_error(data, entry.name)

    bad: dict[str, str] = {}
    for record, error in _map_in_order(read, block, threads):
        if error is not None:
            bad[record.name] = error
            bar.write(f"kept as it is: {error}")
        bar.update()
        yield record
    if bad:
        write_bad_images(output / BAD_IMAGES_FILE, _bad_images(output) | bad)


def _decoding_error(data: bytes, name: str) -> str | None:
    try:
        decode_rgb(data, name)
    except InputError as error:
        return " ".join(str(error).split())
    return None


def _map_in_order(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Map with threads, in order, with a bounded number of results in memory (executor.map keeps all of them)."""
    with ThreadPoolExecutor(threads) as pool:
        pending: collections.deque[Future[Result]] = collections.deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 4 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
