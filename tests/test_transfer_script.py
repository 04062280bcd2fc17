"""transfer.py, run as a user does, against the same pipeline by hand from the stored descriptors."""

import json

import numpy as np
import pytest
from running_scripts import assert_one_error_line, script
from sklearn.metrics import recall_score
from sklearn.svm import LinearSVC
from test_model import narrow, random_params

from vgg_jax.data.folder import folder_source
from vgg_jax.report import add_rows, read_rows
from vgg_jax.transfer.evaluation import ROW_KEY, shown_name
from vgg_jax.transfer.splits import random_split
from vgg_jax.transfer.store import read_descriptors
from vgg_jax.weights import save_weights

FLAGS = ("--layer=pool5", "--pool=max", "--scales=40,42", "--train_images=6", "--test_images=5", "--splits=2")


@pytest.fixture(scope="module")
def ran(pictures, tmp_path_factory):
    """(folder with a.safetensors, b.safetensors, features, out; the run of both nets)."""
    folder = tmp_path_factory.mktemp("transfer")
    for seed, name in enumerate("ab"):
        model = narrow("A", crop_size=32, width_multiplier=0.03)
        save_weights(folder / f"{name}.safetensors", model, random_params(model, seed))
    return folder, script("transfer.py", *arguments(folder, pictures))


def arguments(folder, pictures):
    weights = f"--weights={folder}/a.safetensors,{folder}/b.safetensors"
    return (weights, f"--data_path={pictures}", f"--features={folder}/features", f"--output={folder}/out", *FLAGS)


def by_hand(nets, split, labels, cost):
    """Recall of each class, in percent."""

    def unit(vectors):
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def vectors(records):
        blocks = []
        for net in nets:
            stored = [read_descriptors(net / f"pool5-Q{scale}", records) for scale in (40, 42)]
            blocks.append(unit(np.hstack([(d[:, 0, 1] + d[:, 1, 1]) / 2 for d in stored])))
        return unit(np.hstack(blocks))

    svm = LinearSVC(C=cost, max_iter=100_000, random_state=0).fit(vectors(split.train), labels[split.train])
    return 100 * recall_score(labels[split.test], svm.predict(vectors(split.test)), average=None)


def test_rows_of_each_net_and_of_both(ran, pictures):
    folder, run = ran
    assert run.returncode == 0, run.stderr
    rows = json.loads((folder / "out/results.json").read_text())["rows"]
    assert [row["weights"] for row in rows] == [["a"], ["b"], ["a", "b"]]
    source = folder_source(str(pictures), "train", val_fraction=0.0)
    nets = sorted((folder / "features").iterdir())
    assert [net.name for net in nets] == [f"{name}-{digest}" for name, digest in zip("ab", rows[2]["digests"])]
    splits = [random_split(source.labels, source.class_names, n, train_images=6, test_images=5) for n in (0, 1)]
    for row, chosen in zip(rows, (nets[:1], nets[1:], nets), strict=True):
        recalls = np.stack([by_hand(chosen, s, source.labels, c) for s, c in zip(splits, row["costs"], strict=True)])
        assert list(row["class_recalls"].values()) == pytest.approx(recalls.mean(0), abs=0.06)
        assert row["recalls"] == pytest.approx(recalls.mean(1), abs=0.001)
        assert row["mean_class_recall"] == pytest.approx(recalls.mean(), abs=0.001)
        assert row["deviation"] == pytest.approx(abs(np.subtract(*recalls.mean(1))) / 2**0.5, abs=0.001)
        assert (row["num_train"], row["num_test"], row["dimensions"]) == (24, [20, 20], 30 * len(chosen))
    assert sum(count for *_, count in rows[0]["confusions"]) == round(40 - 0.4 * rows[0]["mean_class_recall"])
    report = (folder / "out/report.md").read_text()
    best = max(rows, key=lambda row: row["mean_class_recall"])
    assert f"{' & '.join(best['weights'])}, pool5, max-pooled, Q = 40,42, {best['mean_class_recall']:.1f} ±" in report
    assert "a & b" in report and "91.8 ± 1.0" in report and "![recall of each class](class_recalls.png)" in report
    assert (folder / "out/class_recalls.png").read_bytes().startswith(b"\x89PNG")
    assert "mean class recall (%)" in run.stdout


def test_a_second_run_computes_no_descriptor_and_doubles_no_row(ran, pictures):
    folder, _ = ran
    before = {path: path.stat().st_mtime_ns for path in folder.glob("features/*/*/*.npz")}
    rows = (folder / "out/results.json").read_text()
    again = script("transfer.py", *arguments(folder, pictures))
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.glob("features/*/*/*.npz")} == before
    assert json.loads((folder / "out/results.json").read_text()) == json.loads(rows)


def test_rows_of_nets_with_one_name_stand_side_by_side(ran, tmp_path):
    """Stages of two workdirs, a net that was trained again."""
    row = json.loads((ran[0] / "out/results.json").read_text())["rows"][0]
    add_rows(tmp_path / "results.json", [row], ROW_KEY)
    add_rows(tmp_path / "results.json", [{**row, "digests": ["0123456789"]}], ROW_KEY)
    add_rows(tmp_path / "results.json", [row], ROW_KEY)
    assert len(read_rows(tmp_path / "results.json")) == 2


def test_names_for_people(tmp_path):
    for path in ("D/jitter/checkpoints", "vgg", "D/files"):
        (tmp_path / path).mkdir(parents=True)
    for path in ("vgg/model.safetensors", "D/files/vgg16.weights.h5"):
        (tmp_path / path).touch()
    names = {"D/jitter": "D/jitter", "vgg": "vgg", "vgg/model.safetensors": "vgg", "D/files/vgg16.weights.h5": "vgg16"}
    assert {path: shown_name(tmp_path / path) for path in names} == names


def test_bad_input_gives_one_sentence(ran, pictures):
    run = script("transfer.py", *arguments(ran[0], pictures), "--scales=40,big")
    assert_one_error_line(run, "--scales is 40,big, but whole numbers are expected, as 256,384,512")
