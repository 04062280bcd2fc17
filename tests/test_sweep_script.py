import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from running_scripts import EXPERIMENTS, assert_one_error_line, script, write_config

from vgg_jax.signals import PREEMPTED
from vgg_jax.sweep.attempts import read_attempts

SEEDS = "--sweep=config.seed=[0,1]"


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    data = {"statistics": "imagenet", "threads": 1}
    train = {"batch_size": 8, "micro_batches": 1, "validate_every": 1000, "log_every": 1}
    return write_config(tmp_path_factory.mktemp("sweep"), 8, steps=400, data=data, **train)


@contextlib.contextmanager
def started(*flags):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, str(EXPERIMENTS / "sweep.py"), *flags]
    with subprocess.Popen(command, env=environment, **streams) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)


def test_a_sweep_is_stopped_and_goes_on(config_file):
    root = config_file.parent / "runs"
    flags = [f"--config={config_file}", f"--runs={root}", "--sweep=config.stages.s256.learning_rate=[0.01]"]
    workdir = root / "learning_rate=0.01"
    with started(*flags) as process:
        log = workdir / "s256" / "metrics.jsonl"
        while not (log.exists() and log.stat().st_size) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == PREEMPTED, err
    assert "| 0.01          | preempted | " in out
    assert err.endswith("stopped: the same command goes on from here\n")

    report = script("sweep.py", f"--runs={root}", "--report")
    assert report.returncode == 0 and report.stdout == out

    again = script("sweep.py", *flags)
    assert again.returncode == 0, again.stderr
    assert "| 0.01          | done  | s256  | " in again.stdout
    assert [attempt["status"] for attempt in read_attempts(workdir)] == [PREEMPTED, 0]
    assert "s256: resumed at step" in (workdir / "train.log").read_text()
    (row,) = json.loads((root / "sweep.json").read_text())["rows"]
    assert row["state"] == "done"

    once_more = script("sweep.py", *flags)
    assert once_more.returncode == 0 and once_more.stdout == again.stdout
    assert len(read_attempts(workdir)) == 2

    other = script("sweep.py", *flags, "--config.train.batch_size=16")
    assert_one_error_line(other, "learning_rate=0.01 was made with another config", "train.batch_size: saved 8, now 16")


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--sweep=config.sede=[0,1]"], ["unknown field", "sede"]),
        (['--sweep=config.seed=[0,"many"]'], ["--config.seed=many"]),
        (["--sweep=config.train.log_every=[1,0]"], ["log_every=0: train.log_every is 0"]),
        (['--sweep=distributed=["none","never"]'], ["--distributed=never"]),
        ([SEEDS, "--config.seed=3"], ["--config.seed is given and swept"]),
        ([SEEDS, "--job=3"], ["'job'"]),
        ([SEEDS, "more"], ["unexpected argument 'more'"]),
    ],
)
def test_mistakes_are_told_before_anything_starts(config_file, tmp_path, flags, words):
    run = script("sweep.py", "--config", config_file, f"--runs={tmp_path / 'runs'}", *flags)
    assert_one_error_line(run, *words)
    assert not (tmp_path / "runs").exists()


def test_a_sweep_needs_a_config_of_its_own_or_in_each_point(config_file, tmp_path):
    assert_one_error_line(script("sweep.py", SEEDS), "give --config")
    swept = f'--sweep=config=["{config_file}","configs/none.py"]'
    assert_one_error_line(script("sweep.py", swept, f"--runs={tmp_path}"), "--config=configs/none.py is neither here")
