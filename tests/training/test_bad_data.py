"""A training on a set with odd and bad files: it goes on to its end, tells of each bad file once, and is exact."""

import logging

import pytest
from odd_images import write_odd_folder
from saved_state import latest_checkpoint
from tiny_training import make_config

from vgg_jax.data.bad_images import write_bad_images
from vgg_jax.data.sources import open_source
from vgg_jax.training.chain import run_chain

# Where a script runs, decode.py silences it; in tests warnings are errors.
pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("odd") / "set"
    return root, write_odd_folder(root)


def config(root, **fields):
    return make_config(root, **{"data__on_error": "skip", **fields})


@pytest.fixture(scope="module")
def straight(folder, tmp_path_factory):
    workdir, told = tmp_path_factory.mktemp("straight"), []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    logging.getLogger("vgg_jax").addHandler(handler)
    rows = run_chain(config(folder[0]), workdir)
    logging.getLogger("vgg_jax").removeHandler(handler)
    return workdir, rows, told


def test_each_bad_file_is_listed_once(folder, straight):
    assert (straight[0] / "bad_images.txt").read_text().splitlines() == folder[1]


def test_what_is_left_out_is_told(folder, straight):
    _, (row,), told = straight
    val, bad = open_source("folder", str(folder[0]), "val", val_fraction=0.25), folder[1]
    left_out = [name for name in val.files if name in bad]
    assert left_out and row["num_skipped"] == len(left_out) and row["num_images"] == len(val) - len(left_out)
    of_statistics = f"colour statistics: {len(bad) - len(left_out)} of "
    of_validation = f"validation left out {len(left_out)} of {len(val)} images"
    of_evaluation = f"{len(left_out)} of {len(val)} images could not be read: left out"
    for words, times in ((of_statistics, 1), (of_validation, 2), (of_evaluation, 1)):
        assert sum(message.startswith(words) for message in told) == times, told
    for name in bad:
        assert sum(name in message for message in told) <= 1
    assert any(f"left out of validation: {left_out[0]}" in message for message in told)


def test_a_resumed_run_ends_with_the_same_bits(folder, straight, tmp_path):
    """Begun with two processes that decode, gone on with none and a list of what may be passed over."""
    workdir, known = tmp_path / "workdir", tmp_path / "known.txt"
    run_chain(config(folder[0], data__workers=2, stages__s256__steps=3), workdir)
    assert latest_checkpoint(workdir)[1]["step"] == 3
    write_bad_images(known, dict.fromkeys(folder[1], "seen before"))
    run_chain(config(folder[0], data__on_error=f"skip:{known}"), workdir)
    assert latest_checkpoint(workdir) == latest_checkpoint(straight[0])
    assert (workdir / "bad_images.txt").read_text().splitlines() == folder[1]
