"""One writer at a time in a folder, whichever process comes first."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import filelock

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def one_writer(lock: Path, work: str) -> Iterator[None]:
    """Hold the lock file, whose folder is made; where another process holds it, say so and wait.

    work: what the holder does, in the words of the log: "evaluation in DIR".
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = filelock.FileLock(lock)
    try:
        held.acquire(timeout=0)
    except filelock.Timeout:
        logger.info("waiting for another %s", work)
        held.acquire()
    try:
        yield
    finally:
        held.release()
