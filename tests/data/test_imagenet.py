"""ImageNet's tars in miniature become shards: against what was put in, through kills and restarts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from imagenet_miniature import (
    LABEL_OF_WNID,
    NUM_IMAGES,
    VAL_LABELS,
    WNID_OF_ID,
    WORDS,
    prepare,
    tars_in,
)

from vgg_jax import InputError
from vgg_jax.data import imagenet
from vgg_jax.data.array_record import array_record_source
from vgg_jax.images.decode import decode_rgb

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def prepared(originals, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared")
    prepare(originals, output)
    return output


def test_train_is_the_original_bytes_in_the_order_of_the_tar(prepared, pictures):
    source = array_record_source(prepared, "train")
    assert [(record.name, record.image) for record in source] == list(pictures["train"].items())
    assert [record.label for record in source] == [LABEL_OF_WNID[record.name[:9]] for record in source]


def test_val_labels_are_mapped_through_the_kit(prepared, pictures):
    source = array_record_source(prepared, "val")
    assert [record.label for record in source] == VAL_LABELS
    assert [(record.name, record.image) for record in source] == sorted(pictures["val"].items())


def test_test_pictures_are_unlabelled(prepared, pictures):
    source = array_record_source(prepared, "test")
    assert [record.label for record in source] == [-1] * 4
    assert [(f"test/{record.name}", record.image) for record in source] == sorted(pictures["test"].items())


def test_class_names_are_in_wordnet_order(prepared):
    expected = [f"{wnid} {words}" for wnid, words in sorted(WORDS.items())]
    assert (prepared / "classes.txt").read_text().splitlines() == expected
    assert array_record_source(prepared, "val").class_names == tuple(expected)


def test_the_servers_numbers_stand_beside_the_class_names(prepared):
    number_of_wnid = {wnid: number for number, wnid in WNID_OF_ID.items() if wnid in WORDS}
    ids = tuple(number_of_wnid[wnid] for wnid in sorted(WORDS))
    assert ids != tuple(sorted(ids))  # or a mix-up would not show
    assert array_record_source(prepared, "test").ilsvrc_ids == ids


def test_shards(prepared):
    names = {path.name for path in prepared.glob("*.array_record*")}
    assert names == {
        f"{split}-{i:05d}-of-{n:05d}.array_record"
        for split, n in (("train", 4), ("val", 2), ("test", 1))
        for i in range(n)
    }


def test_large_shards_keep_the_order(originals, prepared, tmp_path):
    prepare(originals, tmp_path, images_per_shard=100, threads=1)  # more pictures a shard than may be in flight
    for split in NUM_IMAGES:
        assert list(array_record_source(tmp_path, split)) == list(array_record_source(prepared, split))


def test_undecodable_pictures_are_named_and_kept(originals, tmp_path, capfd):
    bad = prepare(originals, tmp_path)
    assert sorted(bad) == ["ILSVRC2012_val_00000006.JPEG", "n02000002_14.JPEG"]
    lines = (tmp_path / "bad_images.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == sorted(bad)
    screen = "".join(capfd.readouterr())
    assert all(name in screen for name in bad)


def test_cmyk_and_png_decode(prepared):
    records = {record.name: record for record in array_record_source(prepared, "train")}
    for name in ("n01000001_7.JPEG", "n04000004_0.JPEG"):
        assert decode_rgb(records[name].image).shape == (16, 20, 3)


def test_finished_shards_are_kept_and_missing_ones_written(originals, tmp_path, monkeypatch):
    """Interrupted in the middle of the third shard of train."""
    read = []

    def interrupted(data, name):
        read.append(name)
        if len(read) == 10:
            raise KeyboardInterrupt
        return decode_rgb(data, name)

    monkeypatch.setattr(imagenet, "decode_rgb", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(originals, tmp_path, threads=1)
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.array_record")}
    assert sorted(path.name for path in finished) == [f"train-0000{i}-of-00004.array_record" for i in range(2)]

    read.clear()
    monkeypatch.setattr(imagenet, "decode_rgb", lambda data, name: read.append(name) or decode_rgb(data, name))
    bad = prepare(originals, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert len(read) == 15 - 7 + 7 + 4  # the first two shards of train hold 3 and 4 of the 15
    assert not list(tmp_path.glob("*.partial"))
    assert sorted(bad) == ["ILSVRC2012_val_00000006.JPEG", "n02000002_14.JPEG"]
    monkeypatch.setattr(imagenet, "decode_rgb", None)  # a third run has nothing to do
    assert prepare(originals, tmp_path) == bad


def test_bad_pictures_of_finished_shards_are_remembered(originals, tmp_path):
    prepare(originals, tmp_path)
    (tmp_path / "train-00000-of-00004.array_record").unlink()
    assert sorted(prepare(originals, tmp_path)) == ["ILSVRC2012_val_00000006.JPEG", "n02000002_14.JPEG"]


def script(folder, output, *arguments, cwd=REPOSITORY):
    path = REPOSITORY / "experiments" / "prepare_imagenet.py"
    flags = [f"--{split}_tar={tar}" for split, tar in tars_in(folder).items()]
    flags += [f"--num_{split}={number}" for split, number in NUM_IMAGES.items()]
    flags += [f"--devkit={folder}/ILSVRC2012_devkit_t12.tar.gz", f"--output={output}", "--num_classes=5"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, os.path.relpath(path, cwd), *flags, *arguments]
    return subprocess.Popen(command, cwd=cwd, env=environment, stdout=-1, stderr=-1, text=True)


@pytest.mark.parametrize("folder", [".", "experiments"])
def test_the_script(originals, prepared, tmp_path, folder):
    process = script(originals, tmp_path, "--images_per_shard=4", cwd=REPOSITORY / folder)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "2 undecodable pictures" in output
    for split in NUM_IMAGES:
        assert list(array_record_source(tmp_path, split)) == list(array_record_source(prepared, split))


def test_the_script_tells_a_mistake_in_one_sentence(originals, tmp_path):
    process = script(originals, tmp_path / "out", "--num_val=50000")
    _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.splitlines()[-1].startswith("error: ") and "holds 7 pictures, expected 50000 for val" in errors
    assert "Traceback" not in errors and not (tmp_path / "out").exists()


def test_killed_and_started_again(originals, prepared, tmp_path):
    process = script(originals, tmp_path, "--images_per_shard=1", "--threads=1")
    while len(list(tmp_path.glob("*.array_record"))) < 3 and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert prepare(originals, tmp_path, images_per_shard=1)
    for split in NUM_IMAGES:
        assert list(array_record_source(tmp_path, split)) == list(array_record_source(prepared, split))


def test_two_runs_at_once(originals, tmp_path, monkeypatch):
    def second_run(data, name):
        with pytest.raises(InputError, match="another run is writing"):
            prepare(originals, tmp_path)
        seen.append(name)

    seen = []
    monkeypatch.setattr(imagenet, "decode_rgb", second_run)
    prepare(originals, tmp_path, threads=1)
    assert len(seen) == 26
