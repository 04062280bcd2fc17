import functools
import json

import pytest
from reproduction_results import make_workdir
from running_scripts import assert_one_error_line, script, write_noise

CONFIG = """
from configs.base import base, stage


def get_config(arch="D"):
    config = base()
    config.model.update(arch=arch, width_multiplier=0.03, crop_size=32)
    config.data.update(source="folder", path="given by --data_path", val_fraction=0.25, test_fraction=0.25)
    config.data.update(name="noise", statistics="imagenet", threads=2)
    config.train.update(batch_size=8)
    config.eval.split = "test"
    config.stages.s256 = stage((37, 37), 0.01, 2)
    config.chain = ("s256",)
    return config
"""


reproduce = functools.partial(script, "reproduce.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduce")
    write_noise(folder / "pictures", 12)
    (folder / "noise.py").write_text(CONFIG)
    return folder


def test_one_command_trains_evaluates_and_reports(folder):
    """Given again, it neither trains nor evaluates what is there."""
    arguments = [f"--runs={folder / 'runs'}", "--tables=1,3,4", f"--data_path={folder / 'pictures'}"]
    arguments += ["--train", f"--config={folder / 'noise.py'}", "--nets=A", "--train_flag=--config.data.threads=1"]
    run = reproduce(*arguments)
    assert run.returncode == 0, run.stderr
    assert "s256: S = 37, 2 steps" in run.stderr
    assert "### Table 3: ConvNet performance at a single test scale" in run.stdout
    assert "| A     | 256       | 256      | 37     | 37     | 29.6" in run.stdout
    assert "* not run (sec. 4.1): Local response normalisation does not help" in run.stdout
    report = folder / "runs" / "report"
    content = json.loads((report / "reproduction.json").read_text())
    assert [table["id"] for table in content["tables"]] == ["table1", "table3", "table4"]
    assert content["setting"]["num_images"] == 6 and content["setting"]["split"] == "test"
    assert "Table 3" in (report / "report.html").read_text() and "Table 3" in (report / "report.md").read_text()
    rows = json.loads((report / "rows.json").read_text())["rows"]
    assert {(row["arch"], row["seed"], row["num_images"]) for row in rows} == {("A", 0, 6)}
    assert json.loads((folder / "runs" / "seed0" / "A" / "config.json").read_text())["data"]["threads"] == 1
    again = reproduce(*arguments)
    assert again.returncode == 0 and again.stdout == run.stdout
    assert "s256" not in again.stderr


def test_a_failing_training_ends_in_a_sentence(folder, tmp_path):
    arguments = [f"--runs={tmp_path}", "--train", f"--config={folder / 'noise.py'}", "--nets=A", "--data_path=nowhere"]
    run = reproduce(*arguments)
    assert run.returncode == 1
    assert "error: the training of net A with seed 0 ended with status 1, last saying: " in run.stderr.splitlines()[-1]
    assert "nowhere" in run.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--seeds=one"], ["--seeds is one, but whole numbers are expected"]),
        (["--train"], ["--train needs --config"]),
    ],
)
def test_mistakes_end_in_one_sentence(tmp_path, arguments, words):
    assert_one_error_line(reproduce(f"--runs={tmp_path}", *arguments), *words)


def test_require_stops_where_rows_are_missing(tmp_path):
    make_workdir(tmp_path / "A")
    run = reproduce(f"--runs={tmp_path}", "--require", "--tables=3")
    assert_one_error_line(run, "11 rows of the tables name nets that no workdir holds trained", "A-LRN s256 (seed 0)")
