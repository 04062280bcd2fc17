"""The folder source: root/<class>/*.jpg, or root/{train,val,test}/<class>/*.jpg."""

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from vgg_jax.data.sources import Record
from vgg_jax.errors import InputError, MissingSplit

MAX_BYTES = 2**29  # a file that is larger is not read: no image of MAX_PIXELS needs it
_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")  # in any case


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """Image files with labels; see `folder_source`."""

    root: str
    class_names: tuple[str, ...]
    files: tuple[str, ...]  # relative to root
    labels: np.ndarray  # int32 [len(files)]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Record:
        name = self.files[index]
        try:
            with Path(self.root, name).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                data = file.read() if size <= MAX_BYTES else b""
        except OSError as error:
            raise InputError(f"{name}: cannot be read in {self.root} ({error.strerror}); mend the file") from error
        if size > MAX_BYTES:
            raise InputError(f"{name}: has {size} bytes, at most {MAX_BYTES} are read of an image; remove the file")
        return Record(data, int(self.labels[index]), name)

    def location(self, index: int) -> str:
        """The file, relative to the root."""
        return self.files[index]


def folder_source(
    path: str,
    split: str,
    *,
    split_seed: int = 0,
    val_fraction: float = 0.1,
    test_fraction: float = 0.0,
    images_per_class: int | None = None,
) -> FolderSource:
    """Open "train", "val" or "test" of a folder of classes, each a folder (or a link to one) of image files.

    `path` holds the classes, or the folders train, val and test (any of the last two may lack) that hold them.  A split
    without a folder of its own takes its fraction of each class's training images, at least one: the splits are
    disjoint and together hold every image.  Files are ranked by a hash of `split_seed`, class and file name: where one
    image comes or goes, at most one other moves between train and val, at most one between train and test, and none
    between val and test.  `images_per_class` caps what is left for training, in the same order; val and test are never
    capped.  Classes are ordered by name, or as in `path`/classes.txt (one folder name a line; words after it belong to
    the name that is shown).  Hidden files, folders and other extensions are ignored; a link to nothing is an image that
    cannot be read.  Raises InputError for a missing path, no
    classes, an empty class, a split that does not exist, too few images to split, or a classes.txt that does not match.
    """
    _check_numbers(val_fraction, test_fraction, images_per_class)
    root = Path(path)
    if not root.is_dir():
        raise InputError(f"data path {path} is not a folder; expected a folder of class folders")
    train_folder = root / "train" if _subfolders(root / "train") else root
    own_folder = {name: train_folder != root and (root / name).is_dir() for name in ("val", "test")}
    fractions = {"val": val_fraction, "test": test_fraction}
    drawn = {name: 0.0 if own_folder[name] else fractions[name] for name in ("test", "val")}
    if split != "train" and not own_folder[split] and not drawn[split]:
        raise MissingSplit(f"data path {path} has no {split} split; give {split}_fraction > 0 or a folder {split}/")

    folders = _subfolders(train_folder)
    if not folders:
        raise InputError(f"data path {path} holds no class folders; expected PATH/<class>/*.jpg")
    folders, class_names = _ordered_classes(root, folders)
    chosen, part = train_folder, split
    if split != "train" and own_folder[split]:
        chosen, part, drawn = root / split, "train", {}
        _check_same_classes(chosen, folders)

    files: list[str] = []
    counts = []
    for folder in folders:
        names = _image_names(chosen / folder)
        parts = _deal(_ranked(names, f"{split_seed}/{folder}"), drawn, chosen / folder)
        kept = parts[part][:images_per_class] if split == "train" else parts[part]
        prefix = os.path.relpath(chosen / folder, root)
        files += [f"{prefix}/{name}" for name in sorted(kept)]
        counts.append(len(kept))
    labels = np.repeat(np.arange(len(folders), dtype=np.int32), counts)
    return FolderSource(str(root), class_names, tuple(files), labels)


def _check_numbers(val_fraction: float, test_fraction: float, images_per_class: int | None) -> None:
    if not (val_fraction >= 0 and test_fraction >= 0 and val_fraction + test_fraction < 1):
        raise InputError(
            f"val_fraction {val_fraction} and test_fraction {test_fraction} leave nothing to train on; "
            "expected numbers from 0 that sum to less than 1"
        )
    if images_per_class is not None and images_per_class < 1:
        raise InputError(f"images_per_class is {images_per_class}; expected at least 1, or None for all images")


def _scanned(folder: Path) -> Any:
    try:
        return os.scandir(folder)
    except OSError as error:
        raise InputError(f"folder {folder} cannot be read ({error.strerror}); mend its permissions") from error


def _subfolders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    with _scanned(folder) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())


def _image_names(folder: Path) -> list[str]:
    with _scanned(folder) as entries:
        names = sorted(
            entry.name
            for entry in entries
            if not entry.name.startswith(".") and entry.name.lower().endswith(_EXTENSIONS) and _is_file(entry)
        )
    if not names:
        raise InputError(f"class folder {folder} holds no images; add some ({' '.join(_EXTENSIONS)}) or remove it")
    return names


def _is_file(entry: os.DirEntry) -> bool:
    """A file, or a link that leads nowhere: who made it believes that there is an image."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:  # links in a circle
        return True


def _ranked(names: list[str], seed: str) -> list[str]:
    """The files of a class in a random order in which each keeps its place among the others whatever comes or goes."""
    # File names need not be valid text; fsencode gives their bytes.
    return sorted(names, key=lambda name: hashlib.sha256(os.fsencode(f"{seed}/{name}")).digest())


def _deal(ranked: list[str], drawn: dict[str, float], folder: Path) -> dict[str, list[str]]:
    """Deal each split of `drawn` its fraction, at least one: test the first ranks, val the last, "train" those between.

    At the two ends, so that the size of one never moves the other.
    """
    sizes = {split: max(1, round(fraction * len(ranked))) if fraction else 0 for split, fraction in drawn.items()}
    first, last = sizes.get("test", 0), len(ranked) - sizes.get("val", 0)
    if first >= last:
        raise InputError(f"class folder {folder} holds {len(ranked)} image(s), too few to split; add some or remove it")
    return {"test": ranked[:first], "train": ranked[first:last], "val": ranked[last:]}


def _ordered_classes(root: Path, folders: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """The class folders in the order of classes.txt, where there is one, and the names to show."""
    listing = root / "classes.txt"
    if not listing.is_file():
        return folders, tuple(folders)
    lines = [line.strip() for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()]
    found = [line if line in folders else line.split()[0] for line in lines]
    if sorted(found) != folders:
        missing, unknown = sorted(set(folders) - set(found)), sorted(set(found) - set(folders))
        raise InputError(
            f"{listing} does not match the {len(folders)} class folders: {len(lines)} lines, not listed {missing[:3]}, "
            f"without folder {unknown[:3]}; give each folder one line"
        )
    return found, tuple(lines)


def _check_same_classes(folder: Path, expected: list[str]) -> None:
    found = _subfolders(folder)
    if set(found) != set(expected):
        missing, unknown = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
        raise InputError(
            f"{folder} has other classes than the training folder: missing {missing[:3]}, unknown {unknown[:3]}; "
            "give both the same class folders"
        )
