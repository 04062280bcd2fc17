"""The folder source: layouts, splits and every way in which a folder can be wrong."""

import hashlib
import itertools
import os
import pickle

import numpy as np
import pytest

from vgg_jax.data.folder import MAX_BYTES
from vgg_jax.data.sources import open_source, record_name
from vgg_jax.errors import InputError


def make(root, files):
    """Write each file with its own name as content."""
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


@pytest.fixture
def animals(tmp_path):
    return make(tmp_path, [f"{animal}/{i:02}.jpg" for animal in ("zebra", "ant", "cat") for i in range(20)])


def opened(root, split="train", **options):
    return open_source("folder", str(root), split, **options)


def names(root, split="train", **options):
    source = opened(root, split, **options)
    return [source[i].name for i in range(len(source))]


def test_records(animals):
    source = opened(animals)
    assert source.class_names == ("ant", "cat", "zebra")
    for i in range(len(source)):
        record = source[i]
        assert record.image == record.name.encode()
        assert source.class_names[record.label] == record.name.split("/")[0]
    with pytest.raises(IndexError):
        source[len(source)]


@pytest.mark.parametrize(
    "val, test, sizes", [(0.1, 0.0, (18, 2, None)), (0.25, 0.1, (13, 5, 2)), (0.001, 0.001, (18, 1, 1))]
)
def test_a_drawn_split_is_disjoint_complete_and_per_class(animals, val, test, sizes):
    fractions = {"val_fraction": val, "test_fraction": test}
    splits = [split for split, size in zip(("train", "val", "test"), sizes) if size]
    found = {split: names(animals, split, **fractions) for split in splits}
    assert sorted(itertools.chain(*found.values())) == sorted(names(animals, val_fraction=0))
    for split, size in zip(("train", "val", "test"), sizes):
        for animal in ("ant", "cat", "zebra"):
            assert size is None or sum(name.startswith(animal) for name in found[split]) == size


def test_the_seed_alone_chooses_the_split(animals):
    assert names(animals, "val", split_seed=1) == names(animals, "val", split_seed=1)
    assert names(animals, "val", split_seed=1) != names(animals, "val", split_seed=2)
    before = [name for name in names(animals, "val") if "cat" in name]
    make(animals, [f"bear/{i}.jpg" for i in range(9)])
    assert [name for name in names(animals, "val") if "cat" in name] == before
    chosen = [
        {name[-6:] for name in names(animals, "val", val_fraction=0.5) if kind in name} for kind in ("ant", "cat")
    ]
    assert chosen[0] != chosen[1]


@pytest.mark.parametrize("test_fraction", [0.0, 0.15])
def test_an_image_more_or_less_reshuffles_nothing(animals, test_fraction):
    """At most one other image moves between train and each drawn split, and none between val and test."""
    options = {"val_fraction": 0.25, "test_fraction": test_fraction}
    splits = ("train", "val", "test") if test_fraction else ("train", "val")

    def split_of_each():
        return {name: split for split in splits for name in names(animals, split, **options)}

    whole = split_of_each()
    for removed in sorted(whole):
        data = (animals / removed).read_bytes()
        (animals / removed).unlink()
        left = split_of_each()
        (animals / removed).write_bytes(data)
        assert left.keys() == whole.keys() - {removed}
        moves = [tuple(sorted((whole[name], left[name]))) for name in left if left[name] != whole[name]]
        assert sorted(moves) in ([], [("train", "val")], [("test", "train")], [("test", "train"), ("train", "val")])


def test_the_split_is_the_documented_hash(tmp_path):
    """In another program's words: the last ranks by sha256 of seed/class/file are val, the first ones test."""
    root = make(tmp_path, [f"cat/{i}.jpg" for i in range(20)])
    ranked = sorted(
        (f"cat/{i}.jpg" for i in range(20)), key=lambda name: hashlib.sha256(f"7/{name}".encode()).hexdigest()
    )
    options = {"split_seed": 7, "val_fraction": 0.2, "test_fraction": 0.1}
    assert names(root, "test", **options) == sorted(ranked[:2])
    assert names(root, "val", **options) == sorted(ranked[-4:])
    assert names(root, images_per_class=5, **options) == sorted(ranked[2:7])


def test_the_cap_is_for_training_alone_and_nested(animals):
    five, three = (names(animals, images_per_class=n, test_fraction=0.1) for n in (5, 3))
    assert len(five) == 15 and len(three) == 9 and set(three) < set(five)
    assert set(five) < set(names(animals, test_fraction=0.1))
    assert names(animals, "val", images_per_class=1) == names(animals, "val")
    assert len(names(animals, images_per_class=1000)) == len(names(animals))


def test_folders_train_and_val(tmp_path):
    root = make(
        tmp_path,
        [f"{split}/{kind}/{i}.png" for split, n in (("train", 12), ("val", 3)) for kind in "ab" for i in range(n)],
    )
    assert len(names(root)) == 24
    assert names(root, "val") == [f"val/{kind}/{i}.png" for kind in "ab" for i in range(3)]
    with pytest.raises(InputError, match="no test split"):
        opened(root, "test")
    assert len(names(root, "test", test_fraction=0.25)) == 6 and len(names(root, test_fraction=0.25)) == 18
    assert len(names(root, images_per_class=4)) == 8 and len(names(root, "val", images_per_class=1)) == 6
    make(root, ["test/a/x.png", "test/b/y.png"])
    assert names(root, "test") == ["test/a/x.png", "test/b/y.png"]


def test_folder_train_alone_is_split(tmp_path):
    root = make(tmp_path, [f"train/{kind}/{i}.png" for kind in "ab" for i in range(10)])
    assert (len(names(root)), len(names(root, "val"))) == (18, 2)


def test_a_class_called_train(tmp_path):
    root = make(tmp_path, [f"{kind}/{i}.png" for kind in ("train", "val", "bus") for i in range(4)])
    assert opened(root).class_names == ("bus", "train", "val")


def test_extensions_hidden_files_and_links(tmp_path):
    kept = ["a.JPG", "b.jpeg", "c.Png", "d.bmp", "e.gif", "f.webp", "g.tif", "h.TIFF"]
    make(tmp_path / "elsewhere", kept)
    make(
        tmp_path / "data",
        ["x/1.jpg", "x/2.jpg", "x/.hidden.jpg", "x/notes.txt", "x/sub/3.jpg", ".git/4.jpg", "readme.jpg"],
    )
    (tmp_path / "data" / "y").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    source = opened(tmp_path / "data", val_fraction=0)
    assert source.class_names == ("x", "y")
    assert names(tmp_path / "data", val_fraction=0) == ["x/1.jpg", "x/2.jpg", *(f"y/{name}" for name in kept)]
    assert source[2].image == b"a.JPG"


def test_classes_file_gives_order_and_names(animals):
    (animals / "classes.txt").write_text("zebra\n\nant  Formica rufa\ncat\n")
    source = opened(animals)
    assert source.class_names == ("zebra", "ant  Formica rufa", "cat")
    assert {record.name.split("/")[0] for record in map(source.__getitem__, range(18, 36))} == {"ant"}
    assert source[18].label == 1


@pytest.mark.parametrize("text", ["ant\ncat\n", "ant\ncat\nzebra\nyak\n", "ant\ncat\nzebra\nzebra\n", ""])
def test_classes_file_must_match(animals, text):
    (animals / "classes.txt").write_text(text)
    with pytest.raises(InputError, match=r"classes\.txt"):
        opened(animals)


def test_what_is_wrong_is_named(tmp_path, animals):
    with pytest.raises(InputError, match="nowhere"):
        opened(tmp_path / "nowhere")
    (animals / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no images"):
        opened(animals)
    (tmp_path / "flat").mkdir()
    make(tmp_path / "flat", ["1.jpg"])
    with pytest.raises(InputError, match="no class folders"):
        opened(tmp_path / "flat")
    with pytest.raises(InputError, match="choose one of train, val, test"):
        opened(animals, "validation")
    with pytest.raises(InputError, match="choose one of folder, array_record, tfds, shapes"):
        open_source("zip", str(animals), "train")


@pytest.mark.parametrize("split, options", [("test", {}), ("val", {"val_fraction": 0.0})])
def test_a_split_that_nobody_asked_for(animals, split, options):
    with pytest.raises(InputError, match=f"no {split} split"):
        opened(animals, split, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"val_fraction": -0.1},
        {"val_fraction": 0.6, "test_fraction": 0.4},
        {"test_fraction": float("nan")},
        {"images_per_class": 0},
    ],
)
def test_numbers_out_of_range(animals, options):
    with pytest.raises(InputError, match=next(iter(options))):
        opened(animals, **options)


def test_too_few_images_to_split(tmp_path):
    make(tmp_path, ["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg", "b/3.jpg"])
    assert len(names(tmp_path)) == 3
    with pytest.raises(InputError, match="a holds 2 image"):
        opened(tmp_path, test_fraction=0.1)


@pytest.mark.parametrize("val", [["val/a/1.jpg"], ["val/a/1.jpg", "val/b/1.jpg", "val/c/1.jpg"], ["val/1.jpg"]])
def test_val_must_have_the_same_classes(tmp_path, val):
    root = make(tmp_path, ["train/a/1.jpg", "train/b/1.jpg", *val])
    with pytest.raises(InputError, match="other classes"):
        opened(root, "val")


def test_a_file_that_vanishes_is_named(animals):
    source = opened(animals)
    (animals / source[0].name).unlink()
    with pytest.raises(InputError, match=r"ant/\d\d\.jpg"):
        source[0]
    assert (record_name(source, 0), record_name(source, 1)) == (source.files[0], source[1].name)


def test_what_is_named_as_an_image_and_is_none(tmp_path):
    """Folders are not meant; links that lead nowhere are, and so are files that are too large to read."""
    root = make(tmp_path, ["a/1.jpg", "a/2.jpg"])
    (root / "a" / "folder.jpg").mkdir()
    (root / "a" / "nowhere.jpg").symlink_to("gone")
    (root / "a" / "circle.jpg").symlink_to("circle.jpg")
    (root / "a" / "link.jpg").symlink_to("1.jpg")
    with (root / "a" / "huge.jpg").open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # sparse
    source = opened(root, val_fraction=0)
    assert source.files == tuple(f"a/{name}.jpg" for name in ("1", "2", "circle", "huge", "link", "nowhere"))
    assert source[4].image == source[0].image
    for index, words in {2: "Too many levels of symbolic links", 3: f"has {MAX_BYTES + 1} bytes", 5: "No such"}.items():
        with pytest.raises(InputError, match=f"{source.files[index]}: .*{words}"):
            source[index]


def test_a_folder_that_cannot_be_read_is_named(animals, monkeypatch):
    def denied(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(InputError, match=r"folder .* cannot be read \(Permission denied\)"):
        opened(animals)


@pytest.mark.parametrize("source", ["folder", "array_record", "tfds"])
def test_an_empty_path_is_refused(source):
    with pytest.raises(InputError, match=f"path of data source '{source}' is empty; give --config.data.path="):
        open_source(source, "", "train")


def test_the_home_directory(animals, monkeypatch):
    monkeypatch.setenv("HOME", str(animals.parent))
    assert opened(f"~/{animals.name}").files == opened(animals).files


def test_pickled_and_back(animals):
    source = opened(animals)
    copy = pickle.loads(pickle.dumps(source))  # our own object: so it travels to the worker processes
    assert [copy[i] for i in range(len(copy))] == [source[i] for i in range(len(source))]


def test_caltech101(real_data):
    root = real_data / "caltech101"
    parts = [set(opened(root, split, test_fraction=0.2).files) for split in ("train", "val", "test")]
    everything = {f"{path.parent.name}/{path.name}" for path in root.glob("[!.]*/[!.]*.jpg")}
    assert set.union(*parts) == everything and sum(map(len, parts)) == len(everything)
    source = opened(root)
    assert len(source.class_names) == 102
    assert np.bincount(source.labels).min() > 0
