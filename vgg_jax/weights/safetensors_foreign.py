""".safetensors of other programs: torchvision's and timm's names, or flax's params without a model's fields.

In torchvision's and timm's names they are written as well; the metadata's "vgg_jax" then hold the model's fields.
"""

import os
from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import safe_open

from vgg_jax.weights.found import Arrays, Found, Malformed, Stored, found_by_name
from vgg_jax.weights.metadata import packed, unpacked
from vgg_jax.weights.safetensors_file import write_tensors

FORMAT = "safetensors"
METADATA = "vgg_jax"

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
        found = found_by_name(FORMAT, arrays, caffe_names="vgg_jax")
        packed_metadata = (file.metadata() or {}).get(METADATA)
    return found if packed_metadata is None else found._replace(metadata=unpacked(packed_metadata, str(path)))


def write_torch_safetensors(path: Path, layers: Arrays, metadata: dict[str, str]) -> None:
    """Layers in the names and layout of torchvision or timm; ``safetensors.torch.load_file`` gives a state dict."""
    roles = {"kernel": "weight", "bias": "bias"}
    tensors = {f"{name}.{roles[role]}": array for name, layer in layers.items() for role, array in layer.items()}
    write_tensors(path, tensors, {"format": "pt", METADATA: packed(metadata)})


def _read(path: Path, name: str) -> np.ndarray:
    with safe_open(os.fspath(path), framework="numpy") as file:
        return file.get_tensor(name)
