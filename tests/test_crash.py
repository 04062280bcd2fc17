"""The crash harness in short: killed trainings end as they should, and what does not is noticed."""

import json
import sys

import pytest
from running_scripts import EXPERIMENTS, script

sys.path.insert(0, str(EXPERIMENTS / "benchmarks"))
import crash


@pytest.mark.parametrize("target", ["worker"])
def test_killed_trainings_survive(target, tmp_path):
    """30 kills of each target are for the command line."""
    file = tmp_path / "crash.json"
    run = script("benchmarks/crash.py", "--kills=1", f"--targets={target}", "--steps=12", f"--json={file}")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "survived 1 of 1 kills" in run.stdout
    (row,) = json.loads(file.read_text())["rows"]
    assert (row["target"], row["tried"], row["survived"], row["failures"]) == (target, 1, 1, [])


def test_what_is_wrong_is_told():
    good = {"a": b"1", "b": b"2"}
    assert crash.difference(good, dict(good), set()) == ""
    assert crash.difference(good, {"a": b"1", "b": b"3"}, set()) == "1 arrays differ, as b"
    assert crash.difference(good, {"a": b"1"}, set()) == "1 arrays differ, as b"
    assert "psm_1" in crash.difference(good, dict(good), {"psm_1"})
