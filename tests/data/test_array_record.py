"""ArrayRecord shards: what is written is read back, and every way of being incomplete is told in one sentence."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from tensorflow_datasets.proto import tf_example_pb2

from vgg_jax import InputError
from vgg_jax.data.array_record import (
    array_record_source,
    read_ilsvrc_ids,
    shard_name,
    write_array_record_shards,
    write_shard,
)
from vgg_jax.data.sources import Record, open_source

CLASSES = ("cat", "dog, domestic dog", "señal")


def some_records(count):
    return [Record(bytes([i]) * (100 + i), i % 3, f"picture_{i}.jpg") for i in range(count)]


@pytest.fixture
def data(tmp_path):
    write_array_record_shards(tmp_path, "train", some_records(11), CLASSES, num_shards=3)
    return tmp_path


def write_example(path, **features):
    example = tf_example_pb2.Example()
    for key, value in features.items():
        if isinstance(value, bytes):
            example.features.feature[key].bytes_list.value.append(value)
        else:
            example.features.feature[key].int64_list.value.append(value)
    writer = ArrayRecordWriter(str(path), "group_size:1")
    writer.write(example.SerializeToString())
    writer.close()


def test_records_come_back_in_order(data):
    source = open_source("array_record", str(data), "train")
    assert list(source) == some_records(11)
    assert (len(source), source.class_names) == (11, CLASSES)
    with pytest.raises(IndexError):
        source[11]
    with pytest.raises(IndexError):
        source[-1]


def test_shards_allow_random_access_and_nearly_equal_blocks(data):
    shards = sorted(data.glob("*.array_record"))
    assert [shard.name for shard in shards] == [f"train-0000{i}-of-00003.array_record" for i in range(3)]
    readers = [ArrayRecordReader(str(shard)) for shard in shards]
    assert [reader.num_records() for reader in readers] == [3, 4, 4]
    assert all("group_size:1," in reader.writer_options_string() for reader in readers)
    parsed = tf_example_pb2.Example.FromString(readers[0].read([1])[0]).features.feature
    assert sorted(parsed) == ["file_name", "image", "label"]
    assert parsed["label"].int64_list.value == [1]


def test_pickles_and_is_read_by_many_threads(data):
    source = array_record_source(data, "train")
    assert source[4] == some_records(11)[4]  # opens a reader, which must not be pickled
    copy = pickle.loads(pickle.dumps(source))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(copy.__getitem__, list(range(11)) * 50)) == some_records(11) * 50


def test_val_may_be_stored_as_validation_and_test_may_be_unlabelled(tmp_path):
    write_array_record_shards(tmp_path, "validation", some_records(2), CLASSES)
    write_array_record_shards(tmp_path, "test", [Record(b"x", -1, "t")], CLASSES)
    assert len(array_record_source(tmp_path, "val")) == 2
    assert array_record_source(tmp_path, "test")[0].label == -1


@pytest.mark.parametrize("stored", [("val", "validation", "test"), ("validation", "test"), ("test",)])
def test_val_is_the_first_that_is_stored(tmp_path, stored):
    for label, split in enumerate(stored):
        write_array_record_shards(tmp_path, split, [Record(b"x", label, f"{split}.jpg")], CLASSES)
    assert open_source("array_record", str(tmp_path), "val")[0].name == f"{stored[0]}.jpg"


def test_the_home_directory(data, monkeypatch):
    monkeypatch.setenv("HOME", str(data.parent))
    assert len(open_source("array_record", f"~/{data.name}", "train")) == 11


def test_without_a_file_name_the_place_is_the_name(tmp_path):
    write_array_record_shards(tmp_path, "train", [], CLASSES)
    write_example(tmp_path / shard_name("train", 0, 1), image=b"abc", label=2)
    assert array_record_source(tmp_path, "train")[0] == Record(b"abc", 2, "train-00000-of-00001.array_record[0]")


def test_an_interrupted_shard_does_not_exist(tmp_path):
    def records():
        yield from some_records(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path / shard_name("train", 0, 1), records())
    assert not list(tmp_path.glob("*.array_record"))
    assert write_shard(tmp_path / shard_name("train", 0, 1), some_records(2)) == 2
    assert [path.name for path in tmp_path.iterdir()] == [shard_name("train", 0, 1)]


def test_missing_directory(tmp_path):
    with pytest.raises(InputError, match="nowhere is not a directory"):
        array_record_source(tmp_path / "nowhere", "train")


def test_missing_split_lists_what_is_there(data):
    with pytest.raises(InputError, match=r"no split 'val' \(splits found: train\)"):
        array_record_source(data, "val")


def test_missing_shards_are_named(data):
    (data / shard_name("train", 1, 3)).unlink()
    with pytest.raises(InputError, match=r"lacks 1 of the 3 shards .*train-00001-of-00003"):
        array_record_source(data, "train")


def test_two_sets_of_shards(data):
    write_array_record_shards(data, "train", some_records(2), CLASSES, num_shards=2)
    with pytest.raises(InputError, match="in 2 and 3 shards at once"):
        array_record_source(data, "train")


def test_missing_class_names(data):
    (data / "classes.txt").unlink()
    with pytest.raises(InputError, match=r"has no classes\.txt"):
        array_record_source(data, "train")


@pytest.mark.parametrize("content", [b"", b"text" * 30000])
def test_a_file_that_is_no_shard(data, content):
    (data / shard_name("train", 2, 3)).write_bytes(content)
    with pytest.raises(InputError, match=r"train-00002-of-00003\.array_record is not a whole ArrayRecord file"):
        array_record_source(data, "train")


def test_a_damaged_record_is_named(tmp_path):
    records = [Record(bytes(range(256)) * 400, 0, f"{i}.jpg") for i in range(4)]
    write_array_record_shards(tmp_path, "train", records, CLASSES)
    shard = tmp_path / shard_name("train", 0, 1)
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    source = array_record_source(tmp_path, "train")
    with pytest.raises(InputError, match=r"train-00000-of-00001.array_record\[\d\] cannot be read"):
        list(source)


@pytest.mark.parametrize(("split", "label"), [("train", 3), ("train", -1), ("test", -2)])
def test_labels_are_read_as_they_are(tmp_path, split, label):
    """The pipelines judge them: a source that raised would be skipped there as an unreadable picture."""
    write_array_record_shards(tmp_path, split, [Record(b"x", label, "odd.jpg")], CLASSES)
    assert array_record_source(tmp_path, split)[0].label == label


@pytest.mark.parametrize("features", [{"image": b"x"}, {"label": 1}, {"image": 3, "label": 1}])
def test_records_without_the_two_features(tmp_path, features):
    write_array_record_shards(tmp_path, "train", [], CLASSES)
    write_example(tmp_path / shard_name("train", 0, 1), **features)
    with pytest.raises(InputError, match="has no single"):
        array_record_source(tmp_path, "train")[0]


def test_records_that_are_no_examples(tmp_path):
    write_array_record_shards(tmp_path, "train", [], CLASSES)
    writer = ArrayRecordWriter(str(tmp_path / shard_name("train", 0, 1)), "group_size:1")
    writer.write(b"\xff\xd8\xff\xe0 a bare JPEG")
    writer.close()
    with pytest.raises(InputError, match=r"is not a tf\.train\.Example"):
        array_record_source(tmp_path, "train")[0]


@pytest.mark.parametrize("text", ["1\n2\n", "1\n2\ntwo\n", "1\n2\n2\n"])
def test_wrong_numbers_of_the_server_are_told(tmp_path, text):
    (tmp_path / "ilsvrc_ids.txt").write_text(text)
    with pytest.raises(InputError, match=r"ilsvrc_ids\.txt holds .* but 3 different numbers are expected"):
        read_ilsvrc_ids(tmp_path, 3)
    assert read_ilsvrc_ids(tmp_path / "absent", 3) is None
