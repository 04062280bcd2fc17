"""Load a trained net from a weights file or from the stage of a workdir."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from vgg_jax.errors import InputError
from vgg_jax.model import VGG
from vgg_jax.weights.fields import model_fields, model_from_fields
from vgg_jax.weights.safetensors_file import file_info, read_safetensors
from vgg_jax.weights.warm_start import Params

__all__ = ["load_stage", "load_weights", "model_fields", "model_from_fields"]

_READERS = {".safetensors": read_safetensors}


def load_weights(path: str | Path, *, checkpoint: str = "best") -> tuple[VGG, Params]:
    """(model, params) of a weights file, or of a stage, WORKDIR/STAGE; model is a VGG with all its fields set.

    checkpoint: of a stage, "best" by validation top-1 error, or "latest". A stage needs orbax. Raises InputError where
    there is neither, or the file is broken.
    """
    model, params, _ = load_stage(path, checkpoint=checkpoint)
    return model, params


def load_stage(path: str | Path, *, checkpoint: str = "best") -> tuple[VGG, Params, dict[str, Any]]:
    """As `load_weights`, and the record of where the weights come from: "step", "init", "checkpoint", ... .

    "checkpoint" says which it is, "file" for a weights file; there, what the file does not tell is None.
    """
    path = Path(path)
    if path.is_file():
        return _load_file(path)
    if not path.exists():
        raise InputError(f"{path} is no stage of a workdir and no weights file: it does not exist")
    return _load_checkpoint(path, checkpoint)


def _load_file(path: Path) -> tuple[VGG, Params, dict[str, Any]]:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"cannot read {path}: a weights file is named {' or '.join(f'*{s}' for s in _READERS)}")
    model, params, metadata = reader(path)
    return model, params, {**file_info(metadata, str(path)), "checkpoint": "file"}


def _load_checkpoint(stage: Path, checkpoint: str) -> tuple[VGG, Params, dict[str, Any]]:
    from vgg_jax.checkpoint import find_intact_step, read_info, restore, validation_error  # orbax only where needed

    directory = stage / "checkpoints"
    if not directory.is_dir():
        raise InputError(f"{stage} is no stage of a workdir: it has no folder named checkpoints")
    step = find_intact_step(directory, checkpoint)
    if step is None:
        raise InputError(f"{stage} holds no checkpoint yet: train the stage first")
    which = checkpoint if validation_error(directory, step) is not None else "latest"
    info = {**read_info(directory, step, alone=True), "checkpoint": which}
    model = model_from_fields(info["model"])
    images = jax.ShapeDtypeStruct((1, model.crop_size, model.crop_size, 3), jnp.uint8)
    target = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    target = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=_first_device()), target)
    return model, restore(directory, step, {"params": target}, alone=True)["params"], info


def _first_device() -> jax.sharding.Sharding:
    return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
