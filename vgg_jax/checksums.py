"""Checksums of a folder: its files are what was written, or those that differ are named."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from vgg_jax.report import write_atomically

NAME = "checksums.json"
"""In the folder itself: {"files": {relative path: {"bytes": size, "sha256": hex}}, "sha256": of "files"}."""

_THREADS = 4  # hashing leaves the interpreter's lock


class Checksum(NamedTuple):
    """Size and SHA-256 of a file."""

    bytes: int
    sha256: str


def write_checksums(folder: Path) -> None:
    """Record every file below ``folder``, hidden ones apart; raises OSError where that fails."""
    files = _files(folder)
    with ThreadPoolExecutor(_THREADS) as pool:
        checksums = dict(zip(files, pool.map(_checksum, files.values())))
    record = {name: checksum._asdict() for name, checksum in checksums.items()}
    write_atomically(folder / NAME, json.dumps({"files": record, "sha256": _digest(record)}, indent=1) + "\n")


def has_checksums(folder: Path) -> bool:
    """Whether the files of ``folder`` were ever recorded."""
    return (folder / NAME).exists()


def find_damage(folder: Path, under: str = "") -> list[str]:
    """What differs from the record, in words, one entry a file; empty if all is as it was written.

    under: look only at the files whose path begins so.
    The files that are there are looked up in the record: no path of the record is ever opened. Hidden files, as file
    browsers leave them, are no damage. Raises OSError where there is no such folder.
    """
    try:
        record = _read(folder / NAME)
    except (OSError, ValueError, RecursionError):  # ValueError: no JSON, no UTF-8, a number of too many digits, ...
        return [f"{NAME} cannot be read"]
    record = {name: checksum for name, checksum in record.items() if name.startswith(under)}
    files = {name: path for name, path in _files(folder).items() if name.startswith(under)}
    missing = [f"{_shown(name)} is missing" for name in sorted(record.keys() - files.keys())]
    with ThreadPoolExecutor(_THREADS) as pool:
        differing = pool.map(lambda name: _difference(files[name], record.get(name)), files)
    return missing + [f"{_shown(name)} {difference}" for name, difference in zip(files, differing) if difference]


def _difference(path: Path, recorded: Checksum | None) -> str:
    if recorded is None:
        return "was not there"
    try:
        if (size := path.stat().st_size) != recorded.bytes:
            return f"has {size} bytes, not {recorded.bytes}"
        return "" if _checksum(path) == recorded else "has other bytes than were written"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _read(path: Path) -> dict[str, Checksum]:
    content = json.loads(path.read_bytes())
    if not isinstance(content, dict) or content.keys() != {"files", "sha256"}:
        raise ValueError("other fields")
    record = content["files"]
    if content["sha256"] != _digest(record):
        raise ValueError("another digest")
    try:
        checksums = {name: Checksum(**entry) for name, entry in record.items()}
    except (AttributeError, TypeError) as error:
        raise ValueError("other types") from error
    if not all(type(bytes_) is int and type(sha256) is str for bytes_, sha256 in checksums.values()):
        raise ValueError("other types")
    return checksums


def _digest(record: object) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _checksum(path: Path) -> Checksum:
    if not path.is_file():  # a pipe would be waited for
        raise OSError(None, "no ordinary file", str(path))
    with path.open("rb") as file:
        return Checksum(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _files(folder: Path) -> dict[str, Path]:
    """Every file by its path relative to ``folder``, "/" between the parts, in order."""
    found = {}
    for directory, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(directory, name) for name in names if not name.startswith(".")):
            found[path.relative_to(folder).as_posix()] = path
    found.pop(NAME, None)
    return dict(sorted(found.items()))


def _raise(error: OSError) -> None:
    raise error


def _shown(name: str) -> str:
    return name if name.isprintable() else ascii(name)
