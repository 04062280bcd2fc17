"""A sweep on a real Slurm, started here: one training preempted and requeued to its end, one that fails."""

import json
import os
import subprocess
import sys
import time

import pytest
from running_scripts import EXPERIMENTS, write_config
from saved_state import latest_checkpoint
from slurm_cluster import Unavailable, cluster, install

from vgg_jax.signals import PREEMPTED
from vgg_jax.sweep.attempts import read_attempts
from vgg_jax.training.log import read_log

DIVERGING, PREEMPTED_RATE = 1e30, 0.003
RATES = [DIVERGING, 0.01, 0.001, PREEMPTED_RATE]


def write_tiny_config(folder):
    data = {"statistics": "imagenet", "threads": 1}
    train = {"batch_size": 8, "micro_batches": 1, "validate_every": 1000, "log_every": 1}
    return write_config(folder, 12, steps=150, data=data, **train)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    try:
        install()
        with cluster(tmp_path_factory.mktemp("slurm")) as config, pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", str(config))
            yield
    except Unavailable as why:
        pytest.skip(f"no Slurm to test on: {why}")


@pytest.fixture(scope="module")
def sweep(slurm, tmp_path_factory):
    """A finished sweep of four trainings, the last of which was preempted: (its folder, what sweep.py printed)."""
    folder = tmp_path_factory.mktemp("sweep")
    write_tiny_config(folder)
    root = folder / "runs"
    arguments = ["--config=tiny.py", f"--sweep=config.stages.s256.learning_rate={json.dumps(RATES)}", "--slurm"]
    command = [sys.executable, str(EXPERIMENTS / "sweep.py"), *arguments, f"--runs={root}"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=folder, **streams) as process:
        try:
            preempt(root, process)
            out, err = process.communicate(timeout=240)
        finally:
            process.kill()
    return root, out, err, process.returncode


def preempt(root, process):
    """Tell the last training to stop, as a cluster does, once it has made some steps."""
    workdir = root / f"learning_rate={PREEMPTED_RATE}"
    for _ in range(3600):
        if len(read_log(workdir / "s256")) > 3:
            break
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    job = read_attempts(workdir)[0]["job"]
    subprocess.run(["scancel", "--signal=TERM", job], check=True)


def test_the_preempted_training_is_requeued_to_its_end(sweep):
    root = sweep[0]
    attempts = read_attempts(root / f"learning_rate={PREEMPTED_RATE}")
    assert [attempt["status"] for attempt in attempts] == [PREEMPTED, 0]
    log = (root / f"learning_rate={PREEMPTED_RATE}" / "train.log").read_text()
    assert "s256: resumed at step" in log
    steps = [row["step"] for row in read_log(root / f"learning_rate={PREEMPTED_RATE}" / "s256") if "train_loss" in row]
    assert steps == list(range(1, 151))


def test_the_others_run_once(sweep):
    """The array's last task has the array's own number: to requeue that would start all of them again."""
    attempts = {rate: read_attempts(sweep[0] / f"learning_rate={rate}") for rate in RATES}
    statuses = {rate: [attempt["status"] for attempt in attempts[rate]] for rate in RATES}
    assert statuses == {DIVERGING: [1], 0.01: [0], 0.001: [0], PREEMPTED_RATE: [PREEMPTED, 0]}


def test_the_table_has_results_and_the_failure(sweep):
    root, out, err, status = sweep
    rows = json.loads((root / "sweep.json").read_text())["rows"]
    assert [row["state"] for row in rows] == ["done", "done", "done", "failed"]
    errors = [row["val_top1_error"] for row in rows[:3]]
    assert errors == sorted(errors)
    assert rows[3]["fields"] == {"learning_rate": DIVERGING}
    assert "the training diverged" in rows[3]["error"] and "the training diverged" in out
    assert status == 1 and "error: 1 of 4 trainings failed" in err


def test_a_job_of_two_processes_ends_as_one_would(slurm, tmp_path):
    train = [sys.executable, str(EXPERIMENTS / "train.py"), f"--config={write_tiny_config(tmp_path)}"]
    train += ["--config.stages.s256.steps=6", "--config.train.micro_batches=2", "--config.train.log_every=3"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    job = ["srun", "--ntasks=2", *train, f"--workdir={tmp_path / 'two'}", "--distributed=slurm", "--local_devices=0"]
    together = subprocess.run(job, env=environment, capture_output=True, text=True)
    assert together.returncode == 0, together.stderr
    assert "process 0: " in together.stderr and "; process 1: " in together.stderr  # the device map
    assert together.stdout.count("| s256 ") == 1
    alone = subprocess.run([*train, f"--workdir={tmp_path / 'one'}"], env=environment, capture_output=True, text=True)
    assert alone.returncode == 0, alone.stderr
    assert latest_checkpoint(tmp_path / "two") == latest_checkpoint(tmp_path / "one")
