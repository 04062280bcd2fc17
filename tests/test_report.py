import json

import pytest
from PIL import Image

from vgg_jax import InputError
from vgg_jax.report import add_rows, format_scale, markdown_table, plot_learning_curves, read_rows, results_table

ROW = {
    **{"dataset": "shapes", "split": "val", "stage": "s256", "arch": "D", "seed": 0, "train_scale": (256, 256)},
    **{"checkpoint": "best", "method": "dense", "test_scales": (256,), "grid": None, "flip": True},
    **{"pool_rounding": "floor", "members": None, "top1_error": 12.345, "top5_error": 1.0, "num_images": 100},
}


def as_read(row):
    return json.loads(json.dumps(row))


def test_rows_are_added(tmp_path):
    path = tmp_path / "results.json"
    jitter = {**ROW, "stage": "jitter", "train_scale": (256, 512)}
    add_rows(path, [ROW])
    add_rows(path, [jitter])
    assert json.loads(path.read_text()) == {"rows": [as_read(ROW), as_read(jitter)]}
    assert read_rows(path) == [as_read(ROW), as_read(jitter)]
    assert {file.name for file in tmp_path.iterdir()} == {"results.json", ".results.json.lock"}  # no temporary file


def test_a_row_of_the_same_protocol_replaces_the_old_one(tmp_path):
    path = tmp_path / "results.json"
    three_scales = {**ROW, "test_scales": (224, 256, 288)}
    add_rows(path, [ROW, three_scales])
    better = {**ROW, "top1_error": 10.0, "num_images": 200}
    add_rows(path, [better])
    assert read_rows(path) == [as_read(three_scales), as_read(better)]


@pytest.mark.parametrize(
    "change",
    [
        *({"dataset": "other"}, {"split": "test"}, {"stage": "s384"}, {"arch": "E"}, {"seed": 1}),
        *({"train_scale": (256, 512)}, {"checkpoint": "latest"}, {"method": "multi_crop"}, {"test_scales": (256, 288)}),
        *({"grid": 5}, {"flip": False}, {"pool_rounding": "ceil"}, {"members": [{"arch": "D"}, {"arch": "E"}]}),
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_protocol_is_another_row(tmp_path, change):
    path = tmp_path / "results.json"
    add_rows(path, [ROW])
    add_rows(path, [{**ROW, **change}])
    assert len(read_rows(path)) == 2


def test_no_results_yet(tmp_path):
    assert read_rows(tmp_path / "results.json") == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"row": []}'])
def test_a_broken_results_file_is_not_overwritten(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"results.json is no results file .*: move it away and evaluate again"):
        add_rows(path, [ROW])
    assert path.read_text() == text


def test_scales_as_the_paper_prints_them():
    assert format_scale((256, 256)) == "256"
    assert format_scale([256, 512]) == "[256;512]"


def test_markdown_table():
    assert markdown_table(["net", "error"], [["D", "25.60"], ["A-LRN", "29.7"]]).splitlines() == [
        "| net   | error |",
        "| ----- | ----- |",
        "| D     | 25.60 |",
        "| A-LRN | 29.7  |",
    ]


def test_results_table():
    unlabelled = {**ROW, "split": "test", "test_scales": (256, 384), "top1_error": None, "top5_error": None}
    header, _, first, second = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in results_table([ROW, unlabelled]).splitlines()
    )
    assert dict(zip(header, first)) == {
        **{"stage": "s256", "net": "D", "train (S)": "256", "test (Q)": "256", "method": "dense", "split": "val"},
        **{"images": "100", "checkpoint": "best", "top-1 error (%)": "12.35", "top-5 error (%)": "1.00"},
        **{"crops": "-", "flip": "yes", "pool": "floor", "data": "shapes"},
    }
    assert dict(zip(header, second))["test (Q)"] == "256,384"
    assert dict(zip(header, second))["top-1 error (%)"] == "no labels"


def test_learning_curves_are_drawn(tmp_path):
    path = tmp_path / "learning_curve.png"
    train = [{"step": s, "train_loss": 2.0 / s, "train_top1_error": 90.0, "learning_rate": 0.01} for s in (1, 2, 3)]
    val = [{"step": 3, "val_loss": 1.0, "val_top1_error": 50.0}]
    plot_learning_curves({"s256": [*train, *val], "s384": train, "jitter": []}, path)
    with Image.open(path) as full:
        full.load()
        assert full.format == "PNG"
    with_all = path.read_bytes()
    plot_learning_curves({"s256": train, "s384": train, "jitter": []}, path)
    assert path.read_bytes() != with_all  # the validation curve was there
    assert [file.name for file in tmp_path.iterdir()] == ["learning_curve.png"]
