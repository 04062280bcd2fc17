"""Descriptors on disk, part by part: extraction goes on where it stopped, and later splits use what is there."""

import contextlib
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vgg_jax.errors import InputError
from vgg_jax.locks import one_writer
from vgg_jax.report import write_atomically


@contextlib.contextmanager
def opened_store(folder: Path, identity: dict[str, Any]) -> Iterator[None]:
    """Hold a store as its one writer, making it where it is absent; another writer is waited for.

    identity: what must agree, as the weights, the layer and the data set. Raises InputError for a store of other
    settings.
    """
    with one_writer(folder / ".lock", f"extraction in {folder}"):
        _agree(folder / "store.json", identity)
        yield


def _agree(path: Path, identity: dict[str, Any]) -> None:
    wanted = json.loads(json.dumps(identity))  # tuples as lists, as they will be read back
    if not path.exists():
        write_atomically(path, json.dumps(wanted, indent=1) + "\n")
        return
    try:
        saved = dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        raise InputError(f"{path} cannot be read: remove the folder, or give another --features") from None
    if saved != wanted:
        differing = [
            f"{name} {saved.get(name)!r} there, {wanted.get(name)!r} now"
            for name in {**saved, **wanted}
            if saved.get(name) != wanted.get(name)
        ]
        raise InputError(
            f"{path.parent} holds descriptors of other settings ({'; '.join(differing)}): give another --features, or "
            "the settings that they were made with"
        )


def write_part(folder: Path, records: Sequence[int] | np.ndarray, descriptors: np.ndarray) -> None:
    """Write the descriptors [N, 2, 2, C] of some records; a reader sees all of them or nothing."""
    number = max((int(part.stem) + 1 for part in _parts(folder)), default=0)  # a damaged part may have been removed
    path = folder / f"{number:05d}.npz"
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        np.savez(file, records=np.asarray(records, np.int64), descriptors=descriptors)
    os.replace(temporary, path)


def stored_records(folder: Path) -> np.ndarray:
    """The records whose descriptors are in a store, int64 [N]."""
    return np.concatenate([np.zeros(0, np.int64), *_read(folder, "records")])


def read_descriptors(folder: Path, records: Sequence[int] | np.ndarray) -> np.ndarray:
    """Descriptors float32 [N, 2, 2, C] of records, in their order; all must be there."""
    row_of = {record: row for row, record in enumerate(stored_records(folder).tolist())}
    rows = [row_of[int(record)] for record in records]
    return np.concatenate(list(_read(folder, "descriptors")))[rows]


def _parts(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("*.npz") if path.stem.isdecimal())


def _read(folder: Path, name: str) -> Iterator[np.ndarray]:
    """An array of each part, in the order of their writing."""
    for path in sorted(_parts(folder)):
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                yield arrays[name]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} holds no descriptors ({error}): remove it and extract again") from None
