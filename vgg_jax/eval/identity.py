"""What tells one data set from another, so that nobody takes the posteriors of one for those of another."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from vgg_jax.data.sources import Source
from vgg_jax.errors import InputError

_SAMPLED_RECORDS = 64


def set_identity(source: Source, name: str, split: str) -> dict[str, Any]:
    """The names of a set, its size, digests of its classes and of some of its records byte by byte.

    Of a folder all file names and labels count; other sources would have to read every record for them.
    """
    sample = sorted(set(np.linspace(0, len(source) - 1, _SAMPLED_RECORDS).astype(int).tolist()))
    files, labels = getattr(source, "files", ()), np.asarray(getattr(source, "labels", ())).tolist()
    return {
        "dataset": name,
        "split": split,
        "num_records": len(source),
        "classes": _digest(source.class_names),
        "listing": _digest([*map(str, files), *map(str, labels)]),
        "records": _digest([_fingerprint(source, index) for index in sample]),
    }


def _fingerprint(source: Source, index: int) -> str:
    try:
        record = source[index]
    except InputError:
        return f"unreadable record {index}"
    return f"{record.name} {record.label} {hashlib.sha256(record.image).hexdigest()}"


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(names).encode(errors="surrogateescape")).hexdigest()[:16]
