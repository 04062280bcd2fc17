import os
import signal
import subprocess
import sys
import threading
import time

import filelock
import pytest
from sweep_trainings import finish, make_sweep

from vgg_jax import InputError
from vgg_jax.signals import PREEMPTED, Stopped
from vgg_jax.sweep import local
from vgg_jax.sweep.attempts import read_attempts, state, write_start
from vgg_jax.sweep.local import gpus, run_locally

DONE = "from sweep_trainings import finish; finish(workdir, 10.0)\n"
FIRST_TIME = "first = not (workdir / 'once').exists(); (workdir / 'once').touch()\n"
SAVE_AND_STOP = f"""
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: time.sleep(len(workdir.name) / 10) or sys.exit({PREEMPTED}))
(workdir / 'ready').touch()
time.sleep(60)
"""
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
(workdir / 'ready').touch()
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def poll(monkeypatch):
    monkeypatch.setattr(local, "POLL", 0.01)


def statuses(run):
    return [attempt["status"] for attempt in read_attempts(run.workdir)]


def wait_for(path):
    for _ in range(1000):
        if path.exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} does not appear")


def test_what_is_done_is_skipped(tmp_path):
    sweep = make_sweep(tmp_path, a=DONE, b=DONE)
    finish(sweep.runs[0].workdir, 10.0)
    run_locally(sweep, devices=[])
    assert [statuses(run) for run in sweep.runs] == [[], [0]]
    assert [state(run) for run in sweep.runs] == ["done", "done"]


@pytest.mark.parametrize("jobs", [None, 2])
def test_so_many_run_at_a_time(tmp_path, jobs):
    """With two at a time the first two meet, which they could not one after another; never are there more."""
    meet = """
import time
begin = time.time()
(workdir / 'here').touch()
for _ in range(500):
    if len(list(workdir.parent.glob('[ab]/here'))) >= {together}: break
    time.sleep(0.01)
else: sys.exit('alone')
time.sleep(0.2)
(workdir / 'times').write_text(f'{{begin}} {{time.time()}}')
"""
    program = meet.format(together=jobs or 1) + DONE
    sweep = make_sweep(tmp_path, a=program, b=program, c=program)
    run_locally(sweep, jobs=jobs, devices=[])
    assert [state(run) for run in sweep.runs] == ["done"] * 3
    times = [tuple(map(float, (run.workdir / "times").read_text().split())) for run in sweep.runs]
    assert max(sum(begin <= moment <= end for begin, end in times) for moment, _ in times) <= (jobs or 1)


def test_each_has_a_gpu_of_its_own(tmp_path):
    tell = "import os; (workdir / 'gpu').write_text(os.environ['CUDA_VISIBLE_DEVICES'])\n"
    sweep = make_sweep(tmp_path, a=tell + DONE, b=tell + DONE)
    run_locally(sweep, devices=["GPU-1", "GPU-2"])
    assert [(run.workdir / "gpu").read_text() for run in sweep.runs] == ["GPU-1", "GPU-2"]


def test_more_jobs_than_gpus(tmp_path):
    with pytest.raises(InputError, match="--jobs is 3, but a training needs a GPU of its own and there are 2"):
        run_locally(make_sweep(tmp_path, a=DONE), jobs=3, devices=["0", "1"])
    assert not (tmp_path / "a").exists()


def test_the_gpus_that_jax_would_see(monkeypatch):
    assert gpus({"CUDA_VISIBLE_DEVICES": "1, GPU-7"}) == ["1", "GPU-7"]
    assert gpus({"CUDA_VISIBLE_DEVICES": ""}) == []
    assert gpus({"CUDA_VISIBLE_DEVICES": "1", "JAX_PLATFORMS": "cpu"}) == []
    assert gpus({"CUDA_VISIBLE_DEVICES": "1", "JAX_PLATFORMS": "cuda,cpu"}) == ["1"]
    monkeypatch.setenv("PATH", "")
    assert gpus({}) == []


def test_nvidia_smi_is_asked(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\n[ $1 = --query-gpu=uuid ] && printf 'GPU-1\\nGPU-2\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert gpus({}) == ["GPU-1", "GPU-2"]


def test_crashes_and_preemptions_are_restarted(tmp_path):
    crash = FIRST_TIME + "if first: import os; os.kill(os.getpid(), 9)\n" + DONE
    preempted = FIRST_TIME + f"if first: sys.exit({PREEMPTED})\n" + DONE
    sweep = make_sweep(tmp_path, crash=crash, preempted=preempted)
    run_locally(sweep, restarts=1, devices=[])
    assert [statuses(run) for run in sweep.runs] == [[-9, 0], [PREEMPTED, 0]]


def test_restarts_are_bounded_and_mistakes_not_restarted(tmp_path):
    sweep = make_sweep(
        tmp_path, crash="raise ValueError('bang')", mistake="sys.exit('error: no such folder')", good=DONE
    )
    run_locally(sweep, restarts=2, devices=[])
    assert [statuses(run) for run in sweep.runs] == [[1, 1, 1], [1], [0]]
    assert "ValueError: bang" in (tmp_path / "crash" / "train.log").read_text()


def when(paths, *numbers):
    """Signals to this process, once the files exist; each after a moment, so that none is lost."""

    def tell():
        for path in paths:
            wait_for(path)
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(0.2)

    thread = threading.Thread(target=tell)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_trainings_which_save(tmp_path, number):
    before = signal.getsignal(number)
    sweep = make_sweep(tmp_path, takes_longer=SAVE_AND_STOP, a=SAVE_AND_STOP, b=DONE)
    thread = when([tmp_path / name / "ready" for name in ("a", "takes_longer")], number)
    with pytest.raises(Stopped):
        run_locally(sweep, jobs=2, restarts=3, devices=[])
    thread.join()
    assert [state(run) for run in sweep.runs] == ["preempted", "preempted", "not started"]
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_kills(tmp_path):
    sweep = make_sweep(tmp_path, a=DEAF)
    thread = when([tmp_path / "a" / "ready"], signal.SIGINT, signal.SIGINT)
    with pytest.raises(Stopped):
        run_locally(sweep, devices=[])
    thread.join()
    assert statuses(sweep.runs[0]) == [-9]


def test_a_failure_of_the_sweep_itself_leaves_no_training_behind(tmp_path, monkeypatch):
    def fail(*_, **__):
        wait_for(tmp_path / "a" / "ready")
        raise OSError("disk full")

    sweep = make_sweep(tmp_path, a=SAVE_AND_STOP)
    monkeypatch.setattr(local, "show_progress", fail)
    with pytest.raises(OSError, match="disk full"):
        run_locally(sweep, devices=[])
    assert statuses(sweep.runs[0]) == [PREEMPTED]


def test_one_sweep_at_a_time(tmp_path):
    sweep = make_sweep(tmp_path, a=DONE)
    with (
        filelock.FileLock(tmp_path / ".lock"),
        pytest.raises(InputError, match=f"another sweep runs in {tmp_path}: wait for it to end"),
    ):
        run_locally(sweep, devices=[])


def test_a_training_that_a_killed_sweep_left_behind(tmp_path):
    sweep = make_sweep(tmp_path, a=DONE, b=DONE)
    workdir = sweep.runs[1].workdir
    workdir.mkdir()
    with subprocess.Popen([sys.executable, "-c", "input()", str(workdir)], stdin=subprocess.PIPE) as process:
        write_start(workdir, process.pid)
        with pytest.raises(InputError, match=f"{workdir} is being trained already"):
            run_locally(sweep, devices=[])
        process.communicate(b"\n")
    assert not sweep.runs[0].workdir.exists()
