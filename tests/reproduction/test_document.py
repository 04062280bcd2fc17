import json

import pytest
from reproduction_results import evaluated, make_workdir

from vgg_jax.reproduction.document import curves, depth_points, reproduction, scale_points
from vgg_jax.reproduction.manifest import TABLE_NAMES, protocol, protocols
from vgg_jax.reproduction.runs import find_runs


def results(*rows):
    return {
        (protocol(nets, method), seed): evaluated(protocol(nets, method), seed, count)
        for nets, method, seed, count in rows
    }


def test_depth_has_single_scale_rows_with_the_range_of_the_seeds():
    made = results(
        ("E/256/256", "dense", 0, 400),
        ("A/256/256", "dense", 0, 600),
        ("A/256/256", "dense", 1, 500),
        ("A/256/256", "dense", 2, 520),
        ("D/[256;512]/384", "dense", 0, 300),
        ("D/256/384", "dense", 0, 200),  # Q is not S
        ("D/[256;512]fc/384", "dense", 0, 200),
        ("B/256/256", "centre_crop", 0, 200),
        ("B-5x5/256/256", "dense", 0, 200),
        ("C/256/224,256,288", "dense", 0, 200),
    )
    assert depth_points(made) == [
        {"arch": "A", "layers": 11, "stage": "s256", "error": 54.0, "low": 50.0, "high": 60.0},
        {"arch": "D", "layers": 16, "stage": "jitter", "error": 30.0, "low": 30.0, "high": 30.0},
        {"arch": "E", "layers": 19, "stage": "s256", "error": 40.0, "low": 40.0, "high": 40.0},
    ]


def test_scales_have_the_nets_that_were_tested_at_several():
    made = results(
        ("A/256/256", "dense", 0, 600),
        ("D/256/512", "dense", 0, 500),
        ("D/256/512", "dense", 1, 600),
        ("D/256/256", "dense", 0, 400),
        ("D/256/224,256,288", "dense", 0, 100),
    )
    common = {"arch": "D", "stage": "s256", "train_scale": [256, 256]}
    assert scale_points(made) == [
        {**common, "test_scale": 256, "error": 40.0, "num_seeds": 1},
        {**common, "test_scale": 512, "error": 55.0, "num_seeds": 2},
    ]


def test_curves_are_thinned_by_means(tmp_path):
    path = make_workdir(tmp_path / "A", seed=4, stages=("s256",))
    make_workdir(tmp_path / "B", "B", seed=4, stages=())
    rows = [{"step": 10 * i, "train_loss": float(i), "train_top1_error": 2.0 * i} for i in range(1, 401)]
    rows.insert(200, {"step": 2000, "val_loss": 1.5, "val_top1_error": 70.0, "learning_rate": 0.1})
    (path / "s256" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (curve,) = curves(find_runs(tmp_path))
    assert (curve["arch"], curve["seed"], curve["stage"]) == ("A", 4, "s256")
    assert curve["step"] == list(range(20, 4001, 20))
    assert curve["train_loss"][:2] == [1.5, 3.5] and curve["train_top1_error"][-1] == 799.0
    assert (curve["val_step"], curve["val_loss"], curve["val_top1_error"]) == ([2000], [1.5], [70.0])


@pytest.fixture
def content(tmp_path):
    """Of two seeds, all rows made up."""
    for seed in (0, 1):
        make_workdir(tmp_path / str(seed), "A", seed)
    runs = find_runs(tmp_path)
    made = {(row, seed): evaluated(row, seed) for row in protocols() for seed in (0, 1)}
    return reproduction(runs, made, "test")


def test_the_whole_document(content):
    assert list(content) == [
        *("title", "setting", "tables", "claims", "depth", "scales", "curves", "photographs"),
    ]
    assert [table["id"] for table in content["tables"]] == [f"table{name}" for name in TABLE_NAMES]
    setting = content["setting"]
    expected = {"dataset": "pictures", "split": "test", "num_images": 1000, "crop_size": 32, "seeds": [0, 1]}
    assert {name: setting[name] for name in expected} == expected
    assert "jax" in setting["versions"]
    assert {len(claim) for claim in content["claims"]} == {8}
    assert len(content["depth"]) == 12 and len(content["scales"]) == 3 * 7
    assert json.loads(json.dumps(content)) == content


def test_some_tables_without_results(tmp_path):
    make_workdir(tmp_path / "A", stages=())
    content = reproduction(find_runs(tmp_path), {}, "val", ["2", "3"])
    assert [table["id"] for table in content["tables"]] == ["table2", "table3"]
    assert content["setting"]["num_images"] == 0 and content["curves"] == []
    assert {claim["verdict"] for claim in content["claims"] if claim["section"].startswith("4")} == {"not run"}
