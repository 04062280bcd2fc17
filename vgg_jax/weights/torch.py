"""torch's .pth, the zip format of torch.save: a state dict in torchvision's or timm's names. torch is not needed."""

import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vgg_jax.weights.found import Found, Malformed, Stored, check_size, count, found_by_name
from vgg_jax.weights.state_dict import TensorRecord, unpickle_tensors
from vgg_jax.weights.zip_file import open_members, read_member

FORMAT = "torch (.pth)"
MAX_PICKLE = 2**22  # bytes; a VGG's has some thousands

_WRAPPERS = ("state_dict", "model_state_dict", "model")  # where training scripts keep the state dict


def read_torch(path: Path) -> Found:
    """The tensors of the state dict. Malformed where the pickle holds, or does, anything else."""
    archive, members = open_members(path)
    pickle_name = next(name for name in members if is_torch_pickle(name))
    if members[pickle_name].file_size > MAX_PICKLE:
        raise Malformed(f"its pickle has {members[pickle_name].file_size} bytes, too many for a VGG")
    folder = pickle_name.removesuffix("data.pkl")
    order = members.get(f"{folder}byteorder")
    if order is not None and read_member(archive, order).strip() != b"little":
        raise Malformed("it was written on a machine with big-endian numbers")
    tensors = state_dict(unpickle_tensors(read_member(archive, members[pickle_name])))
    check_size(sum(count(t.shape) * itemsize(t.dtype) for t in tensors.values()), path.stat().st_size)
    arrays = {name: _stored(archive, members, folder, tensor) for name, tensor in tensors.items()}
    return found_by_name(FORMAT, arrays, caffe_names="caffe")


def is_torch_pickle(member: str) -> bool:
    """Whether a member of a zip archive is the pickle of a torch file."""
    return member.endswith("/data.pkl") and member.count("/") == 1


def state_dict(state: Any) -> dict[str, TensorRecord]:
    """The state dict, out of what training scripts wrap around it; Malformed where there is none."""
    if not isinstance(state, dict):
        raise Malformed("it holds no dict of tensors")
    for key in _WRAPPERS:
        if isinstance(state.get(key), dict):
            state = state[key]
    names = [str(name).removeprefix("module.") for name in state]  # torch's DataParallel puts it before each
    if not state or not all(isinstance(value, TensorRecord) for value in state.values()):
        raise Malformed("it holds no dict of tensors: save model.state_dict()")
    return dict(zip(names, state.values()))


def _stored(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], folder: str, tensor: TensorRecord) -> Stored:
    member = members.get(f"{folder}data/{tensor.key}")
    if member is None:
        raise Malformed(f"it lacks the data of a tensor of shape {list(tensor.shape)}")
    return strided(tensor, member.file_size, lambda: read_member(archive, member))


def strided(tensor: TensorRecord, size: int, read_storage: Callable[[], bytes | memoryview]) -> Stored:
    """A tensor of a storage of so many bytes; Malformed where it reaches beyond its end."""
    if len(tensor.shape) != len(tensor.strides):
        raise Malformed(f"it lacks the data of a tensor of shape {list(tensor.shape)}")
    last = tensor.offset + sum((side - 1) * step for side, step in zip(tensor.shape, tensor.strides))
    elements = size // itemsize(tensor.dtype)
    if math.prod(tensor.shape) > elements or last >= elements:
        raise Malformed(f"it announces a tensor of shape {list(tensor.shape)}, but has {elements} elements for it")

    def read() -> np.ndarray:
        array = _elements(read_storage(), tensor.dtype)[tensor.offset :]
        strides = [step * array.itemsize for step in tensor.strides]
        return np.lib.stride_tricks.as_strided(array, tensor.shape, strides, writeable=False)

    return Stored(tensor.shape, read)


def itemsize(dtype: str) -> int:
    """Bytes of an element of a storage."""
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _elements(data: bytes | memoryview, dtype: str) -> np.ndarray:
    """The elements of a storage; bfloat16 as the float32 of the same value."""
    data = data[: len(data) // itemsize(dtype) * itemsize(dtype)]
    if dtype != "bfloat16":
        return np.frombuffer(data, dtype)
    return (np.frombuffer(data, "<u2").astype("<u4") << np.uint32(16)).view("<f4")
