import json

import pytest
from reproduction_results import evaluated, make_workdir

from vgg_jax.errors import InputError
from vgg_jax.reproduction import runs as runs_module
from vgg_jax.reproduction.manifest import protocol
from vgg_jax.reproduction.runs import (
    common_split,
    evaluate_rows,
    find_runs,
    require_all,
    stage_to_show,
)

A, D, FUSION = protocol("A/256/256"), protocol("D/384/352,384,416"), protocol("A/256/256 D/384/352,384,416", "dense")


def test_workdirs_are_found_at_any_depth_by_seed_and_net(tmp_path):
    a = make_workdir(tmp_path / "seed0" / "A")
    d = make_workdir(tmp_path / "seed0" / "deep" / "D", "D")
    b = make_workdir(tmp_path / "other", "B", seed=3)
    (tmp_path / "report").mkdir()
    make_workdir(a / "s256" / "checkpoints" / "inside", "A")  # inside a workdir: not looked at
    found = find_runs(tmp_path)
    assert {seed: {arch: w.path for arch, w in nets.items()} for seed, nets in found.items()} == {
        0: {"A": a, "D": d},
        3: {"B": b},
    }
    assert list(find_runs(tmp_path, [3])) == [3]


def test_paths_stay_as_given(tmp_path, monkeypatch):
    make_workdir(tmp_path / "A")
    monkeypatch.chdir(tmp_path.parent)
    runs = find_runs(runs_module.Path(tmp_path.name))
    assert str(runs[0]["A"].path) == f"{tmp_path.name}/A"


def test_a_folder_without_workdirs(tmp_path):
    with pytest.raises(InputError, match=r"no workdir of train.py lies below .*absent"):
        find_runs(tmp_path / "absent")
    make_workdir(tmp_path / "A")
    with pytest.raises(InputError, match=r"no workdir of train.py of seed 2 lies below"):
        find_runs(tmp_path, [0, 2])


def test_two_workdirs_of_one_net_and_seed(tmp_path):
    make_workdir(tmp_path / "one")
    make_workdir(tmp_path / "two")
    with pytest.raises(InputError, match=r"one and .*two are both net A with seed 0: move one of them out of"):
        find_runs(tmp_path)


@pytest.mark.parametrize(
    "field, value, words",
    [
        ("data__name", "flowers", "data set is 'pictures' and 'flowers'"),
        ("data__split_seed", 1, "data.split_seed is 0 and 1"),
        ("model__crop_size", 64, "model.crop_size is 32 and 64"),
        ("model__width_multiplier", 0.25, "model.width_multiplier is 0.125 and 0.25"),
    ],
)
def test_workdirs_that_do_not_belong_together(tmp_path, field, value, words):
    make_workdir(tmp_path / "A")
    make_workdir(tmp_path / "B", "B", seed=1, **{field: value})
    with pytest.raises(InputError, match=f"do not belong to one reproduction: {words}"):
        find_runs(tmp_path)


def test_workdirs_of_other_classes(tmp_path):
    make_workdir(tmp_path / "A")
    make_workdir(tmp_path / "B", "B", classes=("bee", "ant"))
    with pytest.raises(InputError, match=r"A/classes.txt and .*B/classes.txt name different classes"):
        find_runs(tmp_path)


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"model": 3}'])
def test_a_config_of_something_else(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config.json is no config that train.py wrote"):
        find_runs(tmp_path)


@pytest.fixture
def calls(monkeypatch):
    """What evaluate_members was asked, in order."""
    made = []

    def fake(members, method, **options):
        made.append(([(str(m.stage), m.scales) for m in members], method, options))
        return evaluated(A)

    monkeypatch.setattr(runs_module, "evaluate_members", fake)
    return made


def test_rows_of_trained_nets_are_evaluated(tmp_path, calls):
    """D's s384 is not finished with seed 1, and there is no A."""
    a, d = make_workdir(tmp_path / "0A"), make_workdir(tmp_path / "0D", "D", stages=("s256", "s384"))
    make_workdir(tmp_path / "1D", "D", seed=1)
    results = evaluate_rows(find_runs(tmp_path), [A, D, FUSION], split="test", data_path="there")
    assert list(results) == [(A, 0), (D, 0), (FUSION, 0)]
    of_a, of_d = (f"{a}/s256", (37,)), (f"{d}/s384", (50, 55, 60))
    assert [call[0] for call in calls] == [[of_a], [of_d], [of_a, of_d]]
    assert calls[0][1:] == ("dense", {"split": "test", "data_path": "there", "save_posteriors": True})


def test_require_names_what_is_missing(tmp_path):
    make_workdir(tmp_path / "0D", "D")
    runs = find_runs(tmp_path)
    message = r"2 rows of the tables name nets that no workdir holds trained: A s256 \(seed 0\), D s384 \(seed 0\); "
    with pytest.raises(InputError, match=message):
        require_all(runs, [A, FUSION])
    require_all(runs, [protocol("D/256/256")])


def test_a_config_without_the_scale_of_a_row(tmp_path, calls):
    path = make_workdir(tmp_path / "D", "D")
    config = json.loads((path / "config.json").read_text())
    config["stages"] = {"s256": {"scale": [37, 37]}}
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="D/256/512 needs the test scale that stands for Q = 512"):
        evaluate_rows(find_runs(tmp_path), [protocol("D/256/512")], split="test")


def test_the_split_is_the_configs(tmp_path):
    make_workdir(tmp_path / "A")
    assert common_split(find_runs(tmp_path)) == "test"
    make_workdir(tmp_path / "B", "B", eval__split="val")
    with pytest.raises(InputError, match=r"different splits, test \(.*A\) and val \(.*B\): choose one with --split"):
        common_split(find_runs(tmp_path))


def test_the_stage_to_show(tmp_path):
    make_workdir(tmp_path / "A", stages=())
    with pytest.raises(InputError, match="no net is trained yet"):
        stage_to_show(find_runs(tmp_path))
    make_workdir(tmp_path / "C", "C", stages=("s256", "s384"))
    assert stage_to_show(find_runs(tmp_path)) == tmp_path / "C" / "s384"
    make_workdir(tmp_path / "E", "E", stages=("jitter",))
    make_workdir(tmp_path / "D", "D", seed=1, stages=("s256", "jitter"))
    assert stage_to_show(find_runs(tmp_path)) == tmp_path / "D" / "jitter"
