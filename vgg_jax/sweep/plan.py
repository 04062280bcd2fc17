"""The plan of a sweep: its trainings with their workdirs, checked before anything starts, and kept in sweep.json."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vgg_jax.errors import InputError
from vgg_jax.report import write_atomically
from vgg_jax.sweep.points import Point
from vgg_jax.training.config import check_config
from vgg_jax.training.workdir import differing_fields


class Run(NamedTuple):
    """One training of a sweep."""

    name: str
    fields: dict[str, Any]  # the swept fields
    command: tuple[str, ...]
    workdir: Path
    stages: dict[str, int]  # of the chain, in order: their steps
    batch_size: int
    job: str | None = None  # Slurm's, as 17_3

    @property
    def images(self) -> int:
        """How many images the whole chain sees."""
        return sum(self.stages.values()) * self.batch_size


class Sweep(NamedTuple):
    """All trainings, and the folder of their workdirs."""

    root: Path
    runs: tuple[Run, ...]


def plan(root: Path, points: Sequence[Point], commands: Sequence[Sequence[str]], configs: Sequence[Any]) -> Sweep:
    """The sweep of some points with their command lines, which lack the workdir, and their configs (ConfigDicts).

    Nothing is written. Raises InputError for a config that cannot be, for two points with equal configs and flags, and
    for a workdir that another config made.
    """
    jobs = {run.name: run.job for run in read_sweep(root).runs} if (root / "sweep.json").exists() else {}
    seen: dict[str, str] = {}
    runs = []
    for point, command, config in zip(points, commands, configs, strict=True):
        fields = config.to_dict()
        try:
            check_config(config)
        except InputError as error:
            raise InputError(f"{point.name}: {error}") from None
        others = [flag for flag in point.flags if not flag.startswith(("--config=", "--config."))]
        identity = json.dumps([fields, others], sort_keys=True)
        if identity in seen:
            raise InputError(f"the points {seen[identity]} and {point.name} have the same config: give each value once")
        seen[identity] = point.name
        workdir = root / point.name
        if differing := differing_fields(workdir, fields):
            raise InputError(
                f"{workdir} was made with another config: {'; '.join(differing)}: give another --runs, or the saved "
                "values"
            )
        stages = {name: config.stages[name].steps for name in config.chain}
        whole = (*command, f"--workdir={workdir}")
        batch, job = config.train.batch_size, jobs.get(point.name)
        runs.append(Run(point.name, point.fields, whole, workdir, stages, batch, job))
    return Sweep(root, tuple(runs))


def write_sweep(sweep: Sweep, rows: Sequence[dict[str, Any]], table: str) -> None:
    """Write ROOT/sweep.json, from which `read_sweep` has the plan again, with the rows of results, and sweep.md."""
    runs = [{name: value for name, value in run._asdict().items() if name != "workdir"} for run in sweep.runs]
    content = {"runs": runs, "rows": list(rows)}
    sweep.root.mkdir(parents=True, exist_ok=True)
    write_atomically(sweep.root / "sweep.json", json.dumps(content, indent=1) + "\n")
    write_atomically(sweep.root / "sweep.md", table + "\n")


def read_sweep(root: Path) -> Sweep:
    """The plan that ROOT/sweep.json keeps; raises InputError where there is none."""
    path = root / "sweep.json"
    if not path.exists():
        raise InputError(f"{path} does not exist: give --runs of a sweep that was started, or start one with --sweep")
    try:
        content = json.loads(path.read_text())
        runs = [
            Run(**{**run, "command": tuple(run["command"]), "workdir": root / run["name"]}) for run in content["runs"]
        ]
        return Sweep(root, tuple(runs))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no sweep ({error}): move it away and give the sweep's command again") from None
