"""What ImageNet hands out for ILSVRC2012: where each picture lies in the tars, and its label by the development kit.

Labels are positions in the sorted WordNet ids, as Caffe, Keras and torch have it, NOT the kit's ids.
"""

import io
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from vgg_jax.data.sources import NO_LABEL
from vgg_jax.errors import InputError
from vgg_jax.progress import progress_bar

META_FILE = "data/meta.mat"
TRUTH_FILE = "data/ILSVRC2012_validation_ground_truth.txt"


class Kit(NamedTuple):
    """What the development kit says."""

    wnids: tuple[str, ...]  # sorted; a label is a position here
    class_names: tuple[str, ...]  # in the same order: "n01440764 tench, Tinca tinca"
    ilsvrc_ids: tuple[int, ...]  # in the same order: the kit's own numbers, which the ILSVRC server takes
    val_labels: tuple[int, ...]  # of ILSVRC2012_val_00000001, 00000002, ...


class Entry(NamedTuple):
    """Where a picture lies in a tar that is not unpacked."""

    name: str  # file name without folders
    label: int
    offset: int  # bytes from the start of the outermost tar
    size: int  # bytes


def read_kit(path: Path, num_classes: int) -> Kit:
    """Read ILSVRC2012_devkit_t12.tar.gz; InputError if it is not that or has not `num_classes` classes."""
    files: dict[str, bytes] = {}
    with _opened(path, "r:*") as tar:
        for member in tar:
            name = next((name for name in (META_FILE, TRUTH_FILE) if f"/{member.name}".endswith(f"/{name}")), None)
            if name and (file := tar.extractfile(member)):
                files[name] = file.read()
    for name in (META_FILE, TRUTH_FILE):
        if name not in files:
            raise InputError(f"{path} holds no {name}; give the kit of tasks 1 and 2, ILSVRC2012_devkit_t12.tar.gz")
    wnid_of_id, words = _leaf_synsets(files[META_FILE], path)
    wnids = tuple(sorted(words))
    if len(wnids) != num_classes:
        raise InputError(f"{path} names {len(wnids)} classes, expected {num_classes}; give the kit that fits the tars")
    try:
        val_labels = tuple(wnids.index(wnid_of_id[int(line)]) for line in files[TRUTH_FILE].split())
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: {TRUTH_FILE} has a line that is no class id of {META_FILE}: {error}") from error
    id_of_wnid = {wnid: number for number, wnid in wnid_of_id.items()}
    class_names = tuple(f"{wnid} {words[wnid]}" for wnid in wnids)
    return Kit(wnids, class_names, tuple(id_of_wnid[wnid] for wnid in wnids), val_labels)


def _leaf_synsets(meta: bytes, path: Path) -> tuple[dict[int, str], dict[str, str]]:
    """{kit's id: WordNet id} and {WordNet id: words} of the classes; meta.mat holds their 860 ancestors as well."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise InputError("reading the development kit needs scipy; run `pip install scipy`") from error
    try:
        synsets = np.atleast_1d(loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"])
        leaves = [row for row in synsets if int(row["num_children"]) == 0]
        wnid_of_id = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in leaves}
        words = {str(row["WNID"]): str(row["words"]) for row in leaves}
    except Exception as error:  # scipy's reader and wrong fields fail in many ways
        raise InputError(f"{path}: {META_FILE} has no readable table of synsets ({error!r}); fetch it again") from error
    return wnid_of_id, words


def train_entries(path: Path, kit: Kit) -> list[Entry]:
    """The pictures of ILSVRC2012_img_train.tar, a tar of one tar a class, in the tar's order."""
    entries: list[Entry] = []
    label_of = {wnid: label for label, wnid in enumerate(kit.wnids)}
    with (
        _opened(path, "r:") as outer,
        progress_bar(total=len(label_of), desc=f"headers of {path.name}", unit="class") as bar,
    ):
        for member in _files(outer, path):
            wnid, _, suffix = PurePosixPath(member.name).name.partition(".")
            if suffix != "tar" or wnid not in kit.wnids:
                raise InputError(f"{path} holds {member.name}, expected one tar a class of the kit; give the train tar")
            if wnid not in label_of:
                raise InputError(f"{path} holds {member.name} twice; fetch it again")
            label = label_of.pop(wnid)
            with tarfile.open(fileobj=outer.extractfile(member), mode="r:") as inner:
                for picture in inner:
                    if picture.isfile():
                        name = PurePosixPath(picture.name).name
                        entries.append(Entry(name, label, member.offset_data + picture.offset_data, picture.size))
            bar.update()
    if label_of:
        raise InputError(f"{path} lacks {len(label_of)} classes of the kit, first {min(label_of)}.tar; fetch it again")
    return entries


def val_entries(path: Path, kit: Kit) -> list[Entry]:
    """The pictures of ILSVRC2012_img_val.tar by their number."""
    numbered = _numbered(path, "val")
    if numbered and max(numbered) > len(kit.val_labels):
        raise InputError(
            f"{path} holds picture {max(numbered)}, but the kit labels {len(kit.val_labels)}; they do not fit"
        )
    return [numbered[number]._replace(label=kit.val_labels[number - 1]) for number in sorted(numbered)]


def test_entries(path: Path, kit: Kit) -> list[Entry]:
    """The pictures of ILSVRC2012_img_test*.tar by their number; their labels are held back (-1)."""
    del kit
    numbered = _numbered(path, "test")
    return [numbered[number] for number in sorted(numbered)]


ENTRIES_OF_SPLIT = {"train": train_entries, "val": val_entries, "test": test_entries}


def _numbered(path: Path, split: str) -> dict[int, Entry]:
    """{number: entry} of a flat tar of ILSVRC2012_val_00000001.JPEG and so on."""
    numbered: dict[int, Entry] = {}
    with _opened(path, "r:") as tar:
        for member in _files(tar, path):
            name = PurePosixPath(member.name).name
            match = re.fullmatch(rf"ILSVRC2012_{split}_(\d+)\.JPEG", name)
            if not match or int(match[1]) == 0 or int(match[1]) in numbered:
                problem = (
                    "twice" if match and int(match[1]) in numbered else f", expected ILSVRC2012_{split}_00000001.JPEG"
                )
                raise InputError(f"{path} holds {member.name} {problem}; give the {split} tar")
            numbered[int(match[1])] = Entry(name, NO_LABEL, member.offset_data, member.size)
    return numbered


def _files(tar: tarfile.TarFile, path: Path) -> Iterator[tarfile.TarInfo]:
    end = path.stat().st_size
    for member in tar:
        if member.offset_data + member.size > end:
            raise InputError(f"{path} is truncated in {member.name} ({end} bytes); fetch it again")
        if member.isfile():
            yield member


@contextmanager
def _opened(path: Path, mode: str) -> Iterator[tarfile.TarFile]:
    """A tar open for reading; whatever is wrong with the file becomes an InputError that names it."""
    if not path.is_file():
        raise InputError(f"there is no file {path}; give the path of the file as ImageNet hands it out")
    try:
        with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
            yield tar
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise InputError(f"{path} is truncated or not such a tar ({error}); fetch it again") from error
