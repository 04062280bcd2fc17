"""The pipelines: what an example is depends on the seed and its position, and on nothing else."""

import dataclasses
import io
import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from vgg_jax.data.array_record import write_array_record_shards
from vgg_jax.data.pipeline import centre_crop_batches, rescaled_images, training_batches
from vgg_jax.data.sources import Record, open_source
from vgg_jax.errors import InputError
from vgg_jax.images.crop import centre_crop
from vgg_jax.images.rescale import rescale

N = 22
BROKEN = (3, 4, 21)


def picture(i):
    """A smooth picture of its own colour, so that a crop tells which it is; sides 40 to 62."""
    height, width = 40 + i, 62 - i
    ramp = np.linspace(0, 60, height)[:, None, None] + np.linspace(0, 40, width)[None, :, None]
    return (ramp + np.array([i * 7, 100, 150 - i * 5])).clip(0, 255).astype(np.uint8)


def write(root, broken=()):
    for i in range(N):
        path = root / ("ab"[i >= 11]) / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i in broken:
            path.write_text("not an image")
        else:
            buffer = io.BytesIO()
            Image.fromarray(picture(i)).save(buffer, "PNG")
            path.write_bytes(buffer.getvalue())
    return open_source("folder", str(root), "train", val_fraction=0)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write(tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def broken_source(tmp_path_factory):
    return write(tmp_path_factory.mktemp("broken"), BROKEN)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """The pictures with noise and at twice the size, as JPEGs."""
    root = tmp_path_factory.mktemp("photographs")
    for i in range(N):
        path = root / ("ab"[i >= 11]) / f"{i:02}.jpg"
        path.parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(i).integers(0, 20, (*picture(i).shape[:2], 3), dtype=np.uint8)
        image = Image.fromarray(picture(i) // 2 + noise)
        image.resize((3 * image.width // 2, 3 * image.height // 2)).save(path)
    return open_source("folder", str(root), "train", val_fraction=0)


class Counting:
    """A source that counts what is read."""

    def __init__(self, source):
        self.source, self.read, self.class_names, self.location = source, 0, source.class_names, source.location
        self.lock = threading.Lock()

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        with self.lock:
            self.read += 1
        return self.source[index]


def batches(source, n, **options):
    defaults = {"scale": (32, 48), "crop_size": 32, "batch_size": 8, "seed": 5}
    iterator = training_batches(source, **{**defaults, **options})
    try:
        return list(itertools.islice(iterator, n))
    finally:
        iterator.close()


def joined(parts):
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def assert_equal(left, right):
    left, right = joined(left), joined(right)
    assert left.keys() == right.keys() == {"image", "label", "index", "record", "skipped"}
    for key in left:
        np.testing.assert_array_equal(left[key], right[key], err_msg=key)


def test_shapes_types_and_positions(source):
    for step, batch in enumerate(batches(source, 3)):
        assert batch["image"].shape == (8, 32, 32, 3) and batch["image"].dtype == np.uint8
        for key in ("label", "index", "record", "skipped"):
            assert batch[key].shape == (8,) and batch[key].dtype == np.int32
        np.testing.assert_array_equal(batch["index"], np.arange(8) + 8 * step)
        np.testing.assert_array_equal(batch["label"], batch["record"] >= 11)
        assert not batch["skipped"].any()


def test_the_image_is_a_view_of_the_record(source):
    """By colour: red, less green's part of the ramp, tells the record; a crop may be enlarged, shifted, mirrored."""
    batch = joined(batches(source, 6))
    red_less_green = (batch["image"][..., 0].astype(float) - batch["image"][..., 1]).mean(axis=(1, 2))
    np.testing.assert_array_equal(np.round((red_less_green + 100) / 7), batch["record"])


def test_every_record_once_an_epoch_in_another_order(source):
    records = joined(batches(source, 11, batch_size=6))["record"][: 3 * N].reshape(
        3, N
    )  # batches across the epochs' ends
    np.testing.assert_array_equal(np.sort(records, axis=1), np.tile(np.arange(N), (3, 1)))
    assert len({tuple(row) for row in records}) == 3
    other = joined(batches(source, 11, batch_size=6, seed=6))["record"][: 3 * N].reshape(3, N)
    assert not {tuple(row) for row in records} & {tuple(row) for row in other}


def test_views_change_from_epoch_to_epoch_and_with_the_seed(source):
    one, two = joined(batches(source, 11)), joined(batches(source, 11, seed=6))
    of_record = [one["image"][one["record"] == 0], two["image"][two["record"] == 0]]
    images = [image.tobytes() for group in of_record for image in group]
    assert len(set(images)) == len(images) >= 6


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 8, "workers": 2}, {"threads": 3, "workers": 1}])
def test_workers_and_threads_do_not_matter(source, options):
    assert_equal(batches(source, 7, **options), batches(source, 7))


def test_the_fast_decoder_is_as_reproducible(photographs):
    expected = batches(photographs, 4, decoder="fast")
    assert_equal(batches(photographs, 4, decoder="fast", workers=1), expected)
    assert_equal(batches(photographs, 2, decoder="fast", first_step=2), expected[2:])
    exact = joined(batches(photographs, 4))
    for key in ("label", "index", "record", "skipped"):
        np.testing.assert_array_equal(exact[key], joined(expected)[key])
    difference = np.abs(exact["image"].astype(int) - joined(expected)["image"])
    assert 0 < difference.mean() < 1 and difference.max() < 20


@pytest.mark.parametrize("threads", [1, 4])
def test_few_batches_are_made_ahead(source, threads):
    """What nobody takes yet: at most one batch in the making and one made for each thread."""
    counting = Counting(source)
    iterator = training_batches(counting, scale=(32, 48), crop_size=32, batch_size=8, seed=5, threads=threads)
    for taken in range(1, 4):
        next(iterator)
        before = -1
        while before != counting.read:  # until the threads have made all that they make ahead
            before = counting.read
            time.sleep(0.2)
        assert 8 * (taken + 1) <= counting.read <= 8 * (taken + 2 * threads)
    iterator.close()


@pytest.mark.parametrize("threads", [1, 4])
def test_few_images_are_made_ahead_for_evaluation(source, threads):
    counting = Counting(source)
    images = rescaled_images(counting, (32,), threads=threads)
    next(images)
    before = -1
    while before != counting.read:
        before = counting.read
        time.sleep(0.2)
    assert 2 <= counting.read <= 1 + 2 * threads
    images.close()


@pytest.mark.parametrize("step", [1, 4])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_restart_goes_on_as_if_nothing_had_happened(source, step, workers):
    assert_equal(batches(source, 3, first_step=step, workers=workers), batches(source, step + 3)[step:])


@pytest.mark.parametrize("count", [2, 4])
def test_blocks_of_processes_make_the_global_batch(source, count):
    blocks = [batches(source, 4, process_index=p, process_count=count, first_step=2) for p in range(count)]
    whole = batches(source, 4, first_step=2)
    assert_equal([blocks[p][step] for step in range(4) for p in range(count)], whole)


def test_a_batch_larger_than_the_data(source):
    (batch,) = batches(source, 1, batch_size=3 * N)
    np.testing.assert_array_equal(np.bincount(batch["record"]), np.full(N, 3))


def test_far_positions_need_no_earlier_batch(source):
    (batch,) = batches(source, 1, first_step=10**7)
    np.testing.assert_array_equal(batch["index"], 8 * 10**7 + np.arange(8))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_file_is_named(broken_source, workers):
    with pytest.raises(InputError, match=r"^[ab]/(03|04|21)\.png: is not a readable image") as raised:
        batches(broken_source, 3, workers=workers)
    assert "\n" not in str(raised.value)


def test_skipping_takes_the_next_readable_record(source, broken_source):
    skipping, whole = joined(batches(broken_source, 6, on_error="skip")), joined(batches(source, 6))
    np.testing.assert_array_equal(skipping["record"], whole["record"])
    used = (skipping["record"] + skipping["skipped"]) % N
    expected = {3: (2, 5), 4: (1, 5), 21: (1, 0)}
    for i, record in enumerate(whole["record"]):
        assert (skipping["skipped"][i], used[i]) == expected.get(int(record), (0, record))
    np.testing.assert_array_equal(skipping["label"], used >= 11)
    colour = (skipping["image"][..., 0].astype(float) - skipping["image"][..., 1]).mean(axis=(1, 2))
    np.testing.assert_array_equal(np.round((colour + 100) / 7), used)
    readable = skipping["skipped"] == 0
    np.testing.assert_array_equal(skipping["image"][readable], whole["image"][readable])
    assert_equal(batches(broken_source, 6, on_error="skip", threads=1), [skipping])


def test_nothing_readable(tmp_path):
    source = write(tmp_path, range(N))
    with pytest.raises(InputError, match=f"none of the {N} training records is readable"):
        batches(source, 1, on_error="skip")


def stored(directory, labels, broken=()):
    """A source of shards that raises nothing about labels: pictures 0, 1, ... with these labels."""
    records = []
    for i, label in enumerate(labels):
        buffer = io.BytesIO()
        Image.fromarray(picture(i)).save(buffer, "PNG")
        records.append(Record(b"junk" if i in broken else buffer.getvalue(), label, f"{i}.png"))
    write_array_record_shards(directory, "train", records, ("a", "b"))
    return open_source("array_record", str(directory), "train")


def centre_crops(source, on_error):
    return list(centre_crop_batches(source, smallest_side=36, crop_size=32, batch_size=4, on_error=on_error))


PIPELINES = {
    "training": lambda source, on_error: batches(source, 2, on_error=on_error),
    "training in workers": lambda source, on_error: batches(source, 2, on_error=on_error, workers=1),
    "centre crops": centre_crops,
    "rescaled": lambda source, on_error: list(rescaled_images(source, (36,), on_error=on_error)),
}


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("label, broken", [(2, ()), (-2, ()), (2, (1,))])
def test_a_label_outside_the_classes_is_never_skipped(tmp_path, pipeline, on_error, label, broken):
    source = stored(tmp_path, [0, label, 1], broken)
    with pytest.raises(InputError, match=rf"^1\.png: label {label} is outside the 2 classes") as raised:
        PIPELINES[pipeline](source, on_error)
    assert "on_error" not in str(raised.value)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_unlabelled_images_can_be_evaluated_but_not_trained_on(tmp_path, on_error):
    source = stored(tmp_path, [0, -1, 1])
    for pipeline in ("training", "training in workers"):
        with pytest.raises(InputError, match=r"^1\.png: the training split holds an unlabelled image \(label -1\)"):
            PIPELINES[pipeline](source, on_error)
    (batch,) = centre_crops(source, on_error)
    assert batch["label"][:3].tolist() == [0, -1, 1] and batch["mask"].tolist() == [True, True, True, False]
    assert [label for _, label, _ in rescaled_images(source, (36,), on_error=on_error)] == [0, -1, 1]


CHOICE = ", or pass over such files with on_error=skip (--config.data.on_error=skip)"


def vanished(directory):
    """Three pictures in a folder, of which the second goes after the source was opened."""
    source = write(directory)
    source = dataclasses.replace(source, files=source.files[:3], labels=source.labels[:3])
    (directory / source.files[1]).unlink()
    return source


def damaged(directory):
    """Three pictures in a shard, with one bit changed in the second."""
    source = stored(directory, [0, 0, 1])
    (shard,) = directory.glob("*.array_record")
    data = bytearray(shard.read_bytes())
    data[data.index(source[1].image) + 100] ^= 1
    shard.write_bytes(data)
    return open_source("array_record", str(directory), "train")


@pytest.mark.parametrize("make, name", [(vanished, r"a/01\.png"), (damaged, r"train-.*\[1\]")])
def test_a_record_that_the_source_cannot_read_is_an_unreadable_one(tmp_path, make, name):
    source = make(tmp_path)
    for pipeline in PIPELINES.values():
        with pytest.raises(InputError, match=rf"^{name}:? cannot be read") as raised:
            pipeline(source, "raise")
        assert str(raised.value).endswith(CHOICE)
    for pipeline in ("training", "training in workers"):
        batch = joined(PIPELINES[pipeline](source, "skip"))
        np.testing.assert_array_equal(batch["skipped"], batch["record"] == 1)
        assert (batch["record"] == 1).any()
    (crops,) = centre_crops(source, "skip")
    assert crops["mask"].tolist() == [True, False, True, False]
    assert [images is None for _, _, images in PIPELINES["rescaled"](source, "skip")] == [False, True, False]


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_an_undecodable_picture_tells_the_choice(tmp_path, pipeline):
    with pytest.raises(InputError, match=r"^1\.png: is not a readable image") as raised:
        PIPELINES[pipeline](stored(tmp_path, [0, 1, 1], broken=(1,)), "raise")
    assert str(raised.value).endswith(f"; mend the file{CHOICE}")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"scale": (31, 48)}, "scale 31 is smaller than crop_size 32"),
        ({"scale": (48, 40)}, "backwards"),
        ({"on_error": "ignore"}, "choose one of raise, skip"),
        ({"decoder": "quick"}, "choose one of exact, fast"),
        ({"batch_size": 9, "process_count": 2}, "does not divide"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_arguments_are_told_at_once(source, options, message):
    defaults = {"scale": (32, 48), "crop_size": 32, "batch_size": 8, "seed": 5}
    with pytest.raises(InputError, match=message):
        training_batches(source, **{**defaults, **options})


@pytest.mark.parametrize("batch_size", [5, 11, 40])
def test_centre_crops_are_all_there_once(source, batch_size):
    found = list(centre_crop_batches(source, smallest_side=36, crop_size=32, batch_size=batch_size))
    assert len(found) == -(-N // batch_size)
    assert all(batch["image"].shape == (batch_size, 32, 32, 3) for batch in found)
    batch = joined(found)
    assert batch["image"].dtype == np.uint8 and batch["mask"].dtype == bool and batch["label"].dtype == np.int32
    np.testing.assert_array_equal(batch["record"][batch["mask"]], np.arange(N))
    np.testing.assert_array_equal(batch["record"][~batch["mask"]], -1)
    np.testing.assert_array_equal(batch["label"][:N], np.arange(N) >= 11)
    for i in range(N):
        np.testing.assert_array_equal(batch["image"][i], centre_crop(rescale(picture(i), 36), 32))


def test_centre_crops_mask_what_is_unreadable(broken_source):
    options = {"smallest_side": 36, "crop_size": 32, "batch_size": 8}
    batch = joined(list(centre_crop_batches(broken_source, **options, on_error="skip")))
    assert [int(i) for i in np.flatnonzero(~batch["mask"][:N])] == list(BROKEN)
    np.testing.assert_array_equal(batch["record"][:N], np.arange(N))
    with pytest.raises(InputError, match=r"a/03\.png"):
        list(centre_crop_batches(broken_source, **options))
    with pytest.raises(InputError, match="smaller than crop_size"):
        centre_crop_batches(broken_source, smallest_side=31, crop_size=32, batch_size=8)


@pytest.mark.parametrize("start, threads", [(0, 8), (5, 1), (N, 8)])
def test_rescaled_images_in_order(source, start, threads):
    found = list(rescaled_images(source, (32, 40, 51), range(start, len(source)), threads=threads))
    assert [(i, label) for i, label, _ in found] == [(i, int(i >= 11)) for i in range(start, N)]
    for i, _, images in found:
        for side, image in zip((32, 40, 51), images, strict=True):
            np.testing.assert_array_equal(image, rescale(picture(i), side))


def test_rescaled_images_of_unreadable_files(broken_source):
    found = list(rescaled_images(broken_source, (32,), on_error="skip"))
    assert [i for i, _, images in found if images is None] == list(BROKEN)
    assert [i for i, _, _ in found] == list(range(N))
    with pytest.raises(InputError, match=r"a/04\.png"):
        list(rescaled_images(broken_source, (32,), range(4, len(broken_source))))


def test_a_result_too_large_names_its_file(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(np.zeros((1, 60000, 3), np.uint8)).save(tmp_path / "a" / "line.png")
    line = open_source("folder", str(tmp_path), "train", val_fraction=0)
    with pytest.raises(InputError, match=r"a/line\.png: .*at most"):
        list(rescaled_images(line, (64,)))
    (batch,) = batches(line, 1, batch_size=2)  # training computes the window alone
    assert batch["image"].shape == (2, 32, 32, 3)


ENDLESS = """
import multiprocessing, sys
from vgg_jax.data.pipeline import training_batches
from vgg_jax.data.sources import open_source
if __name__ == "__main__":
    source = open_source("folder", sys.argv[1], "train", val_fraction=0)
    batches = training_batches(source, scale=(32, 48), crop_size=32, batch_size=8, seed=5, workers=2)
    next(batches)
    print(*[process.pid for process in multiprocessing.active_children()], flush=True)
    sys.stdin.read()
"""


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="workers are counted in /proc, which is absent here")
def test_a_killed_run_leaves_no_workers(source, tmp_path):
    (tmp_path / "endless.py").write_text(ENDLESS)
    command = [sys.executable, str(tmp_path / "endless.py"), source.root]
    pipe, quiet = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=quiet, text=True) as run:
        workers = [int(pid) for pid in run.stdout.readline().split()]
        assert len(workers) == 2 and all(map(alive, workers))
        run.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, workers))
