""".safetensors of other programs: torchvision's and timm's names, or flax's params without a model's fields."""

import os
from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import safe_open

from vgg_jax.weights.found import Found, Malformed, Stored, found_by_name

FORMAT = "safetensors"

_DTYPES = {"F32": np.float32, "F16": np.float16, "F64": np.float64, "BF16": ml_dtypes.bfloat16}


def read_foreign_safetensors(path: Path) -> Found:
    """The arrays by name; no file announces more than it holds, the package sees to it."""
    with safe_open(os.fspath(path), framework="numpy") as file:
        arrays = {}
        for name in file.keys():  # noqa: SIM118 (it is no dict)
            part = file.get_slice(name)
            if part.get_dtype() not in _DTYPES:
                raise Malformed(f"its array {name} is {part.get_dtype()}, but floats are expected")
            arrays[name] = Stored(tuple(part.get_shape()), partial(_read, path, name))
        return found_by_name(FORMAT, arrays, caffe_names="vgg_jax")


def _read(path: Path, name: str) -> np.ndarray:
    with safe_open(os.fspath(path), framework="numpy") as file:
        return file.get_tensor(name)
