"""Labelled pictures in sharded ArrayRecord files: the format that we write and TFDS shares.

A data set is one directory:

    train-00000-of-00008.array_record ...      shards; the splits are train, val (or validation) and test,
                                               which also stands for a val that is not there
    classes.txt                                the class names, one a line, in the order of the labels
    ilsvrc_ids.txt                             of ImageNet: the numbers that its server knows the classes by, likewise

Each record is a serialised tf.train.Example with the features `image` (the encoded file), `label` and `file_name`, as
TFDS writes it; so a directory prepared by TFDS itself is read too (`NAME-train.array_record-00000-of-00008` and
`label.labels.txt`).
"""

import bisect
import itertools
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter
from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_pb2  # plain protobuf: no tensorflow behind it

from vgg_jax.data.sources import STORED_SPLITS, Record
from vgg_jax.errors import InputError, MissingSplit

CLASS_FILES = ("classes.txt", "label.labels.txt")
ID_FILE = "ilsvrc_ids.txt"
_SHARD_NAMES = (
    re.compile(r"(?P<split>\w+)-(?P<index>\d{5})-of-(?P<count>\d{5})\.array_record"),
    re.compile(r"\w+-(?P<split>\w+)\.array_record-(?P<index>\d{5})-of-(?P<count>\d{5})"),
)


def encode_example(record: Record) -> bytes:
    """Serialise a record as a tf.train.Example; the same record always gives the same bytes."""
    example = tf_example_pb2.Example()
    feature = example.features.feature
    feature["image"].bytes_list.value.append(record.image)
    feature["label"].int64_list.value.append(record.label)
    feature["file_name"].bytes_list.value.append(record.name.encode())
    return example.SerializeToString(deterministic=True)


def decode_example(data: bytes, name: str) -> Record:
    """Parse a serialised tf.train.Example; `name` stands in for a missing `file_name` and is told in errors."""
    try:
        feature = tf_example_pb2.Example.FromString(data).features.feature
    except DecodeError as error:
        raise InputError(f"{name} is not a tf.train.Example ({error}); write the shard again") from error
    for key, kind in (("image", "bytes_list"), ("label", "int64_list")):
        if key not in feature or len(getattr(feature[key], kind).value) != 1:
            found = ", ".join(sorted(feature)) or "none"
            raise InputError(f"{name} has no single {kind} feature '{key}' (features: {found}); write the shard again")
    file_name = feature["file_name"].bytes_list.value if "file_name" in feature else ()
    return Record(
        image=feature["image"].bytes_list.value[0],
        label=feature["label"].int64_list.value[0],
        name=file_name[0].decode(errors="replace") if file_name else name,
    )


def shard_name(split: str, index: int, count: int) -> str:
    """The file name of shard `index` (from 0) of `count`."""
    return f"{split}-{index:05d}-of-{count:05d}.array_record"


def write_shard(path: Path, records: Iterable[Record]) -> int:
    """Write one shard for random access and return its number of records.

    The file takes its name only when it is whole and on the disk, so that a shard that exists is a finished one.
    """
    partial = path.with_name(path.name + ".partial")
    writer = ArrayRecordWriter(str(partial), "group_size:1,uncompressed")
    count = 0
    try:
        for record in records:
            writer.write(encode_example(record))
            count += 1
    finally:
        writer.close()
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
    return count


def write_array_record_shards(
    directory: str | Path, split: str, records: Sequence[Record], class_names: Sequence[str], num_shards: int = 1
) -> None:
    """Write records, in order and in blocks of nearly equal length, as the shards of one split, and `classes.txt`."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    write_class_names(directory, class_names)
    for index in range(num_shards):
        start, stop = (len(records) * i // num_shards for i in (index, index + 1))
        write_shard(directory / shard_name(split, index, num_shards), records[start:stop])


def write_class_names(directory: Path, class_names: Sequence[str]) -> None:
    """Write `classes.txt` atomically, one name a line in the order of the labels."""
    _write_lines(directory / CLASS_FILES[0], class_names)


def write_ilsvrc_ids(directory: Path, ilsvrc_ids: Sequence[int]) -> None:
    """Write `ilsvrc_ids.txt` atomically, the ILSVRC2012_ID of each class, one a line in the order of the labels."""
    _write_lines(directory / ID_FILE, ilsvrc_ids)


def _write_lines(path: Path, values: Iterable[object]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text("".join(f"{value}\n" for value in values), encoding="utf-8")
    partial.replace(path)


def read_class_names(directory: Path) -> tuple[str, ...]:
    """Read the class names of a data set in the order of the labels; InputError if there is no such file."""
    for file in (directory / name for name in CLASS_FILES):
        if file.is_file():
            return tuple(line for line in file.read_text(encoding="utf-8").splitlines() if line)
    raise InputError(f"{directory} has no classes.txt; write the class names there, one a line, in label order")


def read_ilsvrc_ids(directory: Path, num_classes: int) -> tuple[int, ...] | None:
    """The ILSVRC2012_ID of each class in the order of the labels, None without the file; InputError if it is wrong."""
    path = directory / ID_FILE
    if not path.exists():
        return None
    lines = path.read_text(encoding="utf-8").split()
    if len(lines) != num_classes or not all(line.isdecimal() for line in lines) or len(set(lines)) != num_classes:
        raise InputError(
            f"{path} holds {len(lines)} entries, but {num_classes} different numbers are expected, one a class: "
            "prepare the data set again, or remove the file"
        )
    return tuple(map(int, lines))


def find_shards(directory: Path) -> dict[str, dict[int, dict[int, Path]]]:
    """All shards of a directory as {split: {number of shards: {index: path}}}."""
    shards: dict[str, dict[int, dict[int, Path]]] = {}
    for path in sorted(directory.iterdir()):
        match = next((m for pattern in _SHARD_NAMES if (m := pattern.fullmatch(path.name))), None)
        if match:
            shards.setdefault(match["split"], {}).setdefault(int(match["count"]), {})[int(match["index"])] = path
    return shards


def split_shards(directory: Path, split: str) -> list[Path]:
    """The complete, ordered list of a split's shards; InputError names what is missing or there twice."""
    if not directory.is_dir():
        raise InputError(f"the data path {directory} is not a directory; expected one with ArrayRecord shards")
    shards = find_shards(directory)
    stored = next((name for name in STORED_SPLITS[split] if name in shards), None)
    if stored is None:
        found = ", ".join(sorted(shards)) or "none"
        raise MissingSplit(
            f"{directory} has no split '{split}' (splits found: {found}); expected files like {shard_name(split, 0, 1)}"
        )
    if len(shards[stored]) > 1:
        counts = " and ".join(str(count) for count in sorted(shards[stored]))
        raise InputError(f"{directory} holds split '{stored}' in {counts} shards at once; remove all but one set")
    ((count, paths),) = shards[stored].items()
    missing = [index for index in range(count) if index not in paths]
    if missing:
        first = shard_name(stored, missing[0], count)
        raise InputError(
            f"{directory} lacks {len(missing)} of the {count} shards of split '{stored}' (first {first});"
            " finish the preparation or copy them again"
        )
    return [paths[index] for index in range(count)]


class ArrayRecordSource:
    """Random access to the records of a list of shards; ``ilsvrc_ids``: see `read_ilsvrc_ids`.

    Picklable and thread-safe: the readers open lazily, once a process, and stay behind when it is pickled.
    """

    def __init__(
        self, shards: Sequence[Path], class_names: tuple[str, ...], ilsvrc_ids: tuple[int, ...] | None = None
    ) -> None:
        self.class_names = class_names
        self.ilsvrc_ids = ilsvrc_ids
        self._names = [shard.name for shard in shards]
        self._shards = [_open_shard(shard) for shard in shards]
        self._ends = list(itertools.accumulate(len(shard) for shard in self._shards))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        shard, position = self._shard_and_position(index)
        name = self.location(index)
        try:
            data = self._shards[shard][position]
        except (RuntimeError, ValueError, OSError) as error:
            raise InputError(f"{name} cannot be read ({error}); copy or write the shard again") from error
        return decode_example(data, name)

    def location(self, index: int) -> str:
        """The shard and the position in it."""
        shard, position = self._shard_and_position(index)
        return f"{self._names[shard]}[{position}]"

    def _shard_and_position(self, index: int) -> tuple[int, int]:
        shard = bisect.bisect_right(self._ends, index)
        return shard, index - self._ends[shard] + len(self._shards[shard])


def _open_shard(shard: Path) -> ArrayRecordDataSource:
    try:
        return ArrayRecordDataSource(str(shard))
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(f"{shard} is not a whole ArrayRecord file ({error}); copy or write it again") from error


def array_record_source(path: str | Path, split: str) -> ArrayRecordSource:
    """Open split train, val or test of a directory of ArrayRecord shards.

    `val` is the stored `val`, else `validation`, else `test`. Labels run over the names in `classes.txt`; -1 means
    unlabelled. Raises InputError for a missing directory, split, shard or `classes.txt`, and on reading for a damaged
    record; labels are checked where records are used.
    """
    shards = split_shards(Path(path), split)
    class_names = read_class_names(Path(path))
    return ArrayRecordSource(shards, class_names, read_ilsvrc_ids(Path(path), len(class_names)))
