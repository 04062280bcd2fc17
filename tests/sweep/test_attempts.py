import json
import os
import socket
import subprocess
import sys

import pytest
from sweep_trainings import BATCH, STEPS, finish, make_run, write_steps

from vgg_jax.sweep.attempts import images_seen, is_mistake, last_words, read_attempts, state, write_end, write_start


@pytest.fixture
def run(tmp_path):
    run = make_run(tmp_path, "seed=0")
    run.workdir.mkdir()
    return run


def on_slurm(run, job="17_3", **end):
    line = {"start": "2026-11-24T12:00:00+00:00", "host": "node7", "job": job}
    with (run.workdir / "attempts.jsonl").open("a") as file:
        file.write("".join(json.dumps(record) + "\n" for record in (line, end) if record))


def test_a_training_that_nobody_started(run):
    assert state(run) == "not started"
    assert images_seen(run) == 0


@pytest.mark.parametrize(
    "status, expected",
    [(75, "preempted"), (-15, "preempted"), (143, "preempted"), (1, "failed"), (-9, "failed"), (0, "failed")],
)
def test_the_state_after_an_end(run, status, expected):
    """Status 0 without results is no success: somebody took them away."""
    write_start(run.workdir, 1)
    write_end(run.workdir, status)
    assert state(run) == expected
    assert [attempt["status"] for attempt in read_attempts(run.workdir)] == [status]


def test_done_is_what_the_workdir_says(run):
    finish(run.workdir, 20.0)
    assert state(run) == "done" and images_seen(run) == STEPS * BATCH == run.images
    longer = run._replace(stages={"s256": STEPS + 5})
    assert state(longer) == "not started" and images_seen(longer) == STEPS * BATCH
    assert state(run._replace(stages={"s256": STEPS, "s384": 5})) == "not started"
    (run.workdir / "results.json").unlink()
    assert state(run) == "not started"


def test_a_process_of_this_machine_runs_as_long_as_it_is_there(run):
    program = [sys.executable, "-c", "input()", str(run.workdir)]
    with subprocess.Popen(program, stdin=subprocess.PIPE) as process:
        write_start(run.workdir, process.pid)
        assert state(run) == "running"
        process.communicate(b"\n")
    assert state(run) == "failed"
    assert last_words(run) == "ended without a word: killed, or its machine was lost"


def test_another_process_with_the_same_number(run):
    write_start(run.workdir, os.getpid())
    assert state(run) == "failed"


def test_what_runs_elsewhere_is_taken_for_running(run):
    write_start(run.workdir, 1)
    path = run.workdir / "attempts.jsonl"
    path.write_text(path.read_text().replace(socket.gethostname(), "elsewhere"))
    assert state(run) == "running"


def test_slurm_knows_its_jobs(run):
    on_slurm(run)
    assert state(run) == "running"  # Slurm cannot be asked
    assert state(run, {"17_3": "RUNNING"}) == state(run, {"17_3": "COMPLETING"}) == "running"
    assert state(run, {"17_3": "PENDING"}) == "preempted"
    assert state(run, {"17_2": "RUNNING"}) == "failed"
    on_slurm(run, job="18_3", end="", status=75)
    assert state(run, {"18_3": "PENDING"}) == "preempted"


def test_progress_is_read_from_the_log(run):
    write_steps(run.workdir, steps=4)
    assert images_seen(run) == 4 * BATCH
    with (run.workdir / "s256" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "train_loss": 1.0}\n{"step": 6, "tra')
    assert images_seen(run) == 5 * BATCH


def test_the_last_words(run):
    write_start(run.workdir, 1)
    write_end(run.workdir, 1)
    assert last_words(run) == "ended with status 1"
    log = "first\ns256: 10%|=\rs256: 20%|==\r\nerror: the loss is nan\n\nsrun: error: node7: task 0: Exited\n"
    (run.workdir / "train.log").write_text("x" * 100_000 + log)
    assert last_words(run) == "error: the loss is nan"
    write_end(run.workdir, -9)
    assert last_words(run) == "ended by SIGKILL"


def test_a_mistake_is_told_in_a_sentence():
    assert is_mistake(1, "error: no such folder") and is_mistake(1, "process 1: error: no such folder")
    assert not is_mistake(1, "ValueError: no such folder") and not is_mistake(76, "error: a process was lost")
