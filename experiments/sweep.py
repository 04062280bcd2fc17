"""Sweep over values of train.py's flags: one training for each point of their product, and a table of the results.

python experiments/sweep.py --config=configs/quickstart.py --sweep='config.seed=[0,1]' \\
    --sweep='config.stages.s256.learning_rate=[0.01,0.003]' [--jobs=2] [--any flag of train.py, for all points]
python experiments/sweep.py --config=... --sweep=... --slurm --sbatch=--gres=gpu:1 --sbatch=--time=24:00:00
python experiments/sweep.py --runs=RUNS --report          the table of a sweep that runs elsewhere
"""

import copy
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from command_line import HERE, parse_flags, refuse_arguments, run, with_config_found
from vgg_jax.sweep.plan import Sweep

SWEEP = flags.DEFINE_multi_string("sweep", [], "FLAG=LIST: a flag of train.py and its values in JSON; may be repeated.")
RUNS = flags.DEFINE_string("runs", None, "Holds a workdir for each point; runs/<config name>_sweep if not given.")
JOBS = flags.DEFINE_integer("jobs", None, "Trainings at a time; if not given one a GPU, one without GPUs.", 1)
RESTARTS = flags.DEFINE_integer("restarts", 5, "How often a training that failed or was preempted starts again.", 0)
SLURM = flags.DEFINE_bool("slurm", False, "Submit the trainings as a Slurm job array.")
SBATCH = flags.DEFINE_multi_string("sbatch", [], "With --slurm: an option of sbatch, as --time=8:00; may be repeated.")
WAIT = flags.DEFINE_bool("wait", True, "With --slurm: show the progress until all jobs are over.")
REPORT = flags.DEFINE_bool("report", False, "Start nothing: the table of what is there.")


def main(argv: Sequence[str]) -> None:
    """Run the trainings, or look at them, and print their table."""
    from vgg_jax.errors import InputError
    from vgg_jax.signals import Stopped
    from vgg_jax.sweep.local import run_locally
    from vgg_jax.sweep.plan import read_sweep
    from vgg_jax.sweep.slurm import known_queue, submit, wait

    root = runs_folder(argv)
    if REPORT.value:
        tell(read_sweep(root))
        return
    sweep = planned(root, argv)
    options = {"jobs": JOBS.value, "restarts": RESTARTS.value}
    if SLURM.value:
        sweep = submit(sweep, **options, options=SBATCH.value)
        if WAIT.value:
            wait(sweep)
    else:
        try:
            run_locally(sweep, **options, queue=known_queue(sweep))
        except Stopped:
            tell(sweep)
            raise
    if failed := [row["name"] for row in tell(sweep) if row["state"] == "failed"]:
        raise InputError(f"{len(failed)} of {len(sweep.runs)} trainings failed: see {root / failed[0]}/train.log")


def planned(root: Path, argv: Sequence[str]) -> Sweep:
    """The sweep that the flags ask for, checked; argv: train.py's flags for all points."""
    from vgg_jax.errors import InputError
    from vgg_jax.sweep.plan import plan
    from vgg_jax.sweep.points import check_shared, parse_axis, product, train_flags

    if not SWEEP.value:
        raise InputError("nothing is swept: give --sweep='FLAG=LIST', as --sweep='config.seed=[0,1]', or --report")
    axes = [parse_axis(text) for text in SWEEP.value]
    check_shared(argv[1:], axes)
    points = product(axes)
    own = [with_config_found([*argv[:1], *train_flags(argv[1:], point)]) for point in points]
    commands = [[sys.executable, str(HERE / "train.py"), *flags[1:]] for flags in own]
    return plan(root, points, commands, [load_config(flags) for flags in own])


def load_config(argv: Sequence[str]) -> ConfigDict:
    """The config that train.py makes of its flags; a mistake in any of them ends in one sentence."""
    values = flags.FlagValues()
    for flag in flags_of_train():
        values[flag.name] = copy.deepcopy(flag)
    options = {"lock_config": True, "flag_values": values, "sys_argv": argv}
    config = config_flags.DEFINE_config_file("config", **options)
    flags.mark_flag_as_required("config", values)
    refuse_arguments(parse_flags(argv, values))
    return config.value


@functools.cache
def flags_of_train() -> list[flags.Flag]:
    """The flags that train.py defines, but --config, which loads a file."""
    before = set(flags.FLAGS)
    import train  # noqa: F401

    return [flags.FLAGS[name] for name in set(flags.FLAGS) - before - {"config"}]


def runs_folder(argv: Sequence[str]) -> Path:
    """Where the workdirs are: --runs, else a folder named by the config."""
    from vgg_jax.errors import InputError

    if RUNS.value:
        return Path(RUNS.value)
    values = flags.FlagValues()
    config = flags.DEFINE_string("config", None, "", flag_values=values)
    values(argv, known_only=True)
    if config.value is None:
        raise InputError("give --config, the experiment, as configs/quickstart.py, or --runs of a sweep")
    return Path("runs") / f"{Path(config.value.partition(':')[0]).stem}_sweep"


def tell(sweep: Sweep) -> list[dict[str, Any]]:
    """Print the table; returns its rows."""
    from vgg_jax.sweep.slurm import known_queue
    from vgg_jax.sweep.table import report

    rows, table = report(sweep, known_queue(sweep))
    print(f"\n{table}\n\nsweep.json and sweep.md are in {sweep.root}")
    return rows


if __name__ == "__main__":
    run(main, pass_on=True)
