"""train.py --dry_run: what a training needs, with nothing trained."""

import json

import pytest
from running_scripts import assert_one_error_line, script, write_config
from tiny_training import make_config

from vgg_jax.training import dry_run


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("tiny"), 16, steps=6, batch_size=8, micro_batches=2)


def test_a_workdir_stays_as_it_is(config_file, tmp_path):
    """Two of six steps are done."""
    finished = tmp_path / "s256" / "finished.json"
    finished.parent.mkdir()
    finished.write_text(json.dumps({"steps": 2}))
    run = script("train.py", f"--config={config_file}", f"--workdir={tmp_path}", "--dry_run")
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert "net A: 25,695 parameters, 2 classes; 1 devices, each with" in run.stdout
    row = next(line for line in run.stdout.splitlines() if line.startswith("| s256"))
    stage, steps, images, gflop, memory, seconds, left = (cell.strip() for cell in row.strip("|").split("|"))
    assert (stage, steps, images, left) == ("s256", "4", "8", "0:00:00")
    assert float(gflop) > 0 and memory.endswith(" MB") and float(seconds) > 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [finished]


def test_a_config_that_cannot_be(config_file, tmp_path):
    arguments = (f"--config={config_file}", f"--workdir={tmp_path / 'run'}", "--dry_run")
    assert_one_error_line(script("train.py", *arguments, "--config.train.batch_size=0"), "train.batch_size is 0")
    assert not (tmp_path / "run").exists()


def test_alternatives_and_their_table(pictures):
    config = make_config(pictures, train__batch_size=16, train__micro_batches=8)
    found = dry_run.alternatives(config)
    settings = [(c.train.batch_size, c.train.micro_batches, c.train.remat, c.model.dtype) for c in found]
    expected = [(b, m, r, d) for b, m in ((16, 8), (16, 16), (8, 8)) for r in (0, 1) for d in ("float32", "bfloat16")]
    assert settings == expected
    row = {"arch": "A", "batch_size": 16, "micro_batches": 8, "remat": True, "dtype": "float32"}
    table = dry_run.memory_table([{**row, "temporaries": 10**9, "peak": 3 * 10**9}], 2 * 10**9)
    cells = [cell.strip() for cell in table.splitlines()[-1].strip("|").split("|")]
    assert cells == ["A", "16", "8", "yes", "float32", "1.00 GB", "3.00 GB", "no"]
