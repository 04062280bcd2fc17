"""Checkpoints by step, through orbax: arrays beside JSON and checksums; the latest and the best are kept.

DIR/STEP/ is a checkpoint, its `checksums.json` written right after orbax's commit. One without is of an older version,
or of a process that was killed in that moment: it is used, with a warning, if it can be read. Orbax commits by renaming
a folder that is complete, so it is whole but for a failing disk; to reject it could throw away hours.
"""

import functools
import json
import logging
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from vgg_jax.checksums import find_damage, has_checksums, write_checksums
from vgg_jax.errors import InputError

logger = logging.getLogger(__name__)

METRIC = "top1_error"  # of the validation split, percent; the lowest is the best, the earlier on ties
CHECKPOINTS = ("best", "latest")
DAMAGED = "damaged"  # folder beside the steps, of those that are no longer what was saved


class SaveFailed(InputError):
    """A full or a read-only disk, say, when a checkpoint was to be saved."""


def open_checkpoints(directory: str | Path) -> ocp.CheckpointManager:
    """The manager that saves to a directory of checkpoints, made if absent. Close it when done (a context manager).

    Of several processes, all must open it and save. Reading needs no manager.
    """

    def goodness(metrics: Mapping[str, float]) -> tuple[float, float]:
        return (-metrics[METRIC], -metrics["step"])

    best = policies.BestN(get_metric_fn=goodness, reverse=False, n=1, keep_checkpoints_without_metrics=False)
    options = ocp.CheckpointManagerOptions(
        preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(2), best]),
        best_fn=goodness,
        enable_async_checkpointing=False,
    )
    return ocp.CheckpointManager(Path(directory).absolute(), options=options)


def save(
    manager: ocp.CheckpointManager, step: int, items: Mapping[str, Any], info: Mapping[str, Any], error: float | None
) -> None:
    """Save named pytrees of arrays (``items``) and a JSON record (``info``) at a step; returns when they are on disk.

    error: validation top-1 error of this step, None if it was not measured. Where that fails, raises SaveFailed; the
    earlier checkpoints are as they were, and a later step may be saved. Raises InputError for a step that is not later.
    """
    metrics = None if error is None or not math.isfinite(error) else {METRIC: error, "step": step}
    arguments = {name: ocp.args.StandardSave(tree) for name, tree in items.items()}
    directory = Path(manager.directory)
    try:
        composite = ocp.args.Composite(info=ocp.args.JsonSave(dict(info)), **arguments)
        saved = manager.save(step, args=composite, metrics=metrics)
        manager.wait_until_finished()
        if saved and jax.process_index() == 0:
            write_checksums(directory / str(step))
    except Exception as reason:  # tensorstore reports a full disk as a ValueError, the file system as an OSError
        for half_written in directory.glob(f"{step}.orbax-checkpoint-tmp*"):
            shutil.rmtree(half_written, ignore_errors=True)
        raise SaveFailed(
            f"the checkpoint of step {step} could not be saved in {directory}: {_first_line(reason)}; "
            "the earlier checkpoints are intact: free some disk space; a run that stopped goes on by the same command"
        ) from reason
    if not saved:
        raise InputError(f"{directory} already holds step {step} or a later one: use a fresh workdir")


def find_step(directory: str | Path, which: str) -> int | None:
    """The step of the "best" or "latest" checkpoint, None if there is none; whether it is intact is not looked at."""
    return _choose(Path(directory), _steps(Path(directory)), which)


def find_intact_step(directory: str | Path, which: str) -> int | None:
    """The step of the "best" or "latest" of the checkpoints that are what was saved; None if there are none at all.

    Each that is passed over is named in a warning. Raises InputError where all are damaged. Nothing is changed.
    """
    directory = Path(directory)
    steps = _steps(directory)
    damage = {step: _damage(directory, step, "metrics/") for step in steps if which == "best"}  # what chooses
    damage = {step: found for step, found in damage.items() if found}
    while (step := _choose(directory, [s for s in steps if s not in damage], which)) is not None:
        if not (found := _damage(directory, step)):
            break
        damage[step] = found
    if damage:
        if step is None:
            raise _none_is_intact(directory, damage)
        for damaged in damage:
            logger.warning("%s", _told(directory, damaged, damage[damaged]))
        logger.warning("%s: step %d is used, the %s of those that are intact", directory, step, which)
    return step


def set_damaged_aside(directory: str | Path) -> None:
    """Check all checkpoints of a directory, and move the damaged ones to DIR/damaged/, each named in a warning.

    To be called before a run goes on there, of several processes by one: a step can be saved again only where there is
    none. Raises InputError, and moves nothing, where all are damaged.
    """
    directory = Path(directory)
    steps = _steps(directory)
    damage = {step: found for step in steps if (found := _damage(directory, step))}
    if damage and len(damage) == len(steps):
        raise _none_is_intact(directory, damage)
    for step, found in damage.items():
        aside = directory / DAMAGED
        aside.mkdir(exist_ok=True)
        names = [str(step), *(f"{step}.{n}" for n in range(1, len(os.listdir(aside)) + 1))]
        target = next(aside / name for name in names if not (aside / name).exists())
        (directory / str(step)).rename(target)
        logger.warning("%s; moved to %s", _told(directory, step, found), target)


def restore(directory: str | Path, step: int, targets: Mapping[str, Any], *, alone: bool = False) -> dict[str, Any]:
    """Restore named pytrees of a step into the shapes, dtypes and shardings of ``targets``, arrays or their structs.

    alone: of several processes this one only reads, and waits for no other. Whether the files are intact is not looked
    at here, see `find_intact_step` and `set_damaged_aside`.
    """
    arguments = {name: ocp.args.StandardRestore(_structs(tree)) for name, tree in targets.items()}
    try:
        restored = _restore(Path(directory) / str(step), arguments, alone)
        jax.tree.map(_check_shape, {name: restored[name] for name in targets}, dict(targets))
    except Exception as reason:
        raise InputError(
            f"the checkpoint of step {step} in {directory} cannot be restored: {_first_line(reason)}"
        ) from reason
    return {name: restored[name] for name in targets}


def read_info(directory: str | Path, step: int, *, alone: bool = False) -> dict[str, Any]:
    """The JSON record of a step."""
    try:
        return dict(_restore(Path(directory) / str(step), {"info": ocp.args.JsonRestore()}, alone)["info"])
    except Exception as reason:
        raise InputError(f"the record of step {step} in {directory} cannot be read: {_first_line(reason)}") from reason


def validation_error(directory: str | Path, step: int) -> float | None:
    """The validation top-1 error that a step was saved with, in percent; None if it was not measured."""
    try:
        error = json.loads((Path(directory) / str(step) / "metrics" / "metrics").read_bytes())[METRIC]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None
    return float(error) if isinstance(error, int | float) and not isinstance(error, bool) else None


def _steps(directory: Path) -> list[int]:
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal() and path.is_dir())


def _choose(directory: Path, steps: Sequence[int], which: str) -> int | None:
    if which not in CHECKPOINTS:
        raise InputError(f"unknown checkpoint {which!r}: choose one of {', '.join(CHECKPOINTS)}")
    errors = {step: error for step in steps if (error := validation_error(directory, step)) is not None}
    if which == "latest" or not errors:
        return max(steps, default=None)
    return min(errors, key=lambda step: (errors[step], step))


def _damage(directory: Path, step: int, under: str = "") -> list[str]:
    """What is wrong with a step, in words; ``under``: look at the files whose path begins so alone."""
    folder = directory / str(step)
    try:
        if has_checksums(folder):
            return find_damage(folder, under)
        if not under:
            _warn_of_no_checksums(folder)
            _try_to_read(folder)
    except Exception as reason:
        return [f"it cannot be read ({_first_line(reason)})"]
    return []


@functools.cache
def _warn_of_no_checksums(folder: Path) -> None:
    logger.warning("%s has no checksums: bytes that changed in it cannot be noticed", folder)


def _try_to_read(folder: Path) -> None:
    """Read all arrays of a step, into host memory, and its record."""
    arguments: dict[str, Any] = {"info": ocp.args.JsonRestore()}
    for item in (path.parent for path in folder.glob("*/_METADATA")):
        tree = ocp.PyTreeCheckpointHandler().metadata(item).tree
        to_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        arguments[item.name] = ocp.args.PyTreeRestore(restore_args=to_numpy)
    _restore(folder, arguments, alone=True)


def _restore(folder: Path, arguments: Mapping[str, Any], alone: bool) -> Any:
    options = ocp.options.MultiprocessingOptions()
    if alone:
        here = jax.process_index()
        options = ocp.options.MultiprocessingOptions(
            here, active_processes={here}, barrier_sync_key_prefix=f"process{here}"
        )
    handler = ocp.CompositeCheckpointHandler(composite_options=ocp.CompositeOptions(multiprocessing_options=options))
    with ocp.Checkpointer(handler, multiprocessing_options=options) as reader:
        return reader.restore(folder.absolute(), args=ocp.args.Composite(**arguments))


def _told(directory: Path, step: int, damage: Sequence[str]) -> str:
    shown = "; ".join(damage[:3]) + (f"; and {len(damage) - 3} more" if len(damage) > 3 else "")
    return f"the checkpoint of step {step} in {directory} is damaged: {shown}"


def _none_is_intact(directory: Path, damage: Mapping[int, Sequence[str]]) -> InputError:
    told = "; ".join(f"step {step}: {found[0]}" for step, found in damage.items())
    return InputError(
        f"none of the checkpoints in {directory} is intact ({told}): put a copy of one back, or move the folder away "
        "and train the stage afresh"
    )


def _structs(tree: Any) -> Any:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=getattr(a, "sharding", None)), tree)


def _check_shape(restored: Any, target: Any) -> None:
    if restored.shape != target.shape:  # orbax checks it for jax arrays alone
        raise ValueError(f"it holds an array of shape {restored.shape} where {target.shape} is needed")


def _first_line(reason: Exception) -> str:
    return (str(reason).strip() or type(reason).__name__).splitlines()[0]
