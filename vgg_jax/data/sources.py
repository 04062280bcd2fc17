"""The one interface of all data sets: random access to encoded images and their labels."""

from typing import NamedTuple, Protocol

from vgg_jax.errors import InputError

SOURCES = ("folder", "array_record", "tfds", "shapes")
SPLITS = ("train", "val", "test")


class Record(NamedTuple):
    """One labelled image as it is stored."""

    image: bytes  # the encoded file
    label: int  # position in class_names; -1 where unknown
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
        """Read one record; raises InputError where its file cannot be read."""
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

    `source` is "folder", "array_record", "tfds" or "shapes", `path` where it lies.  The keyword arguments belong to
    `folder_source`; the other sources come with their splits and ignore them.  Raises InputError for an unknown source
    or split, and where there is no such data.
    """
    if split not in SPLITS:
        raise InputError(f"split {split!r} is unknown; choose one of {', '.join(SPLITS)}")
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
    if source == "shapes":
        from vgg_jax.data.shapes import shapes_source

        return shapes_source(path, split)
    raise InputError(f"data source {source!r} is unknown; choose one of {', '.join(SOURCES)}")
