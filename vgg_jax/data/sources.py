"""The one interface of all data sets: random access to encoded images and their labels."""

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

from vgg_jax.errors import InputError

SOURCES = ("folder", "array_record", "tfds", "shapes")
SPLITS = ("train", "val", "test")
# What a split is called where it is stored, the best first: most sets without a validation split are evaluated on test.
STORED_SPLITS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"train": ("train",), "val": ("val", "validation", "test"), "test": ("test",)}
)
NO_LABEL = -1  # of images whose labels are unknown, or held back as ImageNet's of the test split


class Record(NamedTuple):
    """One labelled image as it is stored."""

    image: bytes  # the encoded file
    label: int  # position in class_names; NO_LABEL where unknown
    name: str  # for messages


class Source(Protocol):
    """A split of a data set.  Picklable, and safe to read from several threads."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class, in the order of the labels."""
        ...

    def __len__(self) -> int:
        """Number of records."""
        ...

    def __getitem__(self, index: int) -> Record:
        """Read one record, whatever its label; raises InputError where it cannot be read."""
        ...

    def location(self, index: int) -> str:
        """Where a record lies, told without reading it: its name in messages and lists where it cannot be read."""
        ...


def open_source(
    source: str,
    path: str,
    split: str,
    *,
    split_seed: int = 0,
    val_fraction: float = 0.1,
    test_fraction: float = 0.0,
    images_per_class: int | None = None,
) -> Source:
    """Open one split ("train", "val" or "test") of a data set.

    `source` is "folder", "array_record", "tfds" or "shapes", `path` where it lies ("~" is the home directory); only
    "shapes" has a default, for an empty path.  The keyword arguments belong to `folder_source`; the other sources come
    with their splits and ignore them.  Raises InputError for an unknown source or split, for an empty path, and where
    there is no such data.
    """
    if split not in SPLITS:
        raise InputError(f"split {split!r} is unknown; choose one of {', '.join(SPLITS)}")
    if source not in SOURCES:
        raise InputError(f"data source {source!r} is unknown; choose one of {', '.join(SOURCES)}")
    if not path and source != "shapes":
        raise InputError(
            f"the path of data source {source!r} is empty; give --config.data.path=PATH, or --data_path=PATH"
        )
    path = os.path.expanduser(path)
    # Imported where asked for: no source should need another one's packages.
    if source == "folder":
        from vgg_jax.data.folder import folder_source

        return folder_source(
            path,
            split,
            split_seed=split_seed,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            images_per_class=images_per_class,
        )
    if source == "array_record":
        from vgg_jax.data.array_record import array_record_source

        return array_record_source(path, split)
    if source == "tfds":
        from vgg_jax.data.tfds import tfds_source

        return tfds_source(path, split)
    from vgg_jax.data.shapes import shapes_source

    return shapes_source(path, split)


def record_name(source: Source, index: int) -> str:
    """The name of a record, for lists of bad images; where it lies, if it cannot be read."""
    try:
        return source[index].name
    except InputError:
        return source.location(index)
