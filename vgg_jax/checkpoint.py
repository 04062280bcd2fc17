"""Checkpoints by step, through orbax: arrays beside JSON; the latest and the best are kept."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from vgg_jax.errors import InputError

METRIC = "top1_error"  # of the validation split, percent; the lowest is the best, the earlier on ties
CHECKPOINTS = ("best", "latest")


def open_checkpoints(directory: str | Path, *, alone: bool = False) -> ocp.CheckpointManager:
    """The manager of a directory of checkpoints, made if absent. Close it when done (it is a context manager).

    alone: of several processes this one only reads what is there, and waits for no other; saving needs all of them.
    """

    def goodness(metrics: Mapping[str, float]) -> tuple[float, float]:
        return (-metrics[METRIC], -metrics["step"])

    best = policies.BestN(get_metric_fn=goodness, reverse=False, n=1, keep_checkpoints_without_metrics=False)
    options = ocp.CheckpointManagerOptions(
        preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(2), best]),
        best_fn=goodness,
        enable_async_checkpointing=False,
        create=not alone,
        multiprocessing_options=_alone() if alone else ocp.options.MultiprocessingOptions(),
    )
    return ocp.CheckpointManager(Path(directory).absolute(), options=options)


def _alone() -> ocp.options.MultiprocessingOptions:
    here = jax.process_index()
    return ocp.options.MultiprocessingOptions(here, active_processes={here}, barrier_sync_key_prefix=f"process{here}")


def save(
    manager: ocp.CheckpointManager, step: int, items: Mapping[str, Any], info: Mapping[str, Any], error: float | None
) -> None:
    """Save named pytrees of arrays (``items``) and a JSON record (``info``) at a step; returns when they are on disk.

    error: validation top-1 error of this step, None if it was not measured. A save that fails leaves the earlier
    checkpoints as they were and raises InputError that says why.
    """
    metrics = None if error is None or not math.isfinite(error) else {METRIC: error, "step": step}
    arguments = {name: ocp.args.StandardSave(tree) for name, tree in items.items()}
    try:
        composite = ocp.args.Composite(info=ocp.args.JsonSave(dict(info)), **arguments)
        saved = manager.save(step, args=composite, metrics=metrics)
        manager.wait_until_finished()
    except Exception as reason:  # tensorstore reports a full disk as a ValueError, the file system as an OSError
        raise InputError(
            f"the checkpoint of step {step} could not be saved in {manager.directory}: {_first_line(reason)}; "
            "the earlier checkpoints are intact: free some disk space and start the same command again"
        ) from reason
    if not saved:
        raise InputError(f"{manager.directory} already holds step {step} or a later one: use a fresh workdir")


def find_step(manager: ocp.CheckpointManager, which: str) -> int | None:
    """The step of the "best" or "latest" checkpoint, None if there is none."""
    if which not in CHECKPOINTS:
        raise InputError(f"unknown checkpoint {which!r}: choose one of {', '.join(CHECKPOINTS)}")
    if which == "latest" or manager.best_step() is None:
        return manager.latest_step()
    return manager.best_step()


def restore(manager: ocp.CheckpointManager, step: int, targets: Mapping[str, Any]) -> dict[str, Any]:
    """Restore named pytrees of a step into the shapes, dtypes and shardings of ``targets``, arrays or their structs."""
    arguments = {name: ocp.args.StandardRestore(_structs(tree)) for name, tree in targets.items()}
    try:
        restored = manager.restore(step, args=ocp.args.Composite(**arguments))
        jax.tree.map(_check_shape, {name: restored[name] for name in targets}, dict(targets))
    except Exception as reason:
        raise InputError(
            f"the checkpoint of step {step} in {manager.directory} cannot be restored: {_first_line(reason)}"
        ) from reason
    return {name: restored[name] for name in targets}


def read_info(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    """The JSON record of a step."""
    try:
        return dict(manager.restore(step, args=ocp.args.Composite(info=ocp.args.JsonRestore()))["info"])
    except Exception as reason:
        raise InputError(
            f"the record of step {step} in {manager.directory} cannot be read: {_first_line(reason)}"
        ) from reason


def _structs(tree: Any) -> Any:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=getattr(a, "sharding", None)), tree)


def _check_shape(restored: Any, target: Any) -> None:
    if restored.shape != target.shape:  # orbax checks it for jax arrays alone
        raise ValueError(f"it holds an array of shape {restored.shape} where {target.shape} is needed")


def _first_line(reason: Exception) -> str:
    return (str(reason).strip() or type(reason).__name__).splitlines()[0]
