"""Keras's .h5 (weights, or a whole model) and .weights.h5. Needs h5py."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vgg_jax.errors import InputError
from vgg_jax.weights.found import Found, Malformed, Stored, check_size, count, in_memory
from vgg_jax.weights.names import CONVENTIONS

MAX_OBJECTS = 4096


def read_keras(path: Path) -> Found:
    """The layers with weights. Links to other files are not followed; Malformed for data that lie in other files."""
    try:
        import h5py
    except ImportError as reason:
        raise InputError(f"{path} is an HDF5 file, which needs h5py: pip install 'vgg_jax[keras]'") from reason
    with h5py.File(path, "r") as file:
        root = file.get("model_weights", file)
        new = "layers" in root and "layer_names" not in root.attrs
        datasets = list(_datasets(root["layers"] if new else root, h5py))
        check_size(sum(count(d.shape) * d.dtype.itemsize for _, d in datasets), path.stat().st_size)
        layers = _by_numbered_group(datasets) if new else _by_weight_name(datasets)
        read = {name: {role: _read(d) for role, d in layer.items()} for name, layer in layers.items()}
    if new:
        return Found("Keras (.weights.h5)", read, CONVENTIONS["keras"]._replace(names=None))  # known by their order
    return Found("Keras (.h5)", read, CONVENTIONS["keras"])


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
