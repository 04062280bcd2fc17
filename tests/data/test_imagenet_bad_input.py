"""Tars, kits and outputs that are not what they should be: one sentence names the file, and nothing is written."""

import pytest
from imagenet_miniature import WORDS, encoded, kit_tar, prepare, tar_of, tars_in

from vgg_jax import InputError


def replaced(originals, folder, **files):
    """A copy of the originals in which the files of some splits (or the kit) hold other bytes."""
    names = {split: path.name for split, path in tars_in(originals).items()} | {"kit": "ILSVRC2012_devkit_t12.tar.gz"}
    for key, name in names.items():
        (folder / name).write_bytes(files.get(key, (originals / name).read_bytes()))
    return folder


def check_refused(folder, match, **changes):
    with pytest.raises(InputError, match=match):
        prepare(folder, folder / "out", **changes)
    assert not (folder / "out").exists()


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_truncated_tar_is_named(originals, tmp_path, split):
    tar = tars_in(originals)[split]
    size = len(tar.read_bytes().rstrip(b"\0"))
    check_refused(
        replaced(originals, tmp_path, **{split: tar.read_bytes()[: size - 200]}), rf"{tar.name} .*(truncated|holds)"
    )


def test_a_tar_cut_between_two_files_fails_the_count(originals, pictures, tmp_path):
    first = dict(list(pictures["val"].items())[:5])
    check_refused(replaced(originals, tmp_path, val=tar_of(first)), "img_val.tar holds 5 pictures, expected 7 for val")


def test_missing_files_are_named(originals, tmp_path):
    tars = tars_in(originals)
    with pytest.raises(InputError, match=r"there is no file .*gone\.tar"):
        prepare(originals, tmp_path, tars=tars | {"val": tmp_path / "gone.tar"})
    with pytest.raises(InputError, match=r"there is no file .*gone\.gz"):
        prepare(originals, tmp_path, devkit=tmp_path / "gone.gz")


@pytest.mark.parametrize(("split", "other"), [("train", "val"), ("val", "train"), ("val", "test"), ("test", "val")])
def test_tars_mixed_up(originals, tmp_path, split, other):
    tars = tars_in(originals)
    check_refused(replaced(originals, tmp_path, **{split: tars[other].read_bytes()}), f"{tars[split].name} holds")


def test_a_text_file_for_a_tar(originals, tmp_path):
    check_refused(replaced(originals, tmp_path, val=b"<html>not found</html>" * 100), "img_val.tar is truncated or not")
    check_refused(
        replaced(originals, tmp_path, kit=b"<html>not found</html>" * 100), "devkit_t12.tar.gz is truncated or"
    )


def test_a_truncated_kit(originals, tmp_path):
    check_refused(replaced(originals, tmp_path, kit=kit_tar()[:-300]), "devkit_t12.tar.gz is truncated or not")


@pytest.mark.parametrize("file", ["data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"])
def test_another_kit(originals, tmp_path, file):
    check_refused(replaced(originals, tmp_path, kit=kit_tar(without=(file,))), f"devkit_t12.tar.gz holds no {file}")


def test_a_kit_that_does_not_fit(originals, tmp_path):
    check_refused(originals, "names 5 classes, expected 1000", num_classes=1000)
    check_refused(
        replaced(originals, tmp_path, kit=kit_tar([1, 2, 6])), r"a line that is no class id of data/meta\.mat: 6"
    )
    check_refused(replaced(originals, tmp_path, kit=kit_tar([1, 2, 3])), "holds picture 7, but the kit labels 3")


def test_a_class_missing_or_unknown(originals, tmp_path):
    synsets = {f"{wnid}.tar": tar_of({f"{wnid}_1.JPEG": encoded()}) for wnid in list(WORDS)}
    unknown = synsets | {"n09999999.tar": synsets["n01000001.tar"]}
    check_refused(replaced(originals, tmp_path, train=tar_of(unknown)), r"img_train.tar holds n09999999\.tar")
    del synsets["n03000003.tar"]
    check_refused(replaced(originals, tmp_path, train=tar_of(synsets)), r"lacks 1 classes .*first n03000003\.tar")


def test_an_output_of_another_preparation(originals, tmp_path):
    prepare(originals, tmp_path)
    with pytest.raises(InputError, match="holds train in 4 shards, expected 5"):
        prepare(originals, tmp_path, images_per_shard=3)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(InputError, match=r"classes\.txt has other classes than the kit"):
        prepare(originals, tmp_path)


def test_shards_of_other_tars(originals, tmp_path):
    test_alone = {"tars": {"test": tars_in(originals)["test"]}, "images_per_shard": 2}
    prepare(originals, tmp_path, **test_alone)
    first, second = sorted(tmp_path.glob("test-*"))
    first.write_bytes(second.read_bytes())
    with pytest.raises(InputError, match=r"test-00000-of-00002\.array_record comes from other tars"):
        prepare(originals, tmp_path, **test_alone)
