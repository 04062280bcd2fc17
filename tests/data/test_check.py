"""A data set looked through beforehand: every odd and every bad file of a known folder is found."""

import os

import pytest
from odd_images import BAD, BOMBS, GOOD, write_odd_folder
from running_scripts import assert_one_error_line, script

from vgg_jax.data import check
from vgg_jax.data.array_record import write_array_record_shards
from vgg_jax.data.bad_images import read_bad_images
from vgg_jax.data.check import check_source, open_splits, report_table
from vgg_jax.data.pipeline import centre_crop_batches, training_batches
from vgg_jax.data.sources import Record, open_source
from vgg_jax.errors import InputError

# Where a script runs, decode.py silences it; in tests warnings are errors.
pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")

ODD = {
    "CMYK": ["cmyk.jpg"],
    "PNG named JPEG": ["a_png_named.jpg"],
    "grey": ["grey.jpg", "grey_of_16_bits.png"],
    "16 bits a channel": ["grey_of_16_bits.png", "colour_of_16_bits.png"],
    "rotated by EXIF": ["rotated.jpg"],
    "palette": ["palette.png", "animated.gif"],
    "several frames": ["animated.gif"],
    "alpha": ["alpha.png"],
    "32 times as long as wide, or more": ["a_line.png"],
}


def stored(directory, labels, broken=()):
    """Shards of pictures 0.png, 1.png, ... with these labels of two classes."""
    records = [
        Record(b"junk" if i in broken else GOOD["palette.png"], label, f"{i}.png") for i, label in enumerate(labels)
    ]
    write_array_record_shards(directory, "train", records, ("a", "b"))
    return open_source("array_record", str(directory), "train")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("odd") / "set"
    return root, write_odd_folder(root)


def test_everything_is_found(folder):
    root, bad = folder
    (source,) = open_splits("folder", str(root)).values()
    done = []
    report = check_source(source, processes=0, advance=done.append)
    assert sum(done) == report.num_images == len(source) == 40 + len(GOOD) + len(bad)
    assert sorted(report.bad) == bad
    assert {what: kind.number for what, kind in report.odd.items()} == {what: len(names) for what, names in ODD.items()}
    for what, kind in report.odd.items():
        assert kind.example.partition("/")[2] in ODD[what]
    assert all("bomb" not in name or reason.startswith("announces") for name, reason in report.bad.items())


@pytest.mark.parametrize("chunk", [32, 3])
def test_processes_find_the_same(monkeypatch, folder, chunk):
    monkeypatch.setattr(check, "_CHUNK", chunk)
    (source,) = open_splits("folder", str(folder[0])).values()
    assert check_source(source, processes=2) == check_source(source, processes=0)


def test_the_table(folder):
    (source,) = open_splits("folder", str(folder[0])).values()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in
             report_table(check_source(source, processes=0)).splitlines()]  # fmt: skip
    numbers = {what: number for what, number, _ in lines}
    assert numbers["images"] == str(len(source)) and numbers["read: CMYK"] == "1"
    assert numbers["bad: announces N pixels"] == str(len(BOMBS))
    assert numbers["bad: cannot be read"] == "2" and numbers["bad"] == str(len(BAD) + 2)


def test_array_records(tmp_path):
    source = stored(tmp_path, [0, -1, 7, 1], broken=(3,))
    report = check_source(source, processes=0)
    assert report.bad == {
        "2.png": "label 7 is outside the 2 classes; correct it",
        "3.png": report.bad["3.png"],
    } and report.bad["3.png"].startswith("is not a readable image")
    assert report.odd["without a label"] == (1, "1.png")


class Deadly:
    """A source with a record whose reading ends the process."""

    class_names = ("a",)

    def __len__(self):
        return 100

    def location(self, index):
        return f"record {index}"

    def __getitem__(self, index):
        if index == 50:
            os._exit(1)
        return Record(b"", 0, f"{index}")


def test_a_process_that_dies_is_told():
    with pytest.raises(InputError, match=r"a process died in decoding, some images after record \d+ "):
        check_source(Deadly(), processes=1)


def test_all_splits_once(tmp_path):
    write_odd_folder(tmp_path / "set" / "train", ordinary=1)
    write_odd_folder(tmp_path / "set" / "val", ordinary=2)
    splits = open_splits("folder", str(tmp_path / "set"))
    assert list(splits) == ["train", "val"] and len(splits["val"]) == len(splits["train"]) + 2
    assert list(open_splits("folder", str(tmp_path / "set"), "val")) == ["val"]
    assert list(open_splits("folder", str(tmp_path / "set" / "val"))) == ["train"]
    assert list(open_splits("folder", str(tmp_path / "set" / "val"), val_fraction=0.5)) == ["train", "val"]
    stored(tmp_path / "records", [0, 1])
    assert list(open_splits("array_record", str(tmp_path / "records"))) == ["train"]
    with pytest.raises(InputError, match="is not a directory"):
        open_splits("array_record", str(tmp_path / "nothing"))


def test_training_passes_over_the_listed_files_alone(folder, tmp_path):
    root, bad = folder
    run = script("check_data.py", f"--data_path={root}", f"--output={tmp_path / 'bad.txt'}", "--processes=1")
    assert run.returncode == 1, run.stderr
    assert f"{len(bad)} bad images" in run.stdout and "images/s" in run.stderr
    assert sorted(read_bad_images(tmp_path / "bad.txt")) == bad
    source = open_source("folder", str(root), "train", val_fraction=0)
    options = {"scale": (32, 40), "crop_size": 32, "batch_size": len(source), "seed": 0}
    batch = next(training_batches(source, **options, on_error=f"skip:{tmp_path / 'bad.txt'}"))
    skipped = next(training_batches(source, **options, on_error="skip"))
    assert all((batch[key] == skipped[key]).all() for key in batch) and batch["skipped"].sum() >= len(bad)
    (tmp_path / "short.txt").write_text("".join(f"{name}\n" for name in bad[1:]))
    with pytest.raises(InputError, match=bad[0]):
        next(training_batches(source, **options, on_error=f"skip:{tmp_path / 'short.txt'}"))
    crops = centre_crop_batches(
        source, smallest_side=36, crop_size=32, batch_size=len(source), on_error=f"skip:{tmp_path / 'bad.txt'}"
    )
    assert int((~next(crops)["mask"]).sum()) == len(bad)


def test_a_good_set_ends_well_and_a_wrong_path_in_one_line(tmp_path):
    write_odd_folder(tmp_path / "set", ordinary=2)
    for name in open_source("folder", str(tmp_path / "set"), "train", val_fraction=0).files:
        if "ordinary" not in name:
            (tmp_path / "set" / name).unlink()
    data, output = f"--data_path={tmp_path / 'set'}", f"--output={tmp_path / 'bad.txt'}"
    run = script("check_data.py", data, output, "--processes=0")
    assert run.returncode == 0 and (tmp_path / "bad.txt").read_text() == "", run.stderr
    assert_one_error_line(script("check_data.py", f"--data_path={tmp_path / 'nothing'}"), "nothing", "not a folder")
    assert_one_error_line(script("check_data.py", data, "--output=no/such/x.txt"), "--output=no/such/x.txt")
