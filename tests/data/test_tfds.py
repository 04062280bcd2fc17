"""Prepared TFDS data sets: read undecoded, without tensorflow, and the same by either reader."""

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

from vgg_jax import InputError
from vgg_jax.data.array_record import array_record_source, encode_example
from vgg_jax.data.sources import Record, open_source, record_name
from vgg_jax.data.tfds import tfds_source

CLASSES = ["zebra", "ant"]  # not sorted: the order is the one of the builder
SIZES = {"train": 6, "val": 4, "validation": 3, "test": 2}

with tfds.core.registered.skip_registration():

    class Tiny(tfds.core.GeneratorBasedBuilder):
        """Pictures that are no pictures: nothing may decode them."""

        VERSION = tfds.core.Version("1.2.3")
        url_infos = None
        splits = ("train", "validation", "test")
        label_feature = tfds.features.ClassLabel(names=CLASSES)

        def _info(self):
            features = {"image": tfds.features.Image(encoding_format="jpeg"), "label": self.label_feature}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in self.splits}

        def _generate_examples(self, split):
            for i in range(SIZES[split]):
                label = i % 2 if isinstance(self.label_feature, tfds.features.ClassLabel) else str(i)
                yield i, {"image": f"{split} {i}".encode(), "label": label}

    class TinyWithoutValidation(Tiny):
        splits = ("train", "test")

    class TinyWithVal(Tiny):
        splits = ("train", "val", "validation", "test")

    class TinyText(Tiny):
        label_feature = tfds.features.Text()


def prepare(builder_class, directory, file_format="array_record"):
    builder = builder_class(data_dir=str(directory), file_format=file_format)
    builder.download_and_prepare()
    return builder.data_path


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(Tiny, tmp_path_factory.mktemp("tfds"))


def contents(source):
    return sorted((record.image, record.label) for record in source)


def expected(split):
    return sorted((f"{split} {i}".encode(), i % 2) for i in range(SIZES[split]))


@pytest.mark.parametrize(("split", "stored"), [("train", "train"), ("val", "validation"), ("test", "test")])
def test_bytes_labels_and_class_names(prepared, split, stored):
    source = open_source("tfds", str(prepared), split)
    assert contents(source) == expected(stored)
    assert source.class_names == ("zebra", "ant")
    assert source[1].name == f"{prepared} {stored}[1]"
    with pytest.raises(IndexError):
        source[len(source)]


def test_both_readers_see_the_same(prepared):
    by_tfds, by_us = tfds_source(prepared, "train"), array_record_source(prepared, "train")
    assert [record[:2] for record in by_tfds] == [record[:2] for record in by_us]
    assert by_tfds.class_names == by_us.class_names


def test_pickles_and_is_read_by_many_threads(prepared):
    source = tfds_source(prepared, "train")
    copy = pickle.loads(pickle.dumps(source))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(copy.__getitem__, list(range(6)) * 50)) == list(source) * 50


def test_by_name_from_the_data_directory(prepared, monkeypatch):
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(prepared.parent.parent))
    assert contents(tfds_source("tiny:1.2.3", "train")) == expected("train")


@pytest.mark.parametrize(
    "builder, stored", [(TinyWithVal, "val"), (Tiny, "validation"), (TinyWithoutValidation, "test")]
)
def test_val_is_the_first_that_is_stored(tmp_path, builder, stored):
    assert contents(tfds_source(prepare(builder, tmp_path), "val")) == expected(stored)


def rewrite(path, *examples):
    """Put other records into the only shard of train."""
    writer = ArrayRecordWriter(str(next(path.glob("tiny-train.*"))), "group_size:1")
    for example in examples:
        writer.write(example)
    writer.close()


def test_labels_are_read_as_they_are(tmp_path):
    """The pipelines judge them: a source that raised would be skipped there as an unreadable picture."""
    path = prepare(Tiny, tmp_path)
    rewrite(path, *(encode_example(Record(b"x", i % 3 - 1, "odd.jpg")) for i in range(6)))
    assert [record.label for record in tfds_source(path, "train")] == [-1, 0, 1, -1, 0, 1]


def test_unreadable_records_are_named(tmp_path):
    path = prepare(Tiny, tmp_path)
    rewrite(path, b"\xff\xd8 a bare JPEG", b"", *[encode_example(Record(b"x", 0, "fine.jpg"))] * 4)
    source = tfds_source(path, "train")
    with pytest.raises(InputError, match=r"train\[0\] cannot be read"):
        source[0]
    with pytest.raises(InputError, match=r"train\[1\] lacks its image or its label"):
        source[1]
    assert [record_name(source, i) for i in (1, 2)] == [f"{path} train[1]", source[2].name]


def test_the_home_directory(prepared, monkeypatch):
    monkeypatch.setenv("HOME", str(prepared.parent))
    assert contents(open_source("tfds", f"~/{prepared.name}", "train")) == expected("train")


def test_a_format_without_random_access(tmp_path):
    path = prepare(Tiny, tmp_path)
    info = path / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    with pytest.raises(InputError, match=r"stored as tfrecord.*file_format='array_record'"):
        tfds_source(path, "train")


def test_missing_split(tmp_path):
    path = prepare(TinyWithoutValidation, tmp_path)
    info = path / "dataset_info.json"
    info.write_text(info.read_text().replace('"name": "test"', '"name": "extra"'))
    with pytest.raises(InputError, match=r"no split 'val' \(splits found: extra, train\)"):
        tfds_source(path, "val")


def test_missing_shard(tmp_path):
    path = prepare(Tiny, tmp_path)
    next(path.glob("tiny-test.*")).unlink()
    with pytest.raises(
        InputError, match=r"lacks 1 shards of split 'test' \(first tiny-test\.array_record-00000-of-00001"
    ):
        tfds_source(path, "test")


def test_other_features(tmp_path):
    with pytest.raises(InputError, match="expected an Image 'image' and a ClassLabel 'label'"):
        tfds_source(prepare(TinyText, tmp_path), "train")


@pytest.mark.parametrize("path", ["no_such_set", "no/such/path"])
def test_nothing_there(path):
    with pytest.raises(InputError, match=f"'{path}' is neither"):
        tfds_source(path, "train")


def test_an_unprepared_directory(tmp_path):
    with pytest.raises(InputError, match="is neither the directory of a prepared TFDS version"):
        tfds_source(tmp_path, "train")


def test_tensorflow_is_not_needed(prepared):
    code = f"""
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *args: None if name.split(".")[0] == "tensorflow" else find(name, *args)
from vgg_jax.data.sources import open_source
for source in ("tfds", "array_record"):
    print(len(open_source(source, {str(prepared)!r}, "train")[0].image))
"""
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output.split() == ["7", "7"]
