"""A run that is told to stop saves what is finished, and goes on as if nothing had been."""

import json
import os
import signal
import subprocess
import sys

import pytest
from saved_state import latest_checkpoint
from tiny_training import make_config

from vgg_jax import signals
from vgg_jax.training import loop
from vgg_jax.training.chain import run_chain
from vgg_jax.training.log import read_log


@pytest.fixture(scope="module")
def straight(pictures, tmp_path_factory):
    """What a run that nothing disturbed has in the end."""
    workdir = tmp_path_factory.mktemp("straight")
    run_chain(make_config(pictures), workdir)
    return latest_checkpoint(workdir)


@pytest.fixture(autouse=True)
def handlers():
    """Signals stop the run within a test, and are forgotten after it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signals.stop_on_signals()
    yield
    forget()
    for number, handler in before.items():
        signal.signal(number, handler)


def forget():
    signals._Signals.requested = False


def tell(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


def told_at(call, function, number=signal.SIGTERM):
    """The function, whose given call begins with a signal."""
    calls = 0

    def telling(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == call:
            tell(number)
        return function(*arguments, **options)

    return telling


def assert_goes_on(config, workdir, straight):
    forget()
    run_chain(config, workdir)
    assert latest_checkpoint(workdir) == straight
    steps = [row["step"] for row in read_log(workdir / "s256") if "val_loss" in row]
    assert steps == [2, 4, 6]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("long, kept", [(False, 3), (True, 2)])
def test_a_step_that_runs_is_finished_or_dropped(monkeypatch, pictures, straight, tmp_path, number, long, kept):
    next_batch = told_at(3, lambda batches: next(batches), number)  # before step 3

    def telling(*arguments, **options):
        batches = make_batches(*arguments, **options)
        while True:
            yield next_batch(batches)

    make_batches = loop.stage_batches
    with monkeypatch.context() as patch:
        patch.setattr(loop, "is_long", lambda *_: long)
        patch.setattr(loop, "stage_batches", telling)
        with pytest.raises(signals.Stopped):
            run_chain(make_config(pictures), tmp_path)
    assert latest_checkpoint(tmp_path)[1]["step"] == kept
    assert not (tmp_path / "s256" / "finished.json").exists()
    assert_goes_on(make_config(pictures), tmp_path, straight)


class Running:
    """The loss of a step that does not come to its end; who looks is told to stop."""

    def is_ready(self):
        tell()
        return False


def test_a_long_step_is_given_up(monkeypatch, pictures, straight, tmp_path):
    make_step = loop.fitting_step

    def make_endless_step(*arguments, **options):
        assert options["donate"] is False
        step = make_step(*arguments, **options)

        def endless(state, batch):
            state, metrics = step(state, batch)
            return state, {**metrics, "loss": Running()} if int(state.step) == 5 else metrics

        return endless

    with monkeypatch.context() as patch:
        patch.setattr(loop, "is_long", lambda *_: True)
        patch.setattr(loop, "fitting_step", make_endless_step)
        with pytest.raises(signals.Stopped):
            run_chain(make_config(pictures), tmp_path)
    assert latest_checkpoint(tmp_path)[1]["step"] == 4
    assert_goes_on(make_config(pictures), tmp_path, straight)


@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_validation_is_done_again(monkeypatch, pictures, straight, tmp_path, at_the_end):
    make_validation = loop.make_validation
    with monkeypatch.context() as patch:
        call = 3 if at_the_end else 1
        patch.setattr(loop, "make_validation", lambda *a: told_at(call, make_validation(*a)))
        with pytest.raises(signals.Stopped):
            run_chain(make_config(pictures), tmp_path)
    info = latest_checkpoint(tmp_path)[1]
    assert info["step"] == 2 * call and info["progress"]["validation_due"] and info["val_top1_error"] is None
    assert_goes_on(make_config(pictures), tmp_path, straight)
    assert not straight[1]["progress"]["validation_due"]


def test_a_stop_between_checkpoint_and_first_step_saves_nothing_twice(monkeypatch, pictures, straight, tmp_path):
    run_chain(make_config(pictures, stages__s256__steps=4), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "is_long", lambda *_: True)
        patch.setattr(loop, "stage_batches", told_at(1, loop.stage_batches))
        with pytest.raises(signals.Stopped):
            run_chain(make_config(pictures), tmp_path)
    assert latest_checkpoint(tmp_path)[1]["step"] == 4
    forget()
    run_chain(make_config(pictures), tmp_path)
    assert latest_checkpoint(tmp_path)[0] == straight[0]


def test_plateau_decisions_survive_a_stop(monkeypatch, pictures, tmp_path):
    """The rate drops at the same steps when every validation is interrupted once."""
    fields = {"stages__s256__rate_control": "plateau", "rate_control__patience": 1, "rate_control__min_delta": 100.0}
    config = make_config(pictures, stages__s256__steps=8, **fields)
    run_chain(config, tmp_path / "straight")
    make_validation = loop.make_validation
    for _ in range(4):
        with monkeypatch.context() as patch:
            patch.setattr(loop, "make_validation", lambda *a: told_at(2, make_validation(*a)))
            forget()
            try:
                run_chain(config, tmp_path / "stopped")
            except signals.Stopped:
                continue
    forget()
    run_chain(config, tmp_path / "stopped")
    assert latest_checkpoint(tmp_path / "stopped") == latest_checkpoint(tmp_path / "straight")
    rates = {json.dumps([r["learning_rate"] for r in read_log(tmp_path / d / "s256") if "learning_rate" in r])
             for d in ("straight", "stopped")}  # fmt: skip
    assert len(rates) == 1 and "0.001" in rates.pop()


def test_outside_of_a_deferred_part_a_signal_raises_at_once():
    with pytest.raises(signals.Stopped):
        tell()
    assert signals.requested() and signals.agreed()
    forget()
    with pytest.raises(signals.Stopped), signals.deferred():
        with signals.deferred():
            tell()
        assert signals.requested()  # and nothing was raised yet


def test_a_second_interrupt_ends_at_once():
    program = (
        "import os, signal\nfrom vgg_jax import signals\nsignals.stop_on_signals()\nwith signals.deferred():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n    os.kill(os.getpid(), signal.SIGINT)\n    print('too far')\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 128 + signal.SIGINT and run.stdout == ""
