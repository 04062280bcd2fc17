"""What a reader finds in a file of another program: layers by the file's own names, described before they are read."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vgg_jax.layers import LRN_CONVENTIONS
from vgg_jax.weights.names import CONVENTIONS, Convention, Rgb, recognise_names

MAX_BYTES = 2**31  # of all arrays together; net E in float64 has 1.15e9
MAX_INFLATION = 16  # times the file's size, beyond SMALL; trained weights hardly compress
SMALL = 2**24

_ENDINGS = {
    "kernel": (".weight", "/kernel", "/kernel:0", "_W", "_W:0"),
    "bias": (".bias", "/bias", "/bias:0", "_b", "_b:0"),
}
ROLES = {ending: role for role, endings in _ENDINGS.items() for ending in endings}


class Malformed(ValueError):
    """A file breaks its format; the words say how. `load_weights` makes the sentence of it, with the file's name."""


class Stored(NamedTuple):
    """One array of a file: its shape, known at once, and how it is read, float32 or what becomes it exactly."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


Arrays = dict[str, dict[str, np.ndarray]]  # layer -> "kernel" and "bias"
Layer = dict[str, Stored]  # "kernel" and "bias"; an array with another role by its own name


class Found(NamedTuple):
    """The layers of a file, in the file's order, and what is known of the program that wrote them."""

    format: str  # in words, as "Caffe (.caffemodel)"
    layers: dict[str, Layer]
    convention: Convention
    lrn: str | None = None  # the file describes a net with LRN: its convention, see vgg_jax.layers
    mean: Rgb | None = None  # that the file itself holds, in the order of its own channels
    order_from: str = "as published"  # why `convention.input_order`
    metadata: dict[str, str] | None = None  # of a file that we wrote in that program's layout, see `metadata.unpacked`


def in_memory(array: np.ndarray) -> Stored:
    """An array that has been read already."""
    return Stored(array.shape, lambda: array)


def without_leading_ones(stored: Stored, ndim: int) -> Stored:
    """The array with sides of 1 dropped at the front, as long as it has more than ndim."""
    shape = stored.shape
    while len(shape) > ndim and shape[0] == 1:
        shape = shape[1:]
    return Stored(shape, lambda: stored.read().reshape(shape))


def found_by_name(format: str, arrays: dict[str, Stored], caffe_names: str) -> Found:
    """The layers of arrays with names as "features.0.weight", "block1_conv1/kernel" or "conv1_1_W".

    caffe_names: whose convention it is where layers have Caffe's names, which are ours too. An array without one of the
    endings stays a layer of its own, which no net has.
    """
    layers: dict[str, Layer] = {}
    for name, array in arrays.items():
        ending = next((ending for ending in ROLES if name.endswith(ending) and name != ending), None)
        layer, role = (name.removesuffix(ending), ROLES[ending]) if ending else (name, name)
        if role in layers.setdefault(layer, {}):
            raise Malformed(f"it holds the {role} of {layer} twice")
        layers[layer][role] = array
    key = recognise_names(layers)
    if key is None:
        raise Malformed(f"its arrays have the names of no known program's VGG: {', '.join(list(arrays)[:5])}, ...")
    return Found(format, layers, CONVENTIONS[caffe_names if key == "caffe" else key])


def lrn_convention(size: float, k: float, alpha: float, beta: float) -> str:
    """Which of vgg_jax.layers' conventions an LRN is; alpha as it multiplies the plain sum of squares."""
    for name, (our_k, our_alpha) in LRN_CONVENTIONS.items():
        if np.allclose((size, k, alpha, beta), (5, our_k, our_alpha, 0.75), rtol=1e-5, atol=0):
            return name
    raise Malformed(
        f"its LRN over {size:g} channels, k {k:g}, alpha {alpha:g} for their plain sum, beta {beta:g}, is neither "
        "Krizhevsky's nor Caffe's of the paper's time"
    )


def check_size(announced: int, on_disk: int) -> None:
    """Raise Malformed where arrays are announced that no honest file of this size holds, before any is read."""
    if announced > MAX_BYTES or announced > SMALL + MAX_INFLATION * on_disk:
        raise Malformed(f"it announces {announced} bytes of arrays, too many for a file of {on_disk} bytes")


def count(shape: tuple[int, ...]) -> int:
    """The number of elements, exact however large; Malformed for a negative side."""
    elements = 1
    for side in shape:
        if side < 0:
            raise Malformed(f"it holds an array of shape {list(shape)}")
        elements *= side
    return elements
