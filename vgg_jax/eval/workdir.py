"""Evaluation of workdirs that train.py made, or of weights alone: rows for a results.json (sec. 4.1 to 4.4)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from vgg_jax.data.sources import Source, open_source
from vgg_jax.errors import InputError
from vgg_jax.eval.evaluation import DataSet, Evaluated, Request, evaluate
from vgg_jax.eval.nets import read_net
from vgg_jax.eval.posteriors import scale_numbers, single_scale, three_scales
from vgg_jax.eval.predictions import write_predictions
from vgg_jax.eval.protocol import Member
from vgg_jax.report import Row, add_rows

PROTOCOLS = {
    "dense": ("dense",),
    "multi_crop": ("multi_crop",),
    "both": ("dense", "multi_crop", "multi_crop+dense"),
    "centre_crop": ("centre_crop",),
}

Config = dict[str, Any]


def evaluate_stages(
    stages: Sequence[Path],
    *,
    protocol: str = "dense",
    data: DataSet | None = None,
    split: str | None = None,
    scales: Sequence[str | int] | None = None,
    checkpoint: str = "best",
    flip: bool = True,
    pool_rounding: str | None = None,
    data_path: str | None = None,
    save_posteriors: bool = False,
    output: Path | None = None,
    fuse: bool = False,
) -> list[Row]:
    """Rows of stages or files of weights, added to results.json in ``output`` or the first workdir.

    Without scales: each net's single-scale and three-scale rows. protocol: "dense", "multi_crop", "both" (and their
    mean), "centre_crop" (single scale). fuse: the mean of all nets as well, at several scales. data: None opens the
    data set of the first workdir's config. An unlabelled split also gives files of predictions. Raises InputError for
    a scale that is no number, and as `evaluate`.
    """
    data = data or workdir_data(stages[0].parent, split, data_path)
    given = scale_numbers(scales)
    rules = {stage: (given,) if given else _rules(stage, checkpoint) for stage in stages}
    wanted = slice(0, 1) if protocol == "centre_crop" and not given else slice(None)
    requests = [
        Request((Member(stage, test_scales, checkpoint),), method)
        for stage in stages
        for method in PROTOCOLS[protocol]
        for test_scales in rules[stage][wanted]
    ]
    if fuse:
        members = tuple(Member(stage, rules[stage][wanted][-1], checkpoint) for stage in stages)
        requests += [Request(members, method) for method in PROTOCOLS[protocol]]
    results_folder = output or stages[0].parent
    results_folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for evaluated in evaluate(
        requests, data, flip=flip, pool_rounding=pool_rounding, save_posteriors=save_posteriors, output=output
    ):
        rows.append(evaluated.row)
        _record(evaluated, results_folder, data)
    return rows


def evaluate_members(
    members: Sequence[Member],
    method: str,
    *,
    split: str | None = None,
    data_path: str | None = None,
    flip: bool = True,
    pool_rounding: str | None = None,
    save_posteriors: bool = False,
    threads: int = 8,
) -> Evaluated:
    """One row: a net, or the fusion of several, on the data set of the first member's workdir.

    With save_posteriors a second call computes nothing. The row goes to results.json of the first member's workdir.
    Raises InputError as `evaluate`.
    """
    workdir = members[0].stage.parent
    data = workdir_data(workdir, split, data_path)._replace(threads=threads)
    options: dict[str, Any] = {"flip": flip, "pool_rounding": pool_rounding, "save_posteriors": save_posteriors}
    (evaluated,) = evaluate([Request(tuple(members), method)], data, **options)
    if jax.process_index() == 0:
        add_rows(workdir / "results.json", [evaluated.row])
    return evaluated


def find_stages(path: Path, stage: str | None = None) -> list[Path]:
    """The stages of a workdir that have a checkpoint, or the one that is named, as WORKDIR/STAGE or by ``stage``.

    Raises InputError where there is none.
    """
    if (path / "checkpoints").is_dir() and not (path / "config.json").exists():
        path, stage = path.parent, path.name
    config = read_config(path)
    present = [name for name in config["stages"] if any((path / name / "checkpoints").glob("[0-9]*"))]
    if stage is None and present:
        return [path / name for name in present]
    if stage is None or stage not in present:
        wanted = f"no stage {stage!r}" if stage else "no stage"
        raise InputError(f"{path} has {wanted} with a checkpoint; it has: {', '.join(present) or 'none'}")
    return [path / stage]


def workdir_data(workdir: Path, split: str | None = None, data_path: str | None = None) -> DataSet:
    """The data set that a workdir was trained on; split: the config's eval.split if None."""
    config = read_config(workdir)
    split = split or config["eval"]["split"]
    data = config["data"]
    return DataSet(
        open_split(config, split, data_path),
        _name_at(config, data_path),
        split,
        data["on_error"],
        data["threads"],
        config["eval"]["batch_size"],
    )


def source_data(source: str, path: str | None, split: str | None, on_error: str = "raise") -> DataSet:
    """A data set by its source and path, for weights without a workdir.

    split: None means val, or of a folder without val/ all pictures; nothing is drawn from a folder's classes.
    """
    name = Path(path or source).name
    fractions: dict[str, Any] = {"val_fraction": 0.0, "test_fraction": 0.0}
    if split is None and source == "folder" and path and not (Path(path).expanduser() / "val").is_dir():
        return DataSet(open_source(source, path, "train", **fractions), name, "all", on_error)
    split = split or "val"
    return DataSet(open_source(source, path or "", split, **fractions), name, split, on_error)


def read_config(workdir: Path) -> Config:
    """The config of a workdir; raises InputError for a folder that is none."""
    path = workdir / "config.json"
    if not path.exists():
        raise InputError(f"{workdir} is no workdir of train.py: it has no config.json")
    return json.loads(path.read_text())


def open_split(config: Config, split: str, data_path: str | None = None) -> Source:
    """A split of a config's data set."""
    data = config["data"]
    options = {name: data[name] for name in ("split_seed", "val_fraction", "test_fraction", "images_per_class")}
    return open_source(data["source"], data_path or data["path"], split, **options)


def _name_at(config: Config, data_path: str | None) -> str:
    """The configured name where the data set has only moved; a folder of another name is another data set."""
    moved = data_path is None or Path(data_path).name == Path(config["data"]["path"]).name
    return dataset_name(config) if moved else Path(str(data_path)).name


def dataset_name(config: Config) -> str:
    """The data set's name in results: ``data.name``, else the last part of its path, else its source."""
    data = config["data"]
    return data["name"] or Path(data["path"] or data["source"]).name


def _rules(stage: Path, checkpoint: str) -> tuple[tuple[int, ...], ...]:
    """The single scale and the three scales of a net, by its training scale."""
    net = read_net(Member(stage, (), checkpoint))
    train_scale = net.info.get("train_scale")
    if train_scale is None:
        raise InputError(f"{stage} does not say at which scale it was trained: give --scales=Q or --scales=Q,Q,Q")
    return (single_scale(train_scale),), three_scales(train_scale, net.model.crop_size)


def _record(evaluated: Evaluated, folder: Path, data: DataSet) -> None:
    """Add a row to results.json, and for a split without labels write the predictions."""
    if jax.process_index() != 0:
        return
    add_rows(folder / "results.json", [evaluated.row])
    if evaluated.row["top1_error"] is None:
        write_predictions(evaluated, folder, data)
