"""Load a trained net from a weights file, our own or another program's, or from the stage of a workdir."""

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from vgg_jax.architectures import layer_names
from vgg_jax.errors import InputError
from vgg_jax.model import VGG
from vgg_jax.weights.assemble import assemble
from vgg_jax.weights.caffe import read_caffe
from vgg_jax.weights.fields import model_fields, model_from_fields
from vgg_jax.weights.found import Found
from vgg_jax.weights.keras import read_keras
from vgg_jax.weights.matconvnet import read_matconvnet
from vgg_jax.weights.metadata import file_info
from vgg_jax.weights.msgpack_file import read_msgpack
from vgg_jax.weights.npz import read_npz
from vgg_jax.weights.onnx_file import read_onnx
from vgg_jax.weights.recognise import recognise
from vgg_jax.weights.safetensors_file import is_own, read_safetensors
from vgg_jax.weights.safetensors_foreign import read_foreign_safetensors
from vgg_jax.weights.torch import read_torch
from vgg_jax.weights.torch_legacy import read_legacy_torch
from vgg_jax.weights.warm_start import Params

__all__ = ["load_stage", "load_weights", "model_fields", "model_from_fields"]

HUB_FILES = ("model.safetensors", "model.h5")  # the names under which the hub's libraries look for weights


def load_weights(
    path: str | Path, arch: str | None = None, *, input_order: str | None = None, checkpoint: str = "best"
) -> tuple[VGG, Params]:
    """(model, params) of a weights file, or of a stage, WORKDIR/STAGE; model is a VGG with all its fields set.

    A folder in the hub's form, with model.safetensors or model.h5, is that file.

    A file may be our own, or Caffe's, Keras's, torch's (torchvision's and timm's names), MatConvNet's, ONNX, .npz or
    flax msgpack: its content tells. Net, width, classes and crop come from the shapes, mean and std from the program;
    what was recognised of another program's file is logged (logger "vgg_jax", INFO). Params without fc6, fc7 and fc8
    are a convolutional body, for features.

    arch: the net, where shapes fit several (A and A-LRN: A by default). input_order: "RGB" or "BGR", the channels that
        conv1_1 takes in the file, where they are not those of the program. checkpoint: of a stage, "best" by validation
        top-1 error, or "latest".
    A stage needs orbax, Keras's files need h5py. No pickle is executed. Raises InputError where there is neither file
    nor stage, the file is broken, or layers are missing, extra or misshapen (all are listed).
    """
    model, params, _ = load_stage(path, arch, input_order=input_order, checkpoint=checkpoint)
    return model, params


def load_stage(
    path: str | Path, arch: str | None = None, *, input_order: str | None = None, checkpoint: str = "best"
) -> tuple[VGG, Params, dict[str, Any]]:
    """As `load_weights`, and the record of where the weights come from: "step", "init", "checkpoint", ... .

    "classes" are the names of the classes or None. "checkpoint" says which it is, "file" for a weights file; there,
    what the file does not tell is None.
    """
    path = Path(path)
    if arch is not None:
        layer_names(arch)  # an unknown name raises
    if any((path / name).is_file() for name in HUB_FILES):
        path = file_in_folder(path)
    if path.is_file():
        model, params, info = _load_file(path, arch, input_order)
    elif path.exists():
        model, params, info = _load_checkpoint(path, checkpoint)
        info = {**info, "classes": _class_names(path)}
        _check_asked(model, path, arch, input_order)
    else:
        raise InputError(f"{path} is no stage of a workdir and no weights file: it does not exist")
    return model, params, info


def file_in_folder(folder: Path) -> Path:
    """The weights file of a folder in the hub's form; raises InputError where there is none."""
    for name in HUB_FILES:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{folder} has neither {' nor '.join(HUB_FILES)}: experiments/hub.py save writes such a folder")


def _load_file(path: Path, arch: str | None, input_order: str | None) -> tuple[VGG, Params, dict[str, Any]]:
    try:
        format = recognise(path)
    except OSError as reason:
        raise InputError(f"{path} cannot be read: {reason.strerror}") from reason
    if format == "safetensors" and is_own(path):
        model, params, metadata = read_safetensors(path)
        _check_asked(model, path, arch, input_order)
        return model, params, {**file_info(metadata, str(path)), "checkpoint": "file"}
    try:
        found = READERS[format](path)
        model, params = assemble(found, str(path), arch, input_order)
    except InputError:
        raise
    except Exception as reason:  # four libraries and the readers here say in many ways that bytes make no sense
        sentence = next(iter(str(reason).splitlines()), "") or type(reason).__name__
        raise InputError(f"{path} is cut off, damaged or no {format} file of a VGG: {sentence}") from reason
    return model, params, {**file_info(found.metadata or {}, str(path)), "checkpoint": "file"}


def _class_names(stage: Path) -> list[str] | None:
    names = stage.parent / "classes.txt"
    return names.read_text().splitlines() if names.exists() else None


def _check_asked(model: VGG, path: Path, arch: str | None, input_order: str | None) -> None:
    if arch not in (None, model.arch):
        raise InputError(f"{path} holds a net {model.arch}, not the net {arch} that was asked for")
    if input_order not in (None, "RGB"):
        raise InputError(f"{path} is our own and takes RGB: input_order={input_order!r} is for other programs' files")


def _mapped(read: Callable[[memoryview], Found]) -> Callable[[Path], Found]:
    """A reader of bytes as one of a path; arrays are read from the file when they are asked for."""

    def reader(path: Path) -> Found:
        with path.open("rb") as file:
            return read(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))

    return reader


# by format, as `recognise` names them
READERS: dict[str, Callable[[Path], Found]] = {
    "caffe": _mapped(read_caffe),
    "keras": read_keras,
    "matconvnet": _mapped(read_matconvnet),
    "msgpack": _mapped(read_msgpack),
    "npz": read_npz,
    "onnx": _mapped(read_onnx),
    "safetensors": read_foreign_safetensors,
    "torch": read_torch,
    "torch_legacy": _mapped(read_legacy_torch),
}


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
