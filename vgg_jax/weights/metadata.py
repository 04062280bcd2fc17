"""What our weights files say of a net besides its arrays, as strings: the model's fields, and its training."""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from vgg_jax.errors import InputError
from vgg_jax.model import DTYPES, VGG
from vgg_jax.weights.fields import model_fields, model_from_fields


def net_metadata(model: VGG, training: Mapping[str, str] | None, where: str) -> dict[str, str]:
    """Metadata of a file that holds this model: its fields as JSON, and what is said of its training.

    training: any strings; "classes" (as many as the model's), "train_scale", "step" and "seed" are JSON, "stage",
        "dataset" and "init" plain text, see `file_info`.
    Raises InputError, which begins with ``where``, for what could not be read again.
    """
    training = dict(training or {})
    if reserved := {"format", "model"} & training.keys():
        raise InputError(f"{where} have the key {min(reserved)!r}, which is the file's own: leave it out")
    metadata = {**training, "model": json.dumps(model_fields(model), default=_plain)}
    described_model(metadata, where)
    return metadata


def training_metadata(info: Mapping[str, Any]) -> dict[str, str]:
    """The record of `load_stage` as metadata, what `file_info` makes the same record of; None is left out."""
    known = {name: info[name] for name in _INFO if info.get(name) is not None}
    return {name: value if _INFO[name] is None else json.dumps(value) for name, value in known.items()}


def file_info(metadata: Mapping[str, str], where: str) -> dict[str, Any]:
    """A file's metadata as values, None where absent.

    "step" and "seed": int; "train_scale": [low, high]; "classes": list of names; "stage", "dataset", "init": str. The
    first four are JSON in the file. Raises InputError, which begins with ``where``, for one that does not fit.
    """
    return {name: _value(name, metadata[name], where) if name in metadata else None for name in _INFO}


def described_model(metadata: Mapping[str, Any], where: str) -> VGG:
    """The model that metadata describe; InputError, which begins with ``where``, where they do not fit together."""
    for name, text in metadata.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise InputError(f"{where}: {name} is {text!r}, but metadata are strings: use json.dumps")
    model = _model(metadata.get("model", ""), where)
    classes = file_info(metadata, where)["classes"]
    if classes is not None and len(classes) != model.num_classes:
        raise InputError(f"{where}: there are {len(classes)} class names, but the model has {model.num_classes}")
    return model


def packed(metadata: Mapping[str, str]) -> str:
    """Metadata as one text, for files in the layout of another program."""
    return json.dumps(dict(metadata))


def unpacked(text: str, where: str) -> dict[str, str]:
    """The metadata of `packed`, checked; raises InputError, which begins with ``where``, for anything else."""
    metadata = _parsed(text)
    if not isinstance(metadata, dict):
        raise InputError(f"{where}: the metadata of vgg_jax are {text[:80]!r}, but a JSON object is expected")
    described_model(metadata, where)
    return metadata


def _parsed(text: str) -> Any:
    """The value of a JSON text; None for what is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _plain(value: Any) -> Any:
    return value.item()  # a numpy number


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
    value = _parsed(text)
    if not fits(value):
        raise InputError(f"{where}: the metadata's {name} is {text[:80]!r}, but JSON of {words} is expected")
    return value


def _model(text: str, where: str) -> VGG:
    fields = _parsed(text)
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
