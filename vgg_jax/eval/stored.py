"""Posteriors of a whole set on disk, part by part: an evaluation goes on where it stopped, and fusion reads them."""

import contextlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vgg_jax.errors import InputError
from vgg_jax.eval.posteriors import average_posteriors
from vgg_jax.report import write_atomically

PART = 256  # records in a file; also what is held in memory at once

Fused = Sequence[Sequence[Sequence[Path]]]  # nets, each of methods, each of folders, one a test scale


class Part(NamedTuple):
    """The posteriors of consecutive records; rows of unreadable images are NaN."""

    records: np.ndarray  # int64 [n]
    labels: np.ndarray  # int32 [n], -1 where unlabelled or unreadable
    readable: np.ndarray  # bool [n]
    posteriors: np.ndarray  # float32 [n, K]


def load_posteriors(folder: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """(posteriors float32 [N, K], labels int32 [N]) that evaluate.py --save_posteriors left, in record order.

    Unlabelled images have label -1; rows of unreadable ones are NaN. Raises InputError for an unfinished or foreign
    folder.
    """
    parts = list(read_parts(Path(folder)))
    return np.concatenate([part.posteriors for part in parts]), np.concatenate([part.labels for part in parts])


def open_folder(folder: Path, identity: dict[str, Any]) -> None:
    """Make a folder for the posteriors of a set, or find what is there; those of another set raise InputError.

    identity: what must agree, as the data set, its split and the number of records.
    """
    path = folder / "set.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({**identity, "part": PART}, indent=1) + "\n")
        return
    saved = _read_identity(folder)
    differing = [f"{name} {saved.get(name)!r} there, {value!r} now" for name, value in identity.items()
                 if saved.get(name) != value]  # fmt: skip
    if differing or saved.get("part") != PART:
        raise InputError(
            f"{folder} holds posteriors of another set ({'; '.join(differing) or 'another size of parts'}): remove it, "
            "or give the data that they were made with"
        )


def missing_parts(folder: Path, count: int) -> list[int]:
    """Which parts of a set of ``count`` records a folder lacks."""
    return [part for part in range(-(-count // PART)) if not _part_path(folder, part).exists()]


def write_part(folder: Path, index: int, part: Part) -> None:
    """Write one part; a reader sees all of it or nothing."""
    path = _part_path(folder, index)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.savez(file, **part._asdict())
    os.replace(temporary, path)


def read_parts(folder: Path) -> Iterator[Part]:
    """The parts of a finished folder in order, one in memory at a time."""
    count = _read_identity(folder)["num_records"]
    if missing := missing_parts(folder, count):
        raise InputError(
            f"{folder} lacks {len(missing)} of {-(-count // PART)} parts: run the same evaluation to its end; several "
            "processes must share the file system"
        )
    for index in range(-(-count // PART)):
        path = _part_path(folder, index)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                yield Part(*(arrays[name] for name in Part._fields))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} holds no posteriors ({error}): remove it and evaluate again") from None


def fused_parts(nets: Fused) -> Iterator[Part]:
    """Parts of the mean over nets of the mean over methods of the mean over scales, with equal weights (sec. 4.4).

    Folders whose records or labels differ raise InputError: they belong to different sets.
    """
    folders = [folder for methods in nets for scales in methods for folder in scales]
    for parts in zip(*(read_parts(folder) for folder in folders), strict=True):
        first = parts[0]
        for folder, part in zip(folders, parts):
            if not (np.array_equal(part.records, first.records) and np.array_equal(part.labels, first.labels)):
                raise InputError(
                    f"{folder} and {folders[0]} hold posteriors of different images: evaluate both on one set"
                )
        of_folder = dict(zip(folders, (part.posteriors for part in parts)))
        posteriors = average_posteriors(
            [
                average_posteriors([average_posteriors([of_folder[f] for f in scales]) for scales in methods])
                for methods in nets
            ]
        )
        yield first._replace(posteriors=posteriors)


def mark_kept(folder: Path) -> None:
    """Keep a folder when `remove_unkept` comes."""
    (folder / "kept").touch()


def remove_unkept(folders: Sequence[Path]) -> None:
    """Remove folders of posteriors that nobody asked to keep."""
    for folder in folders:
        if not (folder / "kept").exists():
            shutil.rmtree(folder, ignore_errors=True)


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders without any posteriors, and the folders above, SPLIT and posteriors, if they are empty then."""
    for folder in folders:
        if not any(folder.glob("*.npz")):
            shutil.rmtree(folder, ignore_errors=True)
    for root in {folder.parent for folder in folders}:
        with contextlib.suppress(OSError):  # not empty
            root.rmdir()
            root.parent.rmdir()


def _part_path(folder: Path, index: int) -> Path:
    return folder / f"{index:05d}.npz"


def _read_identity(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "set.json").read_text())
    except (OSError, json.JSONDecodeError):
        raise InputError(
            f"{folder} holds no posteriors of evaluate.py --save_posteriors: no readable set.json"
        ) from None
