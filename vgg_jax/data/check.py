"""A whole data set looked through beforehand: which files are read as they are, converted, or bad."""

import collections
import multiprocessing
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

from vgg_jax.data.bad_images import in_one_line
from vgg_jax.data.sources import NO_LABEL, SPLITS, Source, open_source
from vgg_jax.errors import InputError, MissingSplit
from vgg_jax.images.decode import conversions, decode_rgb
from vgg_jax.processes import end_with_parent
from vgg_jax.report import markdown_table

_CHUNK = 32  # records that a process gets at a time
_THIN = 32  # times as long as wide: such images become very large where they are rescaled
_SHOWN = 60  # characters of a name in the table

Advance = Callable[[int], object]


class Finding(NamedTuple):
    """What was found of one record."""

    name: str
    odd: tuple[str, ...]  # read, but converted or noteworthy
    bad: str  # why it cannot be used; empty if it can


class Kind(NamedTuple):
    """The number of records of a kind, and the first of them."""

    number: int
    example: str


class Report(NamedTuple):
    """What was found in a data set; ``bad`` is {name: reason}."""

    num_images: int
    odd: Mapping[str, Kind]
    bad: Mapping[str, str]


def open_splits(source: str, path: str, split: str | None = None, **options: float) -> dict[str, Source]:
    """The split of a data set, or all that it has; options as of `open_source`.

    Without val_fraction and test_fraction a folder's images all belong to train. Raises InputError as `open_source`.
    """
    options = {"val_fraction": 0.0, "test_fraction": 0.0, **options}
    if split is not None:
        return {split: open_source(source, path, split, **options)}  # type: ignore[arg-type]
    found: dict[str, Source] = {}
    for name in SPLITS:
        try:
            opened = open_source(source, path, name, **options)  # type: ignore[arg-type]
        except MissingSplit:
            continue
        if opened.location(0) not in {other.location(0) for other in found.values()}:  # test may stand for val
            found[name] = opened
    if not found:
        raise InputError(f"the data set {path} has none of the splits {', '.join(SPLITS)}")
    return found


def check_source(source: Source, *, processes: int | None = None, advance: Advance = lambda _: None) -> Report:
    """Decode every record of a source, in ``processes`` processes (None: one a core, 0: in this one).

    advance: told how many records were looked at, for a progress bar. Memory does not grow with the records, but for
    those that are bad. Raises InputError where a process dies, as from lack of memory.
    """
    odd: dict[str, Kind] = {}
    bad: dict[str, str] = {}
    for findings in _findings(source, (os.cpu_count() or 1) if processes is None else processes):
        for finding in findings:
            for what in finding.odd:
                kind = odd.get(what, Kind(0, finding.name))
                odd[what] = kind._replace(number=kind.number + 1)
            if finding.bad:
                bad[finding.name] = finding.bad
        advance(len(findings))
    return Report(len(source), odd, bad)


def check_record(source: Source, index: int) -> Finding:
    """Read and decode one record, and look at its label."""
    name = source.location(index)
    try:
        record = source[index]
        name = record.name
        height, width = decode_rgb(record.image, name).shape[:2]
        odd = conversions(record.image, name)
    except InputError as error:
        return Finding(name, (), str(error).removeprefix(f"{name}: "))
    if not (0 <= record.label < len(source.class_names) or record.label == NO_LABEL):
        return Finding(name, (), f"label {record.label} is outside the {len(source.class_names)} classes; correct it")
    odd += ["without a label"] * (record.label == NO_LABEL)
    odd += [f"{_THIN} times as long as wide, or more"] * (max(height, width) >= _THIN * min(height, width))
    return Finding(name, tuple(odd), "")


def report_table(report: Report) -> str:
    """The report as a Markdown table: a row a kind, with a count and an example; bad ones by what is wrong."""
    reasons: dict[str, list[str]] = {}
    for name, reason in report.bad.items():
        reasons.setdefault(f"bad: {_kind_of(reason)}", []).append(name)
    rows = [("images", report.num_images, "")]
    rows += [(f"read: {what}", kind.number, kind.example) for what, kind in _by_count(report.odd)]
    rows += [(what, len(names), names[0]) for what, names in sorted(reasons.items())]
    rows.append(("bad", len(report.bad), ""))
    return markdown_table(("what", "number", "such as"), [(what, str(n), _shown(name)) for what, n, name in rows])


def _by_count(odd: Mapping[str, Kind]) -> list[tuple[str, Kind]]:
    return sorted(odd.items(), key=lambda item: (-item[1].number, item[0]))


def _kind_of(reason: str) -> str:
    """The part of a reason that many files share."""
    return re.sub(r"\d+( x \d+)?", "N", re.split(r"[(,;]| in /", reason)[0]).strip()


def _shown(name: str) -> str:
    text = in_one_line(name).encode(errors="backslashreplace").decode()
    return text if len(text) <= _SHOWN else f"...{text[-_SHOWN:]}"


def _findings(source: Source, processes: int) -> Iterator[list[Finding]]:
    """The findings chunk by chunk, in order; a few chunks are under way at a time."""
    chunks = [range(first, min(first + _CHUNK, len(source))) for first in range(0, len(source), _CHUNK)]
    if not processes:
        yield from ([check_record(source, index) for index in chunk] for chunk in chunks)
        return
    context = multiprocessing.get_context("spawn")  # jax's threads would not survive a fork
    pool = ProcessPoolExecutor(processes, context, initializer=_start, initargs=(source, os.getpid()))
    done = 0
    try:
        pending: collections.deque[Future[list[Finding]]] = collections.deque()
        for chunk in chunks:
            pending.append(pool.submit(_check_chunk, chunk))
            if len(pending) > 4 * processes:
                yield pending.popleft().result()
                done += _CHUNK
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise InputError(
            f"a process died in decoding, some images after {source.location(done)} (out of memory?): "
            "try fewer processes"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


class _Worker:
    """What a process of the pool looks through."""

    source: Source


def _start(source: Source, parent: int) -> None:
    _Worker.source = source
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent has it too


def _check_chunk(chunk: Sequence[int]) -> list[Finding]:
    return [check_record(_Worker.source, index) for index in chunk]
