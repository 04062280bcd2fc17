"""Training the nets of the tables: one train.py a net, net A first, the deeper nets started from it (sec. 3.1)."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vgg_jax.architectures import ARCHITECTURES
from vgg_jax.errors import InputError
from vgg_jax.progress import progress_bar

FROM_A = ("B", "C", "D", "E")  # nets whose first stage takes layers of net A; A-LRN and B-5x5 start afresh


class Training(NamedTuple):
    """One net to train with one seed: where, and the command."""

    arch: str
    seed: int
    workdir: Path
    command: tuple[str, ...]


def plan_trainings(
    script: Path,
    config: str,
    runs: Path,
    *,
    seeds: Sequence[int] = (0,),
    nets: Sequence[str] = tuple(ARCHITECTURES),
    data_path: str | None = None,
    flags: Sequence[str] = (),
) -> list[Training]:
    """The trainings that are not finished, in order: seed by seed, A first.

    script: train.py; config: a config file whose argument is the net. Raises InputError for an unknown net, or where a
    net starts from A and A is neither finished nor to be trained.
    """
    unknown = [net for net in nets if net not in ARCHITECTURES]
    if unknown:
        raise InputError(f"--nets names {unknown[0]!r}, but the nets are {', '.join(ARCHITECTURES)}")
    plan = []
    for seed in seeds:
        start = runs / f"seed{seed}" / "A"
        for arch in sorted(set(nets), key=list(ARCHITECTURES).index):
            workdir = runs / f"seed{seed}" / arch
            if is_finished(workdir):
                continue
            if arch in FROM_A and "A" not in nets and not is_finished(start):
                raise InputError(f"net {arch} starts from net A, but {start} is not finished: add A to --nets")
            command = [sys.executable, str(script), f"--config={config}:{arch}", f"--workdir={workdir}"]
            command += [f"--config.seed={seed}"]
            if arch in FROM_A:
                command += [f"--config.stages.s256.init_from=workdir:{start / 's256'}"]
                command += ["--config.stages.s256.init_layers=paper_a"]
            command += [f"--config.data.path={data_path}"] if data_path else []
            plan.append(Training(arch, seed, workdir, (*command, *flags)))
    return plan


def is_finished(workdir: Path) -> bool:
    """Whether a workdir has run its whole chain."""
    path = workdir / "config.json"
    if not path.exists():
        return False
    return all((workdir / stage / "finished.json").exists() for stage in json.loads(path.read_text())["chain"])


def run_trainings(plan: Sequence[Training]) -> None:
    """Run the commands one after another, their output passed on to standard error; a failing one ends it all.

    Raises InputError with the last lines of a training that failed. Given again, finished trainings are skipped by
    `plan_trainings` and train.py resumes the one that was interrupted.
    """
    with progress_bar(plan, unit="net", desc="training") as bar:
        for training in bar:
            bar.set_postfix_str(f"net {training.arch}, seed {training.seed}")
            _run(training)


def _run(training: Training) -> None:
    lines: list[str] = []
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    with subprocess.Popen(training.command, **options) as process:  # type: ignore[call-overload]
        try:
            for line in process.stdout:
                print(line, end="", file=sys.stderr, flush=True)
                lines = [*lines[-4:], line.strip()]
        except BaseException:
            process.terminate()  # train.py goes on where its last checkpoint was written
            raise
    if process.returncode:
        raise InputError(
            f"the training of net {training.arch} with seed {training.seed} ended with status {process.returncode}, "
            f"last saying: {' | '.join(lines)}; mend that and give the same command again to resume"
        )
