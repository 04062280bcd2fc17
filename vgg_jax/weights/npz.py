"""A plain .npz of arrays in Keras's names (block1_conv1_W, block1_conv1/kernel) or Caffe's (conv1_1_W)."""

import io
import zipfile
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from vgg_jax.weights.found import Found, Malformed, Stored, check_size, count, found_by_name
from vgg_jax.weights.zip_file import open_members, read_member

FORMAT = "NumPy (.npz)"

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npz(path: Path) -> Found:
    """The arrays by name. Caffe's names mean Caffe's order of channels; the layout is seen from conv1_1's kernel."""
    archive, members = open_members(path)
    arrays, announced = {}, 0
    for name, member in members.items():
        with archive.open(member) as stream:
            shape, dtype = _header(stream, name)
        announced += (held := count(shape) * dtype.itemsize)
        if held > member.file_size:
            raise Malformed(f"its array {name} of shape {list(shape)} has {member.file_size} bytes")
        arrays[name.removesuffix(".npy")] = Stored(shape, partial(_read, archive, member))
    check_size(announced, path.stat().st_size)
    found = found_by_name(FORMAT, arrays, caffe_names="caffe")
    if "conv1_1" in found.layers and _is_hwio(found.layers["conv1_1"].get("kernel")):
        hwio = found.convention._replace(kernel="HWIO", flatten="HWC", pool_rounding="floor")
        return found._replace(convention=hwio)
    return found


def _header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of a .npy member, from its first bytes."""
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise Malformed(f"its array {name} has the unknown version {version}")
    shape, _, dtype = _HEADERS[version](stream)
    if dtype.kind != "f":
        raise Malformed(f"its array {name} is {dtype}, but floats are expected")
    return tuple(shape), dtype


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    return np.lib.format.read_array(io.BytesIO(read_member(archive, member)))


def _is_hwio(kernel: Stored | None) -> bool:
    return kernel is not None and len(kernel.shape) == 4 and kernel.shape[0] == kernel.shape[1]
