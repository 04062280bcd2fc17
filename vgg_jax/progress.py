"""The progress bar of long work: rate, time left; in a log file a line now and then instead of ten a second."""

import sys
from typing import Any

from tqdm import tqdm

LOG_FILE_INTERVAL = 30.0  # seconds between updates where standard error is no terminal


def progress_bar(*args: Any, **options: Any) -> tqdm:
    """``tqdm`` with the same arguments, updated often on a terminal and seldom in a log file."""
    interval = 0.1 if sys.stderr.isatty() else LOG_FILE_INTERVAL
    return tqdm(*args, mininterval=interval, **options)
