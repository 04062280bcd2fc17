"""Our own weights file: one .safetensors file with the params in our layout and the model's fields as metadata."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from vgg_jax.architectures import FC_LAYERS
from vgg_jax.errors import InputError
from vgg_jax.model import VGG
from vgg_jax.weights.metadata import described_model, net_metadata
from vgg_jax.weights.warm_start import Params
from vgg_jax.weights.whole_file import whole_file

FORMAT = "vgg_jax"
MAX_HEADER = 2**24  # bytes; ours has some thousands, and the class names

Arrays = Mapping[str, tuple[str, tuple[int, ...]]]  # "conv1_1/kernel" -> dtype and shape


def save_safetensors(path: str | Path, model: VGG, params: Params, metadata: dict[str, str] | None = None) -> None:
    """Write a model and its params, float32, as one .safetensors file; a reader sees the old file or the whole new one.

    metadata: of the training, as in `net_metadata`.
    Raises InputError where params are not the model's, metadata do not fit, or the file cannot be written.
    """
    own = {"format": FORMAT, **net_metadata(model, metadata, f"the metadata for {path}")}
    check_params(params, model, f"the params for {path}")
    write_tensors(Path(path), flatten_dict(params, sep="/"), own)


def check_params(params: Params, model: VGG, where: str) -> None:
    """Raise InputError that lists the arrays of params that are not those of the model, or not float32."""
    tensors = {name: np.asarray(array) for name, array in flatten_dict(params, sep="/").items()}
    _check_arrays({name: (a.dtype.name, a.shape) for name, a in tensors.items()}, model, where)


def write_tensors(path: Path, tensors: Mapping[str, Any], metadata: dict[str, str]) -> None:
    """A .safetensors file of any arrays, all or nothing; InputError where it cannot be written."""
    with whole_file(path) as temporary:
        mode = temporary.stat().st_mode  # an ordinary file's; the package makes files that nobody else can read
        save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, temporary, metadata)
        temporary.chmod(mode)


def read_safetensors(path: str | Path) -> tuple[VGG, Params, dict[str, str]]:
    """(model, params, metadata) of a file that `save_safetensors` wrote; nothing in it is executed.

    Only arrays that the model needs, in the shapes that it needs, are read. Raises InputError that names the file for
    one that is cut off, damaged or another program's, and lists every array that is missing, extra or misshapen.
    """
    path = Path(path)
    try:
        _check_header(path)
        with safe_open(os.fspath(path), framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            if metadata.get("format") != FORMAT:
                raise InputError(
                    f"{path} is no weights file of vgg_jax: its metadata have format {metadata.get('format')!r}, "
                    f"but {FORMAT!r} is expected"
                )
            model = described_model(metadata, str(path))
            names = list(file.keys())
            slices = {name: file.get_slice(name) for name in names}
            found = {n: (_DTYPES.get(s.get_dtype(), s.get_dtype()), tuple(s.get_shape())) for n, s in slices.items()}
            _check_arrays(found, model, str(path))
            params = {name: jnp.asarray(file.get_tensor(name)) for name in sorted(names)}
    except SafetensorError as reason:
        raise InputError(f"{path} is cut off, damaged or no safetensors file: {reason}") from reason
    except OSError as reason:
        raise InputError(f"{path} cannot be read: {reason.strerror}") from reason
    own = {name: text for name, text in metadata.items() if name not in ("format", "model")}
    return model, unflatten_dict(params, sep="/"), own


def is_own(path: Path) -> bool:
    """Whether a .safetensors file says that `save_safetensors` wrote it; InputError where its header is damaged."""
    _check_header(path)
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except SafetensorError as reason:
        raise InputError(f"{path} is cut off, damaged or no safetensors file: {reason}") from reason


_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


def _check_header(path: Path) -> None:
    """Raise InputError unless the header's length, the first 8 bytes, fits into the file and into MAX_HEADER."""
    with path.open("rb") as file:
        length, size = int.from_bytes(file.read(8), "little"), os.fstat(file.fileno()).st_size
    if size < 8 + length:
        raise InputError(
            f"{path} is cut off or no safetensors file: it has {size} bytes, but by its first eight needs {8 + length}"
        )
    if length > MAX_HEADER:
        raise InputError(f"{path} announces a header of {length} bytes, but at most {MAX_HEADER} are accepted")


def _check_arrays(found: Arrays, model: VGG, where: str) -> None:
    """Raise InputError that lists all arrays that are missing, extra, misshapen or not float32."""
    images = jax.ShapeDtypeStruct((1, model.crop_size, model.crop_size, 3), jnp.uint8)
    try:
        needed = flatten_dict(jax.eval_shape(model.init, jax.random.key(0), images)["params"], sep="/")
    except Exception as reason:  # names that are unknown, sizes beyond any integer: jax says it in many ways
        raise InputError(f"{where} describes a model that cannot be built: {_first_line(reason)}") from reason
    if not any(name.split("/")[0] in FC_LAYERS for name in found):  # a convolutional body, good for features
        needed = {name: array for name, array in needed.items() if name.split("/")[0] not in FC_LAYERS}
    faults = [f"{name} is missing" for name in needed if name not in found]
    faults += [f"{name} is none of its arrays" for name in found if name not in needed]
    for name, (dtype, shape) in found.items():
        if name in needed and shape != needed[name].shape:
            faults.append(f"{name} has shape {list(shape)} but {list(needed[name].shape)} is needed")
        elif name in needed and dtype != "float32":
            faults.append(f"{name} is {dtype} but float32 is needed")
    if faults:
        raise InputError(f"{where}: the arrays are not those of its model, a net {model.arch}: {'; '.join(faults)}")


def _first_line(reason: Exception) -> str:
    return (str(reason).strip() or type(reason).__name__).splitlines()[0]
