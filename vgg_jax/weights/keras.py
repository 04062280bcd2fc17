"""Keras's .h5 (weights, or a whole model) and .weights.h5; the weights' .h5 is written as well. Needs h5py."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vgg_jax.errors import InputError
from vgg_jax.weights.found import Arrays, Found, Malformed, Stored, check_size, count, in_memory
from vgg_jax.weights.metadata import packed, unpacked
from vgg_jax.weights.names import CONVENTIONS
from vgg_jax.weights.whole_file import whole_file

MAX_OBJECTS = 4096
MAX_METADATA = 2**24  # bytes
METADATA = "vgg_jax"


def read_keras(path: Path) -> Found:
    """The layers with weights. Links to other files are not followed; Malformed for data that lie in other files."""
    h5py = _h5py(path)
    with h5py.File(path, "r") as file:
        metadata = _metadata(file, path, h5py)
        root = file.get("model_weights", file)
        new = "layers" in root and "layer_names" not in root.attrs
        datasets = list(_datasets(root["layers"] if new else root, h5py))
        check_size(sum(_held_bytes(d) for _, d in datasets), path.stat().st_size)
        layers = _by_numbered_group(datasets) if new else _by_weight_name(datasets)
        read = {name: {role: _read(d) for role, d in layer.items()} for name, layer in layers.items()}
    if new:
        return Found("Keras (.weights.h5)", read, CONVENTIONS["keras"]._replace(names=None))  # known by their order
    return Found("Keras (.h5)", read, CONVENTIONS["keras"], metadata=metadata)


def write_keras(path: Path, layers: Arrays, metadata: dict[str, str]) -> None:
    """Layers in Keras's names and layout, as its ``model.save_weights("NAME.h5")`` did: ``load_weights`` takes them.

    Raises InputError where the file cannot be written, and without h5py.
    """
    h5py = _h5py(path)
    with whole_file(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update(layer_names=_fixed_length(layers), backend=np.bytes_("jax"), keras_version=np.bytes_("2.0"))
        for name, layer in layers.items():
            weights = {f"{name}/{role}:0": array for role, array in layer.items()}
            group = file.create_group(name)
            group.attrs["weight_names"] = _fixed_length(weights)
            for weight, array in weights.items():
                group.create_dataset(weight, data=array)
        file.create_dataset(METADATA, data=np.frombuffer(packed(metadata).encode(), np.uint8))


def _fixed_length(names: Iterable[str]) -> np.ndarray:
    return np.array([name.encode() for name in names])


def _h5py(path: Path) -> Any:
    try:
        import h5py
    except ImportError as reason:
        raise InputError(f"{path} is an HDF5 file, which needs h5py: pip install 'vgg_jax[keras]'") from reason
    return h5py


def _metadata(file: Any, path: Path, h5py: Any) -> dict[str, str] | None:
    """What `write_keras` noted, as an array of bytes: text in attributes is not read, see `_by_numbered_group`."""
    dataset = file.get(METADATA)
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        return None
    if dataset.dtype != np.uint8 or dataset.ndim != 1 or _held_bytes(dataset) > MAX_METADATA:
        raise Malformed(f"its data {METADATA} are no text of at most {MAX_METADATA} bytes")
    return unpacked(dataset[()].tobytes().decode(errors="replace"), str(path))


def _held_bytes(dataset: Any) -> int:
    """What reading takes: the array, or a chunk, which libhdf5 inflates whole and may be larger than the array."""
    return max(count(dataset.shape), count(dataset.chunks or ())) * dataset.dtype.itemsize


def _read(dataset: Any) -> Stored:
    return in_memory(dataset[()])


def _datasets(root: Any, h5py: Any) -> Iterator[tuple[str, Any]]:
    """(path, dataset) of all float arrays below a group, hard links alone."""
    paths: list[str] = []

    def note(path: str) -> bool | None:
        paths.append(path)
        return True if len(paths) > MAX_OBJECTS else None

    root.visit(note)
    if len(paths) > MAX_OBJECTS:
        raise Malformed(f"it holds more than {MAX_OBJECTS} objects")
    for path in paths:
        if path == METADATA:
            continue
        if not isinstance(dataset := root[path], h5py.Dataset):
            continue
        if dataset.is_virtual or dataset.external:
            raise Malformed(f"its data {path} lie in another file")
        if dataset.dtype.kind != "f" or dataset.shape is None:
            raise Malformed(f"its data {path} are {dataset.dtype}, but floats are expected")
        yield path, dataset


def _by_weight_name(datasets: list[tuple[str, Any]]) -> dict[str, dict[str, Any]]:
    """LAYER/LAYER/kernel:0, or LAYER/LAYER_W_1:0 as Keras 1 had it."""
    layers: dict[str, dict[str, Any]] = {}
    for path, dataset in datasets:
        parts = path.split("/")
        leaf = parts[-1].partition(":")[0]
        ending = leaf.removeprefix(parts[0]).removesuffix("_1")
        role = {"kernel": "kernel", "bias": "bias", "_W": "kernel", "_b": "bias"}.get(ending, leaf)
        layers.setdefault(parts[0], {})[role] = dataset
    return layers


def _by_numbered_group(datasets: list[tuple[str, Any]]) -> dict[str, dict[str, Any]]:
    """conv2d_3/vars/0 and 1, kernel and bias: convolutions first, each kind in the order of its numbers.

    The layers' own names stand in attributes as text of any length, which libhdf5 may search without end in a damaged
    file; the numbers are those of the layers in the model.
    """
    groups: dict[str, dict[str, Any]] = {}
    for path, dataset in datasets:
        group, _, leaf = path.partition("/vars/")
        groups.setdefault(group, {})[{"0": "kernel", "1": "bias"}.get(leaf, leaf)] = dataset

    def order(group: str) -> tuple[bool, str, int]:
        kind, _, number = group.rpartition("_")
        numbered = number.isdecimal() and len(number) < 9
        kernel = groups[group].get("kernel")
        return kernel is None or kernel.ndim != 4, kind if numbered else group, int(number) if numbered else 0

    return {group: groups[group] for group in sorted(groups, key=order)}
