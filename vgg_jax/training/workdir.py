"""A workdir: its lock, the config that it was made with, and what is frozen into it at the start."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from vgg_jax.errors import InputError
from vgg_jax.report import write_atomically

# Fields that may change between runs of one workdir: they do not touch the numbers.
FREE_FIELDS = (
    *("data.path", "data.workers", "data.threads", "eval.batch_size"),
    *("train.micro_batches", "train.remat", "train.log_every", "train.checkpoint_every", "train.on_save_error"),
)

# Fields that older workdirs lack, with what their runs did.
_LATER_FIELDS = {"data.decoder": "exact"}

# Files that are made at the start and hold for the whole life of a workdir.
FROZEN = ("colour_statistics.json", "classes.txt", "data.json")


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Hold a workdir, made if absent, for one writer; the lock ends with the process, however it ends."""
    lock = filelock.FileLock(workdir / ".lock", timeout=0)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout:
        raise InputError(f"another run is writing {workdir}: wait for it to end, or give another --workdir") from None
    except OSError as error:
        raise InputError(f"{workdir} cannot be written ({error.strerror}): give another --workdir") from None
    try:
        yield
    finally:
        lock.release()


def check_identity(workdir: Path, config: dict[str, Any]) -> None:
    """Save the config on first use; later stop with a list of the fields that differ from the saved one.

    Free to differ: workers, data path, logging, micro-batches, rematerialisation. The chain may grow at its end, a
    stage's steps may grow, a stage that the saved chain does not run may be changed, train.skip_nonfinite may grow, and
    data.on_error may turn to skip or skip:FILE: until then nothing else was skipped. Before the first checkpoint
    everything is free.
    """
    if differing := differing_fields(workdir, config):
        raise InputError(
            f"{workdir} was made with another config: {'; '.join(differing)}: "
            "give another --workdir, or the saved values"
        )
    path = workdir / "config.json"
    if path.exists() and not _has_checkpoints(workdir) and json.loads(path.read_text()) != _as_json(config):
        for name in FROZEN:
            (workdir / name).unlink(missing_ok=True)
    write_atomically(path, json.dumps(config, indent=1) + "\n")


def differing_fields(workdir: Path, config: dict[str, Any]) -> list[str]:
    """The fields of a config that keep it from going on in a workdir, each with both values; nothing is written."""
    path = workdir / "config.json"
    if not path.exists() or not _has_checkpoints(workdir):
        return []
    saved, fresh = _LATER_FIELDS | _flat(json.loads(path.read_text())), _flat(_as_json(config))
    return [
        f"{field}: saved {_shown(saved, field)}, now {_shown(fresh, field)}"
        for field in sorted(saved.keys() | fresh.keys())
        if not _may_differ(field, saved, fresh)
    ]


def finished_steps(directory: Path) -> int:
    """How many steps a stage had when it was finished; 0 where it is not."""
    path = directory / "finished.json"
    return int(json.loads(path.read_text())["steps"]) if path.exists() else 0


def check_counts(workdir: Path, counts: dict[str, int]) -> None:
    """Save the number of images of each split on first use; later stop where it differs: splits may have moved."""
    path = workdir / "data.json"
    if path.exists() and (saved := json.loads(path.read_text())) != counts:
        raise InputError(
            f"the data set changed since {workdir} was made: images {saved} then, {counts} now; training images "
            "may have become test images: put the files back, or give another --workdir"
        )
    write_atomically(path, json.dumps(counts) + "\n")


def _has_checkpoints(workdir: Path) -> bool:
    return any(workdir.glob("*/checkpoints/*/"))


def _as_json(config: dict[str, Any]) -> Any:
    return json.loads(json.dumps(config))  # tuples as lists, as they will be read back


def _may_differ(field: str, saved: dict[str, Any], fresh: dict[str, Any]) -> bool:
    old, new = saved.get(field), fresh.get(field)
    if old == new or field in FREE_FIELDS:
        return True
    if field == "chain" and old is not None and new is not None:
        return bool(new[: len(old)] == old)
    if field == "data.on_error":
        return bool(old == "raise" or new != "raise")
    if field == "train.skip_nonfinite":
        return (new or 0) >= (old or 0)
    section, _, rest = field.partition(".")
    if section == "stages":
        stage, _, name = rest.partition(".")
        return stage not in saved["chain"] or (name == "steps" and new is not None and new >= old)
    return False


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return flat


def _shown(config: dict[str, Any], field: str) -> str:
    return repr(config[field]) if field in config else "absent"
