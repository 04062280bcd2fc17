"""flax's msgpack (`flax.serialization.to_bytes`): params in our own names and layout, without a model's fields."""

from typing import Any

import msgpack
import numpy as np
from flax.serialization import msgpack_restore

from vgg_jax.weights.found import Found, Layer, Malformed, in_memory
from vgg_jax.weights.names import CONVENTIONS

FORMAT = "flax (msgpack)"
MAX_ENTRIES = 4096


def read_msgpack(data: memoryview) -> Found:
    """The layers of {"conv1_1": {"kernel", "bias"}, ...} or of {"params": these}."""
    _check_count(data)
    tree = msgpack_restore(bytes(data))
    tree = tree["params"] if isinstance(tree, dict) and isinstance(tree.get("params"), dict) else tree
    if not isinstance(tree, dict) or not tree:
        raise Malformed("it holds no dict of layers")
    layers = {str(name): _layer(str(name), layer) for name, layer in tree.items()}
    return Found(FORMAT, layers, CONVENTIONS["vgg_jax"], order_from="our own names")


def _check_count(data: memoryview) -> None:
    """Raise Malformed for more dicts, lists and entries than a net has: Python's take 75 times their bytes here."""
    entries = 0

    def note(entry: dict[Any, Any] | list[Any]) -> None:
        nonlocal entries
        entries += 1 + len(entry)
        if entries > MAX_ENTRIES:
            raise Malformed(f"it holds more than {MAX_ENTRIES} dicts, lists and entries of them")

    most = {"max_map_len": MAX_ENTRIES, "max_array_len": MAX_ENTRIES}
    msgpack.unpackb(data, object_hook=note, list_hook=note, ext_hook=lambda code, content: None, **most)


def _layer(name: str, layer: Any) -> Layer:
    if not isinstance(layer, dict) or not all(isinstance(array, np.ndarray) for array in layer.values()):
        raise Malformed(f"its {name} is no dict of arrays")
    if bad := [role for role, array in layer.items() if array.dtype.kind not in "fV"]:
        raise Malformed(f"its {name} holds something else than floats in {bad[0]}")
    return {str(role): in_memory(array) for role, array in layer.items()}
