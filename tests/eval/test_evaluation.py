"""Whole-set evaluation from stages on disk: rows, fusion, going on after a kill, stored posteriors, mistakes."""

import json

import jax
import numpy as np
import pytest
from test_model import narrow, photographs, random_params

from vgg_jax import InputError
from vgg_jax.data.sources import Record
from vgg_jax.eval import average_posteriors, dense_eval, multi_crop_eval, top_k_errors
from vgg_jax.eval import evaluation as module
from vgg_jax.eval.evaluation import DataSet, Request, evaluate
from vgg_jax.eval.predictions import write_predictions
from vgg_jax.eval.protocol import Member
from vgg_jax.eval.stored import load_posteriors, read_parts
from vgg_jax.images.rescale import rescale
from vgg_jax.report import results_table
from vgg_jax.weights import save_weights

NAMES = tuple(f"class{i}" for i in range(7))


class Pictures:
    """A source of PNG files in memory."""

    def __init__(self, count, labelled=True, class_names=NAMES):
        self.class_names, self.labelled = class_names, labelled
        self.images = [photographs((45 + i % 4, 50, 3), seed=i) for i in range(count)]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        import io

        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(self.images[index]).save(file, "png")
        return Record(file.getvalue(), index % 7 if self.labelled else -1, f"{index}.png")

    def location(self, index):
        return f"{index}.png"


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """Two files of weights with their models."""
    folder, made = tmp_path_factory.mktemp("nets"), []
    for seed, arch in enumerate(("A", "B")):
        model = narrow(arch, crop_size=32, width_multiplier=0.03)
        params = random_params(model, seed) if seed else random_params(model)
        save_weights(folder / f"{arch}.safetensors", model, params)
        made.append((folder / f"{arch}.safetensors", model, params))
    return made


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    for name in ("evaluation", "stored"):
        monkeypatch.setattr(f"vgg_jax.eval.{name}.PART", 4)


def request(nets, method="dense", scales=(37, 40)):
    return Request(tuple(Member(path, scales) for path, _, _ in nets), method)


def posteriors(net, source, method, scales=(37, 40)):
    function = {"dense": dense_eval, "multi_crop": multi_crop_eval}[method]
    return function(net[1], net[2], source.images, scales=scales)


def test_fusion_is_the_mean_over_nets_methods_and_scales(nets, tmp_path):
    source = Pictures(10)
    data = DataSet(source, "pictures", "val")
    requests = [request(nets[:1]), request(nets), request(nets, "multi_crop+dense")]
    one, two, both = evaluate(requests, data, output=tmp_path)
    dense = [posteriors(net, source, "dense") for net in nets]
    crops = [posteriors(net, source, "multi_crop") for net in nets]
    for evaluated, members in ((one, dense[:1]), (two, dense), (both, dense + crops)):
        expected = top_k_errors(average_posteriors(members), np.arange(10) % 7)
        found = (evaluated.row["top1_error"], evaluated.row["top5_error"])
        assert found == pytest.approx((expected[1], expected[5]))
    assert one.row["members"] is None and [m["arch"] for m in two.row["members"]] == ["A", "B"]
    assert (two.row["arch"], both.row["method"], both.row["grid"]) == ("A & B", "multi_crop+dense", 5)
    assert "(A/-/37,40), (B/-/37,40)" in results_table([two.row])
    assert not (tmp_path / "posteriors").exists()


def test_saved_posteriors_are_those_of_dense_eval_and_spare_a_second_pass(nets, tmp_path, monkeypatch):
    source = Pictures(10)
    data = DataSet(source, "pictures", "val")
    (first,) = evaluate([request(nets[:1])], data, output=tmp_path, save_posteriors=True)
    probs, labels = load_posteriors(first.folders[0][0][0])
    views = [rescale(image, 37) for image in source.images]
    np.testing.assert_allclose(probs, dense_eval(nets[0][1], nets[0][2], views), atol=1e-6)
    assert labels.tolist() == [i % 7 for i in range(10)]
    monkeypatch.setattr(module, "view_posteriors", None)  # computing anything would fail
    (second,) = evaluate([request(nets[:1])], data, output=tmp_path)
    assert second.row == first.row and len(list(first.folders[0][0][0].glob("*.npz"))) == 3


def test_a_killed_evaluation_goes_on_without_its_finished_parts(nets, tmp_path, monkeypatch):
    data, computed = DataSet(Pictures(10), "pictures", "val"), []
    whole = module.compute_part

    def counted(posteriors_of, records, *rest):
        if len(computed) == 2 and not resumed:
            raise KeyboardInterrupt
        computed.append([index for index, _, _ in records])
        return whole(posteriors_of, records, *rest)

    resumed = False
    monkeypatch.setattr(module, "compute_part", counted)
    with pytest.raises(KeyboardInterrupt):
        list(evaluate([request(nets[:1])], data, output=tmp_path))
    resumed = True
    (row,) = evaluate([request(nets[:1])], data, output=tmp_path)
    assert computed == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    (fresh,) = evaluate([request(nets[:1])], data, output=tmp_path / "fresh")
    assert row.row == fresh.row


def test_shares_of_processes_are_disjoint_and_whole(monkeypatch):
    from vgg_jax.eval.dataset import own_share

    monkeypatch.setattr(jax, "process_count", lambda: 3)
    shares = []
    for process in range(3):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        shares += own_share(range(11))
    assert sorted(shares) == list(range(11))


def test_an_unlabelled_split_gives_five_classes_a_line(nets, tmp_path):
    source = Pictures(6, labelled=False)
    data = DataSet(source, "pictures", "test")
    (evaluated,) = evaluate([request(nets[:1])], data, output=tmp_path, save_posteriors=True)
    assert evaluated.row["top1_error"] is None and "no labels" in results_table([evaluated.row])
    path = write_predictions(evaluated, tmp_path, data)
    expected = np.argsort(-posteriors(nets[0], source, "dense"), axis=1)[:, :5] + 1
    assert [[int(word) for word in line.split()] for line in path.read_text().splitlines()] == expected.tolist()
    source.ilsvrc_ids = [70, 60, 50, 40, 30, 20, 10]
    path = write_predictions(evaluated, tmp_path, data)
    assert path.read_text().splitlines()[0] == " ".join(str(80 - 10 * i) for i in expected[0])


def test_bad_input_gives_one_sentence(nets, tmp_path):
    data = DataSet(Pictures(6), "pictures", "val")
    (done,) = evaluate([request(nets[:1])], data, output=tmp_path, save_posteriors=True)
    with pytest.raises(InputError, match=r"holds posteriors of another set .*num_records 6 there, 7 now"):
        list(evaluate([request(nets[:1])], DataSet(Pictures(7), "pictures", "val"), output=tmp_path))
    with pytest.raises(InputError, match="unknown method 'crops'"):
        list(evaluate([request(nets[:1], "crops")], data, output=tmp_path))
    with pytest.raises(InputError, match="no test scales"):
        list(evaluate([request(nets[:1], scales=())], data, output=tmp_path))
    with pytest.raises(InputError, match="7 classes, but the data set has 8"):
        list(evaluate([request(nets[:1])], DataSet(Pictures(6, class_names=(*NAMES, "x")), "p", "val")))
    other = narrow("A", crop_size=32, width_multiplier=0.03, num_classes=9)
    save_weights(tmp_path / "nine.safetensors", other, random_params(other))
    with pytest.raises(InputError, match=r"have different classes \(7 and 9\)"):
        list(evaluate([request([*nets[:1], (tmp_path / "nine.safetensors", None, None)])], data, output=tmp_path))
    (part := done.folders[0][0][0] / "00000.npz").write_bytes(b"no zip")
    with pytest.raises(InputError, match=f"{part} holds no posteriors"):
        load_posteriors(part.parent)
    part.unlink()
    with pytest.raises(InputError, match="lacks 1 of 2 parts"):
        load_posteriors(part.parent)
    (part.parent / "set.json").write_text(json.dumps({})[:1])
    with pytest.raises(InputError, match=r"no readable set\.json"):
        load_posteriors(part.parent)


def test_posteriors_of_the_same_names_with_other_pictures_are_another_set(nets, tmp_path):
    source = Pictures(6)
    (done,) = evaluate([request(nets[:1])], DataSet(source, "p", "val"), output=tmp_path, save_posteriors=True)
    for change in ({"pixel": 1}, {"label": 1}):
        with pytest.raises(InputError, match="holds posteriors of another set"):
            list(evaluate([request(nets[:1])], DataSet(Altered(source, **change), "p", "val"), output=tmp_path))
    assert len(list(read_parts(done.folders[0][0][0]))) == 2


class Altered:
    """A set whose third picture or its label differs."""

    def __init__(self, source, pixel=0, label=0):
        self.source, self.pixel, self.label = source, pixel, label
        self.class_names = source.class_names

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        record = self.source[index]
        if index != 2:
            return record
        image = record.image if not self.pixel else self.source[3].image
        return record._replace(image=image, label=(record.label + self.label) % len(self.class_names))


def test_a_net_is_not_fused_with_itself(nets, tmp_path):
    with pytest.raises(InputError, match="stands twice among the nets to fuse"):
        list(evaluate([request([nets[0], nets[0]])], DataSet(Pictures(6), "p", "val"), output=tmp_path))


def test_a_failed_evaluation_leaves_no_folders(nets, tmp_path):
    with pytest.raises(InputError, match="smaller than the net's window"):
        list(evaluate([request(nets[:1], scales=(20,))], DataSet(Pictures(6), "p", "val"), output=tmp_path))
    assert not (tmp_path / "posteriors").exists()


def test_a_broken_part_is_told(nets, tmp_path):
    (done,) = evaluate([request(nets[:1])], DataSet(Pictures(6), "p", "val"), output=tmp_path, save_posteriors=True)
    part = min(done.folders[0][0][0].glob("*.npz"))
    part.write_bytes(part.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"holds no posteriors .* remove it and evaluate again"):
        list(evaluate([request(nets[:1])], DataSet(Pictures(6), "p", "val"), output=tmp_path))
