"""Files that are written whole or not at all: a reader sees the old one or the new one, never a part."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from vgg_jax.errors import InputError


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """An empty file beside ``path`` to write to, which takes its place in the end; after any exception it is gone.

    Where it cannot be written, InputError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        yield temporary
        os.replace(temporary, path)
    except (OSError, SafetensorError) as reason:
        raise InputError(f"{path} cannot be written: {reason}") from reason
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
