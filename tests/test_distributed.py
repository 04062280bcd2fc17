"""Several real processes on this machine train and evaluate as one, are stopped and lost, and go on."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from running_scripts import EXPERIMENTS, REPOSITORY, assert_one_error_line, script, write_config
from saved_state import latest_checkpoint

from vgg_jax.processes import LOST
from vgg_jax.signals import PREEMPTED
from vgg_jax.training.log import read_log

STEPS = int(os.environ.get("VGG_JAX_STEPS", "24"))  # 200 once, by hand


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    train = {"batch_size": 16, "validate_every": 10, "checkpoint_every": 4, "log_every": 1}
    return write_config(tmp_path_factory.mktemp("distributed"), 30, steps=STEPS, scale=(37, 45), **train)


@pytest.fixture(scope="module")
def straight(config_file):
    """The workdir of one process with one device that nothing disturbed."""
    workdir = config_file.parent / "straight"
    run = script("train.py", f"--config={config_file}", f"--workdir={workdir}")
    assert run.returncode == 0, run.stderr
    return workdir


@contextlib.contextmanager
def together(name, count, *arguments, devices=1, last=()):
    """The same script in several processes, the last one with more arguments; what is left of them is ended."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(EXPERIMENTS / name), *map(str, arguments), "--distributed=manual"]
    command += [f"--coordinator=localhost:{port}", f"--process_count={count}"]
    command += [f"--local_devices={','.join(map(str, range(devices)))}"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    runs = [
        subprocess.Popen([*command, f"--process_id={i}", *more], cwd=REPOSITORY, env=environment, **pipes)
        for i, more in enumerate([()] * (count - 1) + [last])
    ]
    try:
        yield runs
    finally:
        for run in runs:
            run.kill()
            run.wait()
            run.stdout.close()
            run.stderr.close()


def outcomes(runs):
    """(exit status, standard output, standard error) of each."""
    ended = [run.communicate(timeout=300) for run in runs]
    return [(run.returncode, *texts) for run, texts in zip(runs, ended)]


def wait_for_step(workdir, step):
    deadline = time.monotonic() + 300
    while not any(row["step"] >= step for row in read_log(workdir / "s256")):
        assert time.monotonic() < deadline, "the training does not come on"
        time.sleep(0.02)


def losses(workdir):
    return {row["step"]: row["train_loss"] for row in read_log(workdir / "s256") if "train_loss" in row}


def assert_same_end(workdir, straight):
    assert latest_checkpoint(workdir) == latest_checkpoint(straight)
    assert losses(workdir) == losses(straight) and len(losses(workdir)) == STEPS
    rows = [json.loads((folder / "results.json").read_text())["rows"] for folder in (workdir, straight)]
    assert rows[0] == rows[1]


def test_two_processes_are_stopped_and_four_go_on(config_file, straight, tmp_path):
    """SIGTERM at one of them stops both at the same step; four processes with two devices each end as one would."""
    arguments = [f"--config={config_file}", f"--workdir={tmp_path}"]
    with together("train.py", 2, *arguments) as runs:
        wait_for_step(tmp_path, 6)
        runs[1].send_signal(signal.SIGTERM)
        stopped = outcomes(runs)
    assert [status for status, *_ in stopped] == [PREEMPTED, PREEMPTED], stopped
    assert "process 0: " in stopped[0][2] and "process 1: " in stopped[0][2]
    assert "the same command goes on from here" in stopped[0][2]
    assert stopped[1][1] == "" and "resumed" not in stopped[1][2]
    assert 6 <= latest_checkpoint(tmp_path)[1]["step"] < STEPS
    with together("train.py", 4, *arguments, devices=2) as runs:
        ended = outcomes(runs)
    assert [status for status, *_ in ended] == [0] * 4, ended
    assert "s256: resumed at step" in ended[0][2] and "| s256 " in ended[0][1]
    assert all(stdout == "" and "resumed" not in stderr for _, stdout, stderr in ended[1:])
    assert_same_end(tmp_path, straight)


def test_the_loss_of_a_process_ends_the_other_and_one_goes_on(config_file, straight, tmp_path):
    arguments = [f"--config={config_file}", f"--workdir={tmp_path}"]
    with together("train.py", 2, *arguments) as runs:
        wait_for_step(tmp_path, 6)
        os.kill(child_of(runs[1].pid), signal.SIGKILL)
        began = time.monotonic()
        lost = outcomes(runs)
        assert time.monotonic() - began < 60  # the promise: within a minute, by the heartbeat
    assert [status for status, *_ in lost] == [LOST, LOST], lost
    assert "another process was lost" in lost[0][2] and "start all processes again" in lost[0][2]
    assert "the process was ended by SIGKILL" in lost[1][2]
    run = script("train.py", *arguments, "--config.data.workers=2")
    assert run.returncode == 0, run.stderr
    assert_same_end(tmp_path, straight)


def test_one_process_is_stopped_while_workers_decode(config_file, straight, tmp_path):
    """As a terminal does at Ctrl-C, SIGINT goes to the workers too."""
    command = [sys.executable, str(EXPERIMENTS / "train.py"), f"--config={config_file}", f"--workdir={tmp_path}"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(
        [*command, "--config.data.workers=2"], cwd=REPOSITORY, env=environment, start_new_session=True, **pipes
    ) as run:
        wait_for_step(tmp_path, 6)
        os.killpg(run.pid, signal.SIGINT)
        _, stderr = run.communicate(timeout=30)  # the promise: within 30 s
    assert run.returncode == PREEMPTED, stderr
    assert "stopping; what is done is kept" in stderr and "Traceback" not in stderr
    assert stderr.rstrip().endswith("stopped: the same command goes on from here")
    run = script("train.py", f"--config={config_file}", f"--workdir={tmp_path}")
    assert run.returncode == 0, run.stderr
    assert_same_end(tmp_path, straight)


def child_of(pid):
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


def test_two_processes_evaluate_as_one(straight, tmp_path):
    arguments = [f"--workdir={straight}", "--protocol=both", "--save_posteriors"]
    alone = script("evaluate.py", *arguments, f"--output={tmp_path / 'alone'}")
    assert alone.returncode == 0, alone.stderr
    with together("evaluate.py", 2, *arguments, f"--output={tmp_path / 'two'}") as runs:
        ended = outcomes(runs)
    assert [status for status, *_ in ended] == [0, 0], ended
    assert ended[0][1] == alone.stdout and ended[1][1] == ""
    rows = [(tmp_path / name / "results.json").read_text() for name in ("alone", "two")]
    assert rows[0] == rows[1]


def test_different_configs_are_noticed(config_file, tmp_path):
    arguments = [f"--config={config_file}", f"--workdir={tmp_path}"]
    with together("train.py", 2, *arguments, last=["--config.seed=1"]) as runs:
        ended = outcomes(runs)
    assert all(status != 0 for status, *_ in ended), ended
    assert "error: the processes have different configs" in ended[0][2] + ended[1][2]
    assert not (tmp_path / "config.json").exists()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--distributed=manual"], "--distributed=manual needs --coordinator, --process_count, --process_id"),
        (["--distributed=slurm", "--process_count=2"], "belong to --distributed=manual"),
        (["--distributed=auto"], "--distributed=auto found no other processes"),
        (["--distributed=manual", "--coordinator=localhost:1", "--process_count=2", "--process_id=2"], "from 0 to 1"),
        (["--local_devices=all"], "--local_devices is all, but numbers are expected"),
    ],
)
def test_wrong_flags_give_one_sentence(config_file, tmp_path, arguments, words):
    run = script("train.py", f"--config={config_file}", f"--workdir={tmp_path}", *arguments)
    assert_one_error_line(run, words)
