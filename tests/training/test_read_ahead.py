"""The next batch is sent to the device while a step runs: an order of events, no times."""

import pytest
from tiny_training import make_config

from vgg_jax.training import chain, loop

STEPS = 6


class Loss(float):
    """A loss that notes when it is asked whether its step has ended."""

    def is_ready(self):
        self.ask()
        return True


@pytest.fixture(scope="module")
def events(pictures, tmp_path_factory):
    """("sent", n), ("begun", n) and ("awaited", n) of each batch and step, in their order; the steps do nothing."""
    noted, send = [], loop.parallel.shard_batch

    def note(what, number):
        if (what, number) not in noted:
            noted.append((what, number))

    def numbered_step(*_, **__):
        numbers = iter(range(1, STEPS + 1))

        def step(state, batch):
            number = next(numbers)
            note("begun", number)
            loss = Loss(1.0)
            loss.ask = lambda: note("awaited", number)
            return state, {"loss": loss, "top1_error": 50.0, "update_norm": 1.0}

        return step

    sent = iter(range(1, STEPS + 1))

    def noting_send(batch, mesh):
        note("sent", next(sent))
        return send(batch, mesh)

    def validation(*_):
        return lambda params: {"loss": 1.0, "top1_error": 50.0, "top5_error": 0.0}

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(loop, "fitting_step", numbered_step)
        monkeypatch.setattr(loop.parallel, "shard_batch", noting_send)
        monkeypatch.setattr(loop, "make_validation", validation)
        monkeypatch.setattr(chain, "_stage_row", lambda *_: {})
        config = make_config(pictures, train__validate_every=STEPS)
        chain.run_chain(config, tmp_path_factory.mktemp("watched"))
    return noted


def test_a_batch_is_on_its_way_before_the_step_before_it_is_awaited(events):
    for number in range(1, STEPS):
        assert events.index(("sent", number + 1)) < events.index(("awaited", number))


def test_no_more_than_one_batch_waits_on_the_device(events):
    for number in range(2, STEPS):
        assert events.index(("awaited", number - 1)) < events.index(("sent", number + 1))
