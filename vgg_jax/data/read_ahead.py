"""Threads and processes that make the elements of a grain data set ahead of their use."""

import functools
import os
import signal
from collections.abc import Generator
from typing import Any

import grain
from absl import flags

from vgg_jax.errors import InputError
from vgg_jax.processes import end_with_parent


def read_ahead(dataset: grain.MapDataset, threads: int, workers: int = 0) -> Generator[Any]:
    """Iterate in order, with threads and worker processes reading ahead; they end with the iterator.

    Raises InputError where a worker process died.
    """
    threads = max(1, threads // max(1, workers))
    ahead = dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads))
    if workers:
        if not flags.FLAGS.is_parsed():  # grain reads its flags even where nobody uses absl.
            flags.FLAGS.mark_as_parsed()
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1)
        ahead = ahead.mp_prefetch(options, worker_init_fn=functools.partial(_init_worker, os.getpid()))
    iterator = iter(ahead)
    try:
        yield from iterator
    except RuntimeError as error:
        if "terminated unexpectedly" not in str(error):
            raise
        raise InputError(
            "a process that decodes images died (out of memory?): start the same command again, perhaps with a smaller "
            "--config.data.workers"
        ) from error
    finally:
        iterator.close()


def _init_worker(parent: int, worker: int, workers: int) -> None:
    """Signals are the parent's to hear, and a killed run must not leave workers behind."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent(parent)
