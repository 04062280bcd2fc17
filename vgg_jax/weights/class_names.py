"""Names of a net's classes, for people to read."""

import logging
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from vgg_jax.errors import InputError

log = logging.getLogger(__name__)


def class_names(num_classes: int, stored: Sequence[str] | None, file: Path | None = None) -> list[str]:
    """One name a class: those of a file, one a line; else those stored with the weights; else ImageNet's.

    WordNet ids of ImageNet's 1000 classes get their names. ImageNet's are taken, and it is logged, where 1000 classes
    have no names; another number of classes without names is numbered. Raises InputError where a file has not as many,
    or is no text.
    """
    if file is not None:
        try:
            names = file.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as reason:
            raise InputError(f"{file} is no text in UTF-8 ({reason.reason}): save it as UTF-8") from reason
        if len(names) != num_classes:
            raise InputError(f"{file} has {len(names)} names, one a line, but the net has {num_classes} classes")
        return names
    imagenet = resources.files(__package__).joinpath("imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
    if stored is not None:
        is_imagenet = list(stored) == [line.partition(" ")[0] for line in imagenet]
        return imagenet if is_imagenet else list(stored)
    if num_classes == len(imagenet):
        log.info("the weights name no classes: taken for ImageNet's 1000, sorted by WordNet id")
        return imagenet
    log.info("the weights name no classes: numbered from 0; a file of names, one a line, can be given")
    return [f"class {number}" for number in range(num_classes)]
