"""The workdirs below a folder, by seed and net, and what they give for the rows of the manifest."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vgg_jax.errors import InputError
from vgg_jax.eval.protocol import Member
from vgg_jax.eval.workdir import Evaluated, dataset_name, evaluate_members
from vgg_jax.progress import progress_bar
from vgg_jax.reproduction.manifest import Net, Protocol, our_scales, row_text

# What all workdirs must share, so that their nets can be compared on the same test images and fused.
COMMON_FIELDS = (
    *("data.split_seed", "data.val_fraction", "data.test_fraction", "data.images_per_class"),
    *("model.crop_size", "model.width_multiplier"),
)

Key = tuple[Protocol, int]  # a row of the manifest and a seed
Results = dict[Key, Evaluated]


class Workdir(NamedTuple):
    """A folder that train.py made: its net, its seed and the whole config."""

    path: Path
    arch: str
    seed: int
    config: dict[str, Any]


Runs = dict[int, dict[str, Workdir]]  # seed -> net -> workdir


def find_runs(root: Path, seeds: Sequence[int] | None = None) -> Runs:
    """The workdirs anywhere below a folder by seed and net, all seeds or the given ones.

    Raises InputError where there is none, where two claim one net and seed, and where they differ in data set, split,
    crop, width or classes.
    """
    runs: Runs = {}
    for workdir in sorted(_workdirs(root), key=lambda w: (w.seed, w.path)):
        if seeds is not None and workdir.seed not in seeds:
            continue
        nets = runs.setdefault(workdir.seed, {})
        if workdir.arch in nets:
            raise InputError(
                f"{nets[workdir.arch].path} and {workdir.path} are both net {workdir.arch} with seed {workdir.seed}: "
                f"move one of them out of {root}"
            )
        nets[workdir.arch] = workdir
    missing = [seed for seed in seeds or () if seed not in runs]
    if missing or not runs:
        wanted = f" of seed {missing[0]}" if missing else ""
        raise InputError(f"no workdir of train.py{wanted} lies below {root}: train the nets first, as with --train")
    _check_common(all_workdirs(runs))
    return runs


def all_workdirs(runs: Runs) -> list[Workdir]:
    """The workdirs of all seeds and nets."""
    return [workdir for nets in runs.values() for workdir in nets.values()]


def _workdirs(root: Path) -> Iterator[Workdir]:
    for folder, subfolders, files in os.walk(root):
        if "config.json" in files:
            subfolders.clear()
            yield _read_workdir(Path(folder))


def _read_workdir(path: Path) -> Workdir:
    try:
        config = json.loads((path / "config.json").read_text())
        return Workdir(path, config["model"]["arch"], config["seed"], config)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path / 'config.json'} is no config that train.py wrote ({type(error).__name__}: {error}): "
            "move that folder elsewhere, or give a narrower --runs"
        ) from None


def _check_common(workdirs: Sequence[Workdir]) -> None:
    first = workdirs[0]
    for other in workdirs[1:]:
        for name, mine, theirs in zip(("data set", *COMMON_FIELDS), _identity(first), _identity(other)):
            if mine != theirs:
                raise InputError(
                    f"{first.path} and {other.path} do not belong to one reproduction: {name} is {mine!r} and "
                    f"{theirs!r}; keep them below different --runs folders"
                )
        if _classes(first) != _classes(other):
            raise InputError(
                f"{first.path / 'classes.txt'} and {other.path / 'classes.txt'} name different classes: "
                "keep their workdirs below different --runs folders"
            )


def _identity(workdir: Workdir) -> list[Any]:
    fields = [name.split(".") for name in COMMON_FIELDS]
    return [dataset_name(workdir.config), *(workdir.config[section].get(field) for section, field in fields)]


def _classes(workdir: Workdir) -> str | None:
    path = workdir.path / "classes.txt"
    return path.read_text() if path.exists() else None  # none before its training began


def trained(workdir: Workdir, stage: str) -> bool:
    """Whether a stage ran to its end."""
    return (workdir.path / stage / "finished.json").exists()


def member(workdir: Workdir, net: Net) -> Member:
    """A net of the manifest as the evaluation takes it: its stage's folder and its own test scales."""
    stages = {name: stage["scale"] for name, stage in workdir.config["stages"].items()}
    return Member(workdir.path / net.stage, our_scales(net, stages, workdir.config["model"]["crop_size"]))


def untrained(runs: Runs, protocols: Sequence[Protocol]) -> dict[Key, list[Net]]:
    """The rows of the manifest that cannot be run, by seed, with the nets that each lacks."""
    lacking = {
        (protocol, seed): [n for n in protocol.nets if n.arch not in nets or not trained(nets[n.arch], n.stage)]
        for seed, nets in runs.items()
        for protocol in protocols
    }
    return {key: nets for key, nets in lacking.items() if nets}


def require_all(runs: Runs, protocols: Sequence[Protocol]) -> None:
    """Raise InputError with the untrained nets where a row of the manifest cannot be run."""
    lacking = untrained(runs, protocols)
    if lacking:
        nets = dict.fromkeys(f"{n.arch} {n.stage} (seed {seed})" for (_, seed), ns in lacking.items() for n in ns)
        raise InputError(
            f"{len(lacking)} rows of the tables name nets that no workdir holds trained: {', '.join(nets)}; "
            "train them, or leave out --require"
        )


def evaluate_rows(runs: Runs, protocols: Sequence[Protocol], *, split: str, data_path: str | None = None) -> Results:
    """Evaluate each row of the manifest with each seed whose nets are trained, with a progress bar; others are absent.

    What was evaluated before is not computed again, so a second call after a kill goes on.
    """
    lacking = untrained(runs, protocols)
    keys = [(protocol, seed) for seed in runs for protocol in protocols if (protocol, seed) not in lacking]
    results: Results = {}
    with progress_bar(keys, unit="row", desc="rows of the tables") as bar:
        for protocol, seed in bar:
            bar.set_postfix_str(f"seed {seed}, {row_text(protocol)}")
            members = [member(runs[seed][net.arch], net) for net in protocol.nets]
            results[protocol, seed] = evaluate_members(
                members, protocol.method, split=split, data_path=data_path, save_posteriors=True
            )
    return results


def common_split(runs: Runs) -> str:
    """The split that the configs evaluate on; configs that disagree raise InputError."""
    splits = {workdir.config["eval"]["split"]: workdir.path for workdir in all_workdirs(runs)}
    if len(splits) > 1:
        told = " and ".join(f"{split} ({path})" for split, path in splits.items())
        raise InputError(f"the configs evaluate on different splits, {told}: choose one with --split")
    return next(iter(splits))


def stage_to_show(runs: Runs) -> Path:
    """The trained stage that stands for all: D with jitter of the first seed that has it, else the latest of any net.

    Raises InputError where no stage is trained.
    """
    stages = [
        workdir.path / stage
        for stage in ("jitter", "s384", "s256")
        for workdir in sorted(all_workdirs(runs), key=lambda w: w.arch != "D")
        if trained(workdir, stage)
    ]
    if not stages:
        raise InputError("no net is trained yet, so there is none to show photographs to: leave out --photographs")
    return stages[0]
