"""The content of reproduction.json: setting, tables, claims, and the points of the report's figures."""

import datetime
import json
import math
import statistics
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from vgg_jax.architectures import ARCHITECTURES, layer_names
from vgg_jax.eval.workdir import dataset_name
from vgg_jax.reproduction.claims import judge_all
from vgg_jax.reproduction.manifest import PAPER_SCALES, TABLE_NAMES, Protocol
from vgg_jax.reproduction.networks import exact_claims, table_1, table_2
from vgg_jax.reproduction.runs import Results, Runs, Workdir, all_workdirs, trained
from vgg_jax.reproduction.tables import error_table
from vgg_jax.training.log import read_log

Record = dict[str, Any]

_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
_POINTS = 200  # of a stage's training curve in the file


def reproduction(runs: Runs, results: Results, split: str, tables: Sequence[str] = TABLE_NAMES) -> Record:
    """All that the report shows, except photographs: of workdirs, and of what their rows gave on a split."""
    workdir = all_workdirs(runs)[0]
    return {
        "title": f"The tables of the VGG paper on {dataset_name(workdir.config)}",
        "setting": _setting(runs, results, split),
        "tables": [_table(name, results, workdir) for name in tables],
        "claims": [*exact_claims(), *judge_all(results)],
        "depth": depth_points(results),
        "scales": scale_points(results),
        "curves": curves(runs),
        "photographs": [],
    }


def result_rows(results: Results, root: Path) -> list[Record]:
    """The rows behind the tables, one a protocol and seed, as results.json has them; workdirs relative to the runs."""
    text = json.dumps([result.row for result in results.values()])
    return json.loads(text.replace(f"{root}/", ""))


def _table(name: str, results: Results, workdir: Workdir) -> Record:
    if name == "1":
        return table_1()
    if name == "2":
        classes, model = workdir.path / "classes.txt", workdir.config["model"]
        num_classes = len(classes.read_text().splitlines()) if classes.exists() else 1000
        return table_2(num_classes, model["width_multiplier"], model["crop_size"])
    return error_table(name, results)


def _setting(runs: Runs, results: Results, split: str) -> Record:
    config = all_workdirs(runs)[0].config
    return {
        "dataset": dataset_name(config),
        "split": split,
        "num_images": max((result.row["num_images"] for result in results.values()), default=0),
        "crop_size": config["model"]["crop_size"],
        "smallest_scale": min(config["stages"][stage]["scale"][0] for stage in config["chain"]),
        "width_multiplier": config["model"]["width_multiplier"],
        "seeds": list(runs),
        "date": datetime.date.today().isoformat(),
        "device": jax.devices()[0].device_kind,
        "versions": {name: metadata.version(name) for name in _PACKAGES},
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The commit of the source tree, None where it is no git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def depth_points(results: Results) -> list[Record]:
    """Top-1 error of each net and stage by the rule of Table 3: mean over seeds, the lowest and the highest."""
    points = []
    for protocol, errors in _dense_single(results).items():
        net = protocol.nets[0]
        if net.arch != "B-5x5" and net.stage != "jitter_fc" and net.test_scales == (_middle(net.stage),):
            mean = round(statistics.fmean(errors), 3)
            point = {"arch": net.arch, "layers": len(layer_names(net.arch)), "stage": net.stage, "error": mean}
            points.append(point | {"low": round(min(errors), 3), "high": round(max(errors), 3)})
    return sorted(points, key=lambda p: (list(ARCHITECTURES).index(p["arch"]), list(PAPER_SCALES).index(p["stage"])))


def _middle(stage: str) -> int:
    low, high = PAPER_SCALES[stage]
    return (low + high) // 2


def _dense_single(results: Results) -> dict[Protocol, list[float]]:
    """Top-1 errors by seed of one net at one test scale, dense."""
    errors: dict[Protocol, list[float]] = {}
    for (protocol, _), result in results.items():
        single = len(protocol.nets) == 1 and len(protocol.nets[0].test_scales) == 1
        if single and protocol.method == "dense" and result.row["top1_error"] is not None:
            errors.setdefault(protocol, []).append(result.row["top1_error"])
    return errors


def scale_points(results: Results) -> list[Record]:
    """Top-1 error at each single test scale of the nets that were tested at several, mean over seeds."""
    rows = {protocol: result.row for (protocol, _), result in results.items()}
    points = [
        {
            "arch": protocol.nets[0].arch,
            "stage": protocol.nets[0].stage,
            "train_scale": list(rows[protocol]["train_scale"]),
            "test_scale": rows[protocol]["test_scales"][0],
            "error": round(statistics.fmean(errors), 3),
            "num_seeds": len(errors),
        }
        for protocol, errors in _dense_single(results).items()
    ]
    lines = [(point["arch"], point["stage"]) for point in points]
    several = [point for point, line in zip(points, lines) if lines.count(line) > 1]
    return sorted(several, key=lambda p: (p["arch"], list(PAPER_SCALES).index(p["stage"]), p["test_scale"]))


def curves(runs: Runs) -> list[Record]:
    """The learning curves of all trained stages; a training point is the mean of consecutive logged ones."""
    return [
        {"arch": arch, "seed": seed, "stage": stage, **_curve(read_log(workdir.path / stage))}
        for seed, nets in runs.items()
        for arch, workdir in nets.items()
        for stage in PAPER_SCALES
        if trained(workdir, stage)
    ]


def _curve(log: list[Record]) -> Record:
    train = [row for row in log if "train_loss" in row]
    val = [row for row in log if "val_loss" in row]
    size = max(1, math.ceil(len(train) / _POINTS))
    groups = [train[start : start + size] for start in range(0, len(train), size)]
    return {
        "step": [group[-1]["step"] for group in groups],
        **{name: [_mean(group, name) for group in groups] for name in ("train_loss", "train_top1_error")},
        "val_step": [row["step"] for row in val],
        **{name: [round(row[name], 4) for row in val] for name in ("val_loss", "val_top1_error")},
    }


def _mean(rows: list[Record], name: str) -> float:
    return round(statistics.fmean(row[name] for row in rows), 4)
