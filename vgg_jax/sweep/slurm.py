"""The trainings of a sweep as a Slurm job array: a script for sbatch, what is in the queue, waiting for the end.

submitit is not used: it ignores SIGTERM (its handler only logs it) and hands a job over as a pickle, where the training
is a command line that stops on SIGTERM by itself.
"""

import contextlib
import shlex
import shutil
import string
import subprocess
import time
from collections.abc import Sequence
from importlib import resources

from vgg_jax.errors import InputError
from vgg_jax.report import write_atomically
from vgg_jax.signals import PREEMPTED
from vgg_jax.sweep.attempts import Queue, state
from vgg_jax.sweep.plan import Sweep
from vgg_jax.sweep.table import report
from vgg_jax.sweep.watch import show_progress, sweep_bar

POLL = 5.0  # seconds between questions to the controller


class _Template(string.Template):
    delimiter = "%"  # a dollar is the shell's


def submit(sweep: Sweep, *, jobs: int | None = None, restarts: int = 0, options: Sequence[str] = ()) -> Sweep:
    """Submit what is neither done nor in the queue as one job array; returns the sweep with its trainings' jobs.

    jobs: how many run at a time, all that the cluster takes if not given. options: more of sbatch's, as "--time=4:00".
    A job is requeued up to ``restarts`` times when its training was preempted or failed. Writes ROOT/job.sh. Raises
    InputError without sbatch, or with its message where it refuses.
    """
    _require("sbatch")
    queue = running_jobs(sweep)
    missing = [run.job not in queue and state(run, queue) not in ("done", "running") for run in sweep.runs]
    chosen = [i for i, is_missing in enumerate(missing) if is_missing]
    if not chosen:
        return sweep
    sweep.root.mkdir(parents=True, exist_ok=True)
    path = sweep.root / "job.sh"
    write_atomically(path, job_script(sweep, chosen, jobs=jobs, restarts=restarts, options=options))
    submitted = _call(["sbatch", "--parsable", str(path)])
    if submitted.returncode:
        raise InputError(f"sbatch refused {path}: {' '.join(submitted.stderr.split())}")
    number = submitted.stdout.strip().split(";")[0]  # JOB or JOB;CLUSTER
    runs = [run._replace(job=f"{number}_{i}") if i in chosen else run for i, run in enumerate(sweep.runs)]
    sweep = sweep._replace(runs=tuple(runs))
    report(sweep)  # from now on --report knows the jobs
    return sweep


def job_script(
    sweep: Sweep, chosen: Sequence[int], *, jobs: int | None = None, restarts: int = 0, options: Sequence[str] = ()
) -> str:
    """The script for sbatch: job.sh with the trainings of some positions, whose numbers are the array's."""
    numbers = ",".join(map(str, chosen))
    template = _Template(resources.files("vgg_jax.sweep").joinpath("job.sh").read_text())
    return template.substitute(
        name=shlex.quote(sweep.root.name or "sweep"),
        array=f"{numbers}%{jobs}" if jobs else numbers,
        output=shlex.quote(f"{sweep.root}/slurm-%A_%a.log"),
        options="\n".join(f"#SBATCH {option}" for option in options),
        points="\n".join(_case(sweep, i) for i in chosen),
        preempted=PREEMPTED,
        restarts=restarts,
    )


def _case(sweep: Sweep, position: int) -> str:
    run = sweep.runs[position]
    workdir, command = shlex.quote(str(run.workdir)), shlex.join(run.command)
    return f"{position})\n    workdir={workdir}\n    command=({command})\n    ;;"


def running_jobs(sweep: Sweep) -> Queue:
    """The sweep's jobs that are not over, 17_3 -> PENDING, RUNNING, ...; raises InputError if Slurm does not answer."""
    numbers = sorted({run.job.partition("_")[0] for run in sweep.runs if run.job})
    if not numbers:
        return {}
    jobs = f"--jobs={','.join(numbers)}"
    listed = _call(["squeue", "--array", "--noheader", "--format=%i %T", jobs])
    if listed.returncode and "Invalid job id" not in listed.stderr:  # what it says of a job long over
        raise InputError(f"squeue does not answer: {' '.join(listed.stderr.split())}")
    return dict(line.split() for line in listed.stdout.splitlines())


def known_queue(sweep: Sweep) -> Queue | None:
    """`running_jobs` where Slurm can be asked, else None."""
    return running_jobs(sweep) if shutil.which("squeue") else None


def wait(sweep: Sweep) -> None:
    """Show the progress of the jobs until all are over; Ctrl-C ends the waiting and leaves them alone."""
    with sweep_bar(sweep) as bar, contextlib.suppress(KeyboardInterrupt):
        while queue := running_jobs(sweep):
            waiting = [run.name for run in sweep.runs if run.job in queue]
            show_progress(bar, sweep, waiting=waiting, queue=queue)
            time.sleep(POLL)
        show_progress(bar, sweep, queue={})


def _call(command: Sequence[str]) -> subprocess.CompletedProcess:
    _require(command[0])
    return subprocess.run(command, capture_output=True, text=True)


def _require(program: str) -> None:
    if shutil.which(program) is None:
        raise InputError(f"there is no {program} on this machine: start the sweep where Slurm is, or without --slurm")
