"""Our own weights file: one .safetensors file with the params in our layout and the model's fields as metadata."""

import json
import math
import os
from collections.abc import Callable, Mapping
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
from vgg_jax.model import DTYPES, VGG
from vgg_jax.weights.fields import model_fields, model_from_fields
from vgg_jax.weights.warm_start import Params

FORMAT = "vgg_jax"
MAX_HEADER = 2**24  # bytes; ours has some thousands, and the class names

Arrays = Mapping[str, tuple[str, tuple[int, ...]]]  # "conv1_1/kernel" -> dtype and shape


def save_safetensors(path: str | Path, model: VGG, params: Params, metadata: dict[str, str] | None = None) -> None:
    """Write a model and its params, float32, as one .safetensors file; a reader sees the old file or the whole new one.

    metadata: any strings; "classes" (as many as the model's), "train_scale", "step" and "seed" are JSON, "stage",
        "dataset" and "init" plain text, see `file_info`.
    Raises InputError where params are not the model's, metadata do not fit, or the file cannot be written.
    """
    path, metadata = Path(path), dict(metadata or {})
    if reserved := {"format", "model"} & metadata.keys():
        raise InputError(f"metadata for {path} have the key {min(reserved)!r}, which is the file's own: leave it out")
    metadata |= {"format": FORMAT, "model": json.dumps(model_fields(model), default=_plain)}
    _check_metadata(metadata, f"the metadata for {path}")
    tensors = {name: np.asarray(array) for name, array in flatten_dict(params, sep="/").items()}
    _check_arrays({name: (a.dtype.name, a.shape) for name, a in tensors.items()}, model, f"the params for {path}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # an ordinary file's; the package makes files that nobody else can read
        save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, temporary, metadata)
        temporary.chmod(mode)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as reason:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written: {reason}") from reason


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
            model = _check_metadata(metadata, str(path))
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


def file_info(metadata: Mapping[str, str], where: str) -> dict[str, Any]:
    """A file's metadata as values, None where absent.

    "step" and "seed": int; "train_scale": [low, high]; "classes": list of names; "stage", "dataset", "init": str. The
    first four are JSON in the file. Raises InputError, which begins with ``where``, for one that does not fit.
    """
    return {name: _value(name, metadata[name], where) if name in metadata else None for name in _INFO}


def _plain(value: Any) -> Any:
    return value.item()  # a numpy number


_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


def _is_int(value: Any) -> bool:
    return type(value) is int


def _is_scale(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_int, value))


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


# what a value must be, in words and as a test; None stands for plain text
_INFO: dict[str, tuple[str, Callable[[Any], bool]] | None] = {
    "step": ("a whole number", _is_int),
    "stage": None,
    "seed": ("a whole number", _is_int),
    "train_scale": ("a list of two whole numbers", _is_scale),
    "dataset": None,
    "init": None,
    "classes": ("a list of names", _is_names),
}


def _value(name: str, text: str, where: str) -> Any:
    if (expected := _INFO[name]) is None:
        return text
    words, fits = expected
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not fits(value):
        raise InputError(f"{where}: the metadata's {name} is {text[:80]!r}, but JSON of {words} is expected")
    return value


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


def _check_metadata(metadata: Mapping[str, Any], where: str) -> VGG:
    """The model that metadata describe; raises InputError where they are not ours or do not fit together."""
    for name, text in metadata.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise InputError(f"{where}: {name} is {text!r}, but metadata are strings: use json.dumps")
    if metadata.get("format") != FORMAT:
        raise InputError(
            f"{where} is no weights file of vgg_jax: its metadata have format {metadata.get('format')!r}, "
            f"but {FORMAT!r} is expected"
        )
    model = _described_model(metadata.get("model", ""), where)
    classes = file_info(metadata, where)["classes"]
    if classes is not None and len(classes) != model.num_classes:
        raise InputError(f"{where}: there are {len(classes)} class names, but the model has {model.num_classes}")
    return model


def _described_model(text: str, where: str) -> VGG:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise InputError(f"{where}: the metadata's model is {text[:80]!r}, but JSON of a model's fields is expected")
    known = model_fields(VGG())
    faults = [f"{name} is missing" for name in known if name not in fields]
    faults += [f"{name} is no field of a model" for name in fields if name not in known]
    faults += [f"{name} is {v!r}" for name, v in fields.items() if name in known and not _is_like(v, known[name])]
    if not faults and fields["dtype"] not in DTYPES:
        faults = [f"dtype is {fields['dtype']!r}, none of {', '.join(DTYPES)}"]
    if faults:
        raise InputError(f"{where} describes no model: {'; '.join(faults)}")
    return model_from_fields(fields)


def _is_like(value: Any, default: Any) -> bool:
    """Whether a JSON value may stand in a field with this default; numbers of a model are finite, counts positive."""
    if isinstance(default, tuple):
        return isinstance(value, (list, tuple)) and len(value) == len(default) and all(map(_is_like, value, default))
    if isinstance(default, float):
        return type(value) in (int, float) and abs(value) < math.inf
    return type(value) is type(default) and (type(value) is not int or value > 0)


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
