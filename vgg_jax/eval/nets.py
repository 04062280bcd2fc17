"""The nets of an evaluation: what a stage or a file of weights holds, told apart by a digest of its params."""

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vgg_jax.errors import InputError
from vgg_jax.eval.protocol import Member
from vgg_jax.model import VGG
from vgg_jax.weights.load import load_stage


class Net(NamedTuple):
    """A trained net without its params."""

    stage: Path  # WORKDIR/STAGE, or a file
    checkpoint: str
    model: VGG
    info: dict[str, Any]  # of the checkpoint: stage, train_scale, seed, step, init, dataset, ...
    class_names: tuple[str, ...] | None
    digest: str  # of the model and its params

    @property
    def key(self) -> tuple[Path, str]:
        """Equal for the same checkpoint."""
        return self.stage, self.digest

    @property
    def name(self) -> str:
        """Short and readable."""
        return str(self.info.get("stage") or self.stage.stem)


def read_net(member: Member) -> Net:
    """The net of a member; raises InputError where there is none."""
    checkpoints = member.stage / "checkpoints"
    changes = checkpoints if checkpoints.is_dir() else member.stage
    changed = changes.stat().st_mtime_ns if changes.exists() else 0
    model, info_text, digest = _described(member.stage, member.checkpoint, changed)
    info = json.loads(info_text)
    class_names = info.get("classes")
    return Net(member.stage, member.checkpoint, model, info, tuple(class_names) if class_names else None, digest)


@functools.lru_cache(maxsize=256)
def _described(stage: Path, checkpoint: str, changed: int) -> tuple[VGG, str, str]:
    """(model, info as JSON, digest); ``changed`` tells a newer checkpoint apart."""
    model, params, info = load_stage(stage, checkpoint=checkpoint)
    digest = hashlib.blake2b(str(model).encode())
    for leaf in jax.tree.leaves(params):
        digest.update(np.ascontiguousarray(leaf).data)
    return model, json.dumps(info), digest.hexdigest()


def check_class_names(nets: Sequence[Net], class_names: Sequence[str]) -> None:
    """Raise InputError unless all nets have the classes of the data set, in its order."""
    first = nets[0]
    for net in nets:
        if net.model.num_classes != first.model.num_classes or net.class_names != first.class_names:
            raise InputError(
                f"{first.stage} and {net.stage} have different classes ({_difference(first, net)}): nets of one data "
                "set alone can be averaged"
            )
    if first.model.num_classes != len(class_names):
        raise InputError(
            f"{first.stage} was trained on {first.model.num_classes} classes, but the data set has {len(class_names)}"
        )
    if first.class_names is not None and first.class_names != tuple(class_names):
        raise InputError(f"the data set's classes are not those of {first.stage}: it is another data set")


def _difference(a: Net, b: Net) -> str:
    if a.model.num_classes != b.model.num_classes:
        return f"{a.model.num_classes} and {b.model.num_classes}"
    pairs = zip(a.class_names or ("unnamed",), b.class_names or ("unnamed",))
    return next((f"{left!r} and {right!r}" for left, right in pairs if left != right), "unnamed")
