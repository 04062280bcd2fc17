"""Writing an exported net: at once, and within what the formats can hold."""

import os
from pathlib import Path

import jax

from vgg_jax.errors import InputError
from vgg_jax.eval.dense import Params

MAX_BYTES = 2**31 - 2**20  # protocol buffers and flatbuffers end at 2 GiB; what is not params has some kilobytes


def check_size(path: str | Path, params: Params) -> None:
    """Raise InputError for params that one file cannot hold; every net of the paper fits, E takes 575 MB."""
    size = sum(4 * leaf.size for leaf in jax.tree.leaves(params))
    if size > MAX_BYTES:
        raise InputError(f"{path} would hold {size} bytes of params, but a file of its format ends at 2 GiB")


def write_bytes(path: str | Path, data: bytes | bytearray) -> None:
    """Write a file so that a reader sees the old or the new one, never a part; InputError where that fails."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as reason:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written: {reason.strerror}") from reason
