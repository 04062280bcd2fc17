"""Rows of results: nets, methods and test scales on a data set -> errors, each with its protocol (sec. 4.1 to 4.4)."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vgg_jax.data.bad_images import BAD_IMAGES_FILE, note_bad_images
from vgg_jax.data.pipeline import rescaled_images
from vgg_jax.data.sources import Source, record_name
from vgg_jax.errors import InputError
from vgg_jax.eval.dataset import Record, SetErrors, compute_part, loaded_ahead, own_share, set_errors, view_posteriors
from vgg_jax.eval.identity import set_identity
from vgg_jax.eval.nets import Net, check_class_names, read_net
from vgg_jax.eval.protocol import Member, View, grid_of, views_of
from vgg_jax.eval.stored import (
    PART,
    fused_parts,
    mark_kept,
    missing_parts,
    open_folder,
    remove_empty,
    remove_unkept,
    write_part,
)
from vgg_jax.locks import one_writer
from vgg_jax.processes import barrier, first_alone, is_first
from vgg_jax.progress import progress_bar
from vgg_jax.report import Row
from vgg_jax.weights.load import load_stage

logger = logging.getLogger(__name__)

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total} [{elapsed}<{remaining}, {rate_fmt}]"


class Request(NamedTuple):
    """One row to come: a net, or several whose posteriors are averaged, under one method."""

    members: tuple[Member, ...]
    method: str


class DataSet(NamedTuple):
    """A split to evaluate on, and how it is read."""

    source: Source
    name: str
    split: str
    on_error: str = "raise"
    threads: int = 8
    batch_size: int | None = None  # images at once on each device


class Evaluated(NamedTuple):
    """A row; whether each labelled image was wrong, in record order, for k = 1 and 5; the folders of its posteriors."""

    row: Row
    wrong: dict[int, np.ndarray]
    folders: list[list[list[Path]]]  # nets, methods, scales


class _Plan(NamedTuple):
    """What a member of a request needs."""

    net: Net
    scales: tuple[int, ...]
    views: list[list[View]]
    folders: dict[View, Path]


def evaluate(
    requests: Sequence[Request],
    data: DataSet,
    *,
    flip: bool = True,
    pool_rounding: str | None = None,
    save_posteriors: bool = False,
    output: Path | None = None,
) -> Iterator[Evaluated]:
    """Evaluate nets on a data set, one result a request; what several requests need is computed once.

    Posteriors are stored part by part in posteriors/SPLIT below ``output``, or else each net's workdir; parts that are
    there are not computed again. They are removed at the end unless ``save_posteriors``. All processes of jax share the
    work and must see the same files. pool_rounding: instead of each model's own. Raises InputError where nets and data
    have different classes, and for stored posteriors of another set.
    """
    for request in requests:
        _check_members(request.members)
    plans = [
        [_plan(member, request.method, data.split, flip, pool_rounding, output) for member in request.members]
        for request in requests
    ]
    nets: dict[Any, Net] = {}
    folders: dict[Any, dict[View, Path]] = {}
    for plan in (plan for of_request in plans for plan in of_request):
        nets.setdefault(plan.net.key, plan.net)
        folders.setdefault(plan.net.key, {}).update(plan.folders)
    check_class_names(list(nets.values()), data.source.class_names)
    everything = [folder for of_net in folders.values() for folder in of_net.values()]
    with contextlib.ExitStack() as stack:
        for root in sorted({folder.parent for folder in everything}):
            stack.enter_context(_one_writer(root))
        if is_first():
            stack.callback(remove_empty, everything)
        for key, net in nets.items():
            _store(net, folders[key], data, save_posteriors)
        barrier("posteriors stored")
        for request, members in zip(requests, plans):
            paths = [[[plan.folders[view] for view in part] for part in plan.views] for plan in members]
            errors = set_errors(fused_parts(paths), len(data.source))
            home = output or requests[0].members[0].stage.parent
            if errors.skipped and is_first():
                _tell_skipped(errors.skipped, data.source, home)
            yield Evaluated(_row(members, request.method, data, errors, home), errors.wrong, paths)
        barrier("rows made")
        if is_first():
            remove_unkept(everything)


def _check_members(members: Sequence[Member]) -> None:
    for position, member in enumerate(members):
        if member in members[:position]:
            raise InputError(f"{member.stage} stands twice among the nets to fuse: name each once")


def _plan(member: Member, method: str, split: str, flip: bool, pool_rounding: str | None, output: Path | None) -> _Plan:
    net = read_net(member)
    views = views_of(method, member.scales, flip, pool_rounding or net.model.pool_rounding)
    root = (output or member.stage.parent) / "posteriors" / split
    name = f"{net.name}-{net.digest[:10]}"
    return _Plan(net, member.scales, views, {view: root / f"{name}-{view.name}" for part in views for view in part})


def _store(net: Net, folders: dict[View, Path], data: DataSet, keep: bool) -> None:
    """Compute the posteriors of this process's share of a net's views, as far as they are not there."""
    count = len(data.source)

    def open_folders() -> None:
        identity = set_identity(data.source, data.name, data.split)
        for folder in folders.values():
            open_folder(folder, identity)
            if keep:
                mark_kept(folder)

    first_alone(open_folders)
    missing = {view: set(own_share(missing_parts(folder, count))) for view, folder in folders.items()}
    indices = sorted(set().union(*missing.values()))
    if not indices:
        return
    model, params, _ = load_stage(net.stage, checkpoint=net.checkpoint)
    posteriors_of = view_posteriors(model, params, data.batch_size)
    scales = sorted({view.scale for view, parts in missing.items() if parts})

    def load(index: int) -> list[Record]:
        stop = min((index + 1) * PART, count)
        records = rescaled_images(
            data.source, scales, range(index * PART, stop), on_error=data.on_error, threads=data.threads
        )
        return list(records)

    total = sum(min(PART, count - index * PART) for parts in missing.values() for index in parts)
    methods = "+".join(dict.fromkeys(view.method for view, parts in missing.items() if parts))
    description = f"{model.arch} {net.name} {methods} Q={','.join(map(str, scales))}"
    with progress_bar(total=total, unit="img", desc=description, bar_format=_BAR, disable=not is_first()) as bar:
        for index, records in loaded_ahead(load, indices):
            views = {view: scales.index(view.scale) for view, parts in missing.items() if index in parts}
            for view, part in compute_part(posteriors_of, records, views, model.num_classes, bar.update):
                write_part(folders[view], index, part)


def _tell_skipped(records: Sequence[int], source: Source, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / BAD_IMAGES_FILE
    note_bad_images(path, (record_name(source, record) for record in records), "left out of evaluation")
    logger.warning("%d of %d images could not be read: left out, see %s", len(records), len(source), path)


def _row(members: Sequence[_Plan], method: str, data: DataSet, errors: SetErrors, home: Path) -> Row:
    """The row of one net, or of a fusion, whose fields are None where its members differ.

    home: where it will be written; in its own workdir a net does not name itself.
    """
    described = [_describe(plan) for plan in members]
    one = described[0]
    common = {name: value if all(d[name] == value for d in described) else None for name, value in one.items()}
    view = members[0].views[0][0]
    fusion = len(members) > 1
    return {
        "dataset": data.name,
        "split": data.split,
        **{name: common[name] for name in ("stage", "arch", "seed", "train_scale", "checkpoint")},
        "workdir": None if fusion or Path(one["workdir"]) == home else one["workdir"],
        **({"arch": " & ".join(dict.fromkeys(d["arch"] for d in described))} if fusion else {}),
        "method": method,
        "test_scales": common["test_scales"],
        "grid": grid_of(method),
        "flip": view.flip,
        "pool_rounding": view.pool_rounding,
        "members": described if fusion else None,
        "top1_error": errors.top1_error,
        "top5_error": errors.top5_error,
        "mean_class_recall": errors.mean_class_recall,
        "num_images": errors.num_images,
        "num_skipped": len(errors.skipped),
        "step": common["step"],
        "init": common["init"],
    }


def _describe(plan: _Plan) -> dict[str, Any]:
    info = plan.net.info
    scale = info.get("train_scale")
    return {
        "workdir": str(plan.net.stage.parent if (plan.net.stage / "checkpoints").is_dir() else plan.net.stage),
        "stage": plan.net.name,
        "arch": plan.net.model.arch,
        "seed": info.get("seed"),
        "train_scale": None if scale is None else list(scale),
        "test_scales": list(plan.scales),
        "checkpoint": info["checkpoint"],
        "step": info.get("step"),
        "init": info.get("init"),
    }


@contextlib.contextmanager
def _one_writer(root: Path) -> Iterator[None]:
    """Hold a folder of posteriors, DIR/posteriors/SPLIT; the first process does so for all. Another one is waited for.

    The lock stands outside of the folder, which is removed when it is empty.
    """
    if not is_first():
        yield
        return
    with one_writer(root.parent.parent / f".posteriors-{root.name}.lock", f"evaluation in {root}"):
        yield
