"""bad_images.txt: the files of a data set that cannot be read, each once, one a line, its name first."""

import functools
import logging
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import filelock

from vgg_jax.errors import InputError
from vgg_jax.report import write_atomically

logger = logging.getLogger(__name__)

BAD_IMAGES_FILE = "bad_images.txt"
ON_ERROR = "raise, skip, skip:FILE"  # for unreadable records; skip:FILE passes over those that a list names
_SHOWN = 10  # names in a message


def read_bad_images(path: str | os.PathLike) -> dict[str, str]:
    """{name: what is wrong with it, "" where the list does not say}; raises InputError where the list is unreadable."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except OSError as error:
        raise InputError(
            f"the list of bad images {path} cannot be read ({error.strerror}); make it with check_data.py"
        ) from error
    fields = (line.partition("\t") for line in lines if line)
    return {name: reason for name, _, reason in fields}


def write_bad_images(path: str | os.PathLike, bad: Mapping[str, str]) -> None:
    """Write a list, whole or not at all, sorted by name: NAME, or NAME, a tab and the reason."""
    lines = (f"{in_one_line(name)}\t{in_one_line(reason)}".rstrip("\t") for name, reason in sorted(bad.items()))
    write_atomically(Path(path), "".join(f"{line}\n" for line in lines))


def note_bad_images(path: Path, names: Iterable[str], what_happened: str) -> None:
    """Add names to a list, which several processes may do, and warn of those that are new: `what_happened` to them."""
    names = set(map(in_one_line, names))
    if not names:
        return
    with filelock.FileLock(path.with_name(f".{path.name}.lock")):
        known = read_bad_images(path) if path.exists() else {}
        if fresh := names - known.keys():
            write_bad_images(path, known | dict.fromkeys(fresh, ""))
    if fresh:
        logger.warning("%s: %s (%d so far, see %s)", what_happened, shortened(fresh), len(known) + len(fresh), path)


def check_on_error(on_error: str) -> None:
    """Raise InputError for an unknown choice, or a list that cannot be read."""
    kind, _, listing = on_error.partition(":")
    if on_error not in ("raise", "skip") and not (kind == "skip" and listing):
        raise InputError(f"on_error is {on_error!r}; choose one of {ON_ERROR}")
    if listing:
        _listed(listing)


def is_passed_over(on_error: str, name: str) -> bool:
    """Whether a record that cannot be read is to be passed over."""
    kind, _, listing = on_error.partition(":")
    return kind == "skip" and (not listing or in_one_line(name) in _listed(listing))


@functools.cache  # each process reads a list once
def _listed(path: str) -> dict[str, str]:
    return read_bad_images(path)


def in_one_line(name: str) -> str:
    """A name as it stands in a list: a file name may hold a line break or a tab."""
    return name.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


def shortened(names: Collection[str]) -> str:
    """The first few names, in order, and how many more there are; what is no valid text is escaped."""
    shown = ", ".join(sorted(names)[:_SHOWN]).encode(errors="backslashreplace").decode()
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
