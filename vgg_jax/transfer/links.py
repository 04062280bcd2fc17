"""A random split as a folder that train.py reads, to fine-tune a net on the images that an SVM is trained on."""

import os
import shutil
from pathlib import Path

from vgg_jax.data.folder import FolderSource
from vgg_jax.errors import InputError
from vgg_jax.transfer.splits import Split, hold_out


def link_split(source: FolderSource, split: Split, folder: Path) -> None:
    """Make FOLDER/{train,val,test}/CLASS/ of links to the images of a split; val is what is held out of its training.

    Raises InputError where the folder is there already; it comes whole or not at all.
    """
    if folder.exists():
        raise InputError(f"{folder} exists: give another folder for the links, or remove it")
    held_out = hold_out(source.labels[split.train])
    parts = {"train": split.train[~held_out], "val": split.train[held_out], "test": split.test}
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    for part, records in parts.items():
        for file in (source.files[record] for record in records):
            link = temporary / part / Path(*Path(file).parts[-2:])
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(Path(source.root, file).resolve())
    os.replace(temporary, folder)
