"""The script of the job array, run with programs in the place of Slurm's."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from sweep_trainings import make_sweep

from vgg_jax import InputError
from vgg_jax.signals import PREEMPTED
from vgg_jax.sweep.slurm import job_script, running_jobs, submit

NOTE = '#!/bin/sh\necho "$*" >>calls\n'


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A folder of programs before all others, in which everything runs; srun runs the training."""
    folder = tmp_path / "it's here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def write(name, text):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)

    write("srun", '#!/bin/sh\nexec "$@"\n')
    write("scontrol", NOTE)
    return write


def run_task(sweep, task, restarts=2, restarted=0):
    """The exit status of a task and the calls of scontrol."""
    Path("job.sh").write_text(job_script(sweep, range(len(sweep.runs)), restarts=restarts))
    array = {"SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": str(task), "SLURM_JOB_ID": "17"}
    environment = {**os.environ, **array, "SLURM_RESTART_COUNT": str(restarted)}
    run = subprocess.run(["bash", "job.sh"], env=environment)
    calls = Path("calls")
    return run.returncode, calls.read_text().split() if calls.exists() else []


def test_a_task_runs_its_training(programs, tmp_path):
    sweep = make_sweep(tmp_path / "it's here" / "runs", a="print('I am $a')", b='print("I\'m b")')
    assert run_task(sweep, 1) == (0, [])
    assert (sweep.runs[1].workdir / "train.log").read_text() == "I'm b\n"
    start, end = map(json.loads, (sweep.runs[1].workdir / "attempts.jsonl").read_text().splitlines())
    assert (start["job"], end["status"]) == ("17_1", 0)
    assert not sweep.runs[0].workdir.exists()


@pytest.mark.parametrize(
    "program, status, requeued",
    [
        (f"sys.exit({PREEMPTED})", PREEMPTED, True),
        ("raise ValueError('bang')", 1, True),
        ("import os; os.kill(os.getpid(), 9)", 137, True),
        ("print('error: early'); sys.exit('late')", 1, True),
        ("sys.exit('error: no such folder')", 1, False),
        (
            "print('s256: 10%', end='\\r'); print('process 1: error: no'); print('srun: error: n7'); sys.exit(1)",
            1,
            False,
        ),
    ],
)
def test_what_is_requeued(programs, tmp_path, program, status, requeued):
    """By the task's own name: the number alone may stand for the whole array."""
    sweep = make_sweep(tmp_path / "runs", a=program)
    assert run_task(sweep, 0, restarted=1) == (status, ["requeue", "17_0"] if requeued else [])


def test_restarts_are_bounded(programs, tmp_path):
    sweep = make_sweep(tmp_path / "runs", a=f"sys.exit({PREEMPTED})")
    assert run_task(sweep, 0, restarted=2) == (PREEMPTED, [])


def test_cpus_are_handed_on_to_the_step(programs, tmp_path, monkeypatch):
    tell = "import os; print(os.environ.get('SRUN_CPUS_PER_TASK'))"
    sweep = make_sweep(tmp_path / "runs", a=tell)
    run_task(sweep, 0)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "16")
    run_task(sweep, 0)
    assert (sweep.runs[0].workdir / "train.log").read_text() == "None\n16\n"


def test_options_of_sbatch(tmp_path):
    sweep = make_sweep(tmp_path / "my runs", a="", b="", c="")
    options = ["--gres=gpu:1", "--time=24:00:00"]
    lines = job_script(sweep, [0, 2], jobs=4, options=options).splitlines()
    wanted = ("--array=0,2%4", *options, f"--output='{tmp_path}/my runs/slurm-%A_%a.log'", "--requeue")
    assert {f"#SBATCH {option}" for option in wanted} <= set(lines)


def test_what_is_in_the_queue_is_not_submitted_again(programs, tmp_path):
    programs("sbatch", NOTE + "echo '18;cluster'\n")
    programs("squeue", "#!/bin/sh\nprintf '17_0 RUNNING\\n17_1 PENDING\\n'\n")
    a, b, c = make_sweep(tmp_path / "runs", a="", b="", c="").runs
    sweep = make_sweep(tmp_path / "runs")._replace(runs=(a._replace(job="17_0"), b._replace(job="16_1"), c))
    assert running_jobs(sweep) == {"17_0": "RUNNING", "17_1": "PENDING"}
    assert [run.job for run in submit(sweep).runs] == ["17_0", "18_1", "18_2"]
    script = (tmp_path / "runs" / "job.sh").read_text()
    assert "#SBATCH --array=1,2\n" in script and "\n0)" not in script


def test_jobs_that_slurm_has_forgotten(programs, tmp_path):
    programs("squeue", "#!/bin/sh\necho 'slurm_load_jobs error: Invalid job id specified' >&2\nexit 1\n")
    (run,) = make_sweep(tmp_path, a="").runs
    sweep = make_sweep(tmp_path)._replace(runs=(run._replace(job="17_0"),))
    assert running_jobs(sweep) == {}
    programs("squeue", "#!/bin/sh\necho 'slurm_load_jobs error: Unable to contact' >&2\nexit 1\n")
    with pytest.raises(InputError, match="squeue does not answer: slurm_load_jobs error: Unable to contact"):
        running_jobs(sweep)


def test_no_sbatch_and_one_that_refuses(programs, tmp_path, monkeypatch):
    sweep = make_sweep(tmp_path / "runs", a="")
    programs("sbatch", "#!/bin/sh\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
    with pytest.raises(InputError, match=r"sbatch refused .*job\.sh: sbatch: error: invalid partition"):
        submit(sweep)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="there is no sbatch on this machine"):
        submit(make_sweep(tmp_path / "others", a=""))
    assert not (tmp_path / "others").exists()
