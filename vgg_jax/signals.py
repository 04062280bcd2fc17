"""SIGTERM and SIGINT: a run stops at the next good moment, saves, and ends with a status of its own."""

import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from typing import Any

import jax
from jax.experimental import multihost_utils

logger = logging.getLogger(__name__)

PREEMPTED = 75
"""Exit status of a run that was told to stop: the same command goes on where it stopped (EX_TEMPFAIL)."""


class Stopped(Exception):
    """The run was told to stop, and everything worth keeping is saved."""


class _Signals:
    """What has arrived; signals belong to the process, so there is one of these."""

    requested = False
    deferred = 0
    calls = 0  # of `agreed`


def stop_on_signals() -> None:
    """From now on SIGTERM and SIGINT raise `Stopped`, within `deferred` at its end; a second SIGINT ends at once."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _on_signal)


def _on_signal(number: int, frame: Any) -> None:
    if _Signals.requested and number == signal.SIGINT:
        os._exit(128 + number)
    _Signals.requested = True
    logger.warning("%s: stopping; what is done is kept", signal.Signals(number).name)
    if not _Signals.deferred:
        raise Stopped


def requested() -> bool:
    """Whether this process was told to stop."""
    return _Signals.requested


def agreed() -> bool:
    """Whether the run was told to stop; all processes, which must call this equally often, hear it at the same call.

    One process answers for itself. Several agree through jax's preemption service, which then has SIGTERM in its hands.
    """
    if jax.process_count() > 1 and not _Signals.requested:
        _Signals.calls += 1
        _Signals.requested = multihost_utils.reached_preemption_sync_point(_Signals.calls)
    return _Signals.requested


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Within, signals are only noted, see `requested`; whoever works here looks and raises `Stopped` in time."""
    _Signals.deferred += 1
    try:
        yield
    finally:
        _Signals.deferred -= 1
    if _Signals.requested and not _Signals.deferred:
        raise Stopped
