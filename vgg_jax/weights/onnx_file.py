"""ONNX: the initialisers that Conv, Gemm and MatMul nodes take, in the order of the graph; names do not matter.

What the graph does to its input before the first convolution (minus a mean, divided by a std) is the model's mean_rgb
and std_rgb, times 255 where both are at most 1: it takes images in 0..1 then. A graph that does nothing there is taken
for an exported torchvision net. Its pools say what they do with an odd side. The onnx package is not needed.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from vgg_jax.weights.found import Found, Layer, Malformed, Stored, count, lrn_convention, without_leading_ones
from vgg_jax.weights.names import CONVENTIONS, Convention, Rgb
from vgg_jax.weights.protobuf_wire import Value, as_bytes, as_float, as_number, as_text, fields, floats, numbers

FORMAT = "ONNX"

_DTYPES = {1: "<f4", 10: "<f2", 11: "<f8"}
_GRAPH, _OPERATOR_SETS, _METADATA = 7, 8, 14
_NODE, _INITIALIZER = 1, 5
# of a message; each takes a hundred times its bytes here
_MOST_FIELDS = {"model": 256, "graph": 4096, "node": 64, "attribute": 64, "tensor": 64, "metadata": 64}
_UNCHANGING = ("Identity", "Cast", "Transpose", "Dropout")


class Node(NamedTuple):
    """One operation: its attributes as their messages by name."""

    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, memoryview]

    def attribute(self, name: str) -> Iterator[tuple[int, Value]]:
        """The fields of an attribute; none where it is not there."""
        return _fields(self.attributes.get(name, memoryview(b"")), "attribute")


def read_onnx(data: memoryview) -> Found:
    """The layers of the graph, positional. Malformed for a graph that does something else than a VGG to its input."""
    parts = list(_fields(data, "model"))
    graphs = [value for number, value in parts if number == _GRAPH]
    if not graphs or not any(number == _OPERATOR_SETS for number, _ in parts):  # these follow: a cut may fall between
        raise Malformed("it holds no graph, or no operator sets")
    constants, nodes = _parse(as_bytes(graphs[-1]))
    layers: dict[str, Layer] = {}
    scale, shift = np.ones(3), np.zeros(3)  # of the input, before the first convolution
    preprocesses, flatten, pool_rounding, lrn, pending = False, "CHW", "floor", None, None
    for node in nodes:
        stored = [constants.get(name) for name in node.inputs]
        if node.op == "Constant":
            constants[node.outputs[0]] = _tensor(_attribute(node, "value", 5))[1]
        elif node.op == "Identity" and stored and stored[0]:
            constants[node.outputs[0]] = stored[0]
        elif node.op in ("Conv", "Gemm", "MatMul") and len(stored) > 1 and stored[1]:
            name = node.inputs[1].removesuffix(".weight")
            if name in layers:
                raise Malformed(f"it uses the weights {node.inputs[1]!r} twice")
            turned = node.op == "MatMul" or (node.op == "Gemm" and not _int(node, "transB"))
            layers[name] = {"kernel": _transposed(stored[1]) if turned else stored[1]}
            if len(stored) > 2 and stored[2]:
                layers[name]["bias"] = without_leading_ones(stored[2], 1)
            pending = (name, node.outputs[0]) if node.op == "MatMul" else None
        elif node.op == "Add" and pending and pending[1] in node.inputs and any(stored):
            layers[pending[0]]["bias"] = without_leading_ones(next(s for s in stored if s), 1)
            pending = None
        elif node.op == "Transpose" and layers and _ints(node, "perm") == [0, 2, 3, 1]:
            flatten = "HWC"
        elif node.op == "LRN":
            lrn = _lrn_convention(node)
        elif node.op == "MaxPool" and layers:
            pool_rounding = "ceil" if _int(node, "ceil_mode") else "floor"
        elif not layers and node.op not in _UNCHANGING:
            scale, shift = _preprocess(node, stored, scale, shift)
            preprocesses = True
    if not layers:
        raise Malformed("its graph has no layer with weights")
    convention = _convention(layers)._replace(flatten=flatten, pool_rounding=pool_rounding)
    if preprocesses:
        mean, std = -shift / scale, 1 / scale
        of_ones = bool((abs(mean) <= 1).all() and (abs(std) <= 1).all() and (mean.any() or (std != 1).any()))
        times = 255 if of_ones else 1  # a mean and std as torchvision's, for images in 0..1
        mean_rgb, std_rgb = _shortest(times * mean), _shortest(times * std)
        convention = convention._replace(mean_rgb=mean_rgb, std_rgb=std_rgb, input_order="RGB")
        why = f"as for every ONNX file; mean and std by its graph{', which takes 0..1' if of_ones else ''}"
        return Found(FORMAT, layers, convention, lrn, order_from=why, metadata=_own_metadata(parts))
    return Found(FORMAT, layers, convention, lrn)


def _fields(message: memoryview, kind: str) -> Iterator[tuple[int, Value]]:
    """The fields of a message of this kind; Malformed for more than a VGG's has."""
    for number, field in enumerate(fields(message), 1):
        if number > _MOST_FIELDS[kind]:
            raise Malformed(f"it has a {kind} of more than {_MOST_FIELDS[kind]} fields")
        yield field


def _own_metadata(parts: list[tuple[int, Value]]) -> dict[str, str] | None:
    """What our own `export_onnx` notes of the model and its classes; None in any other program's file."""
    entries = [dict(_fields(as_bytes(value), "metadata")) for number, value in parts if number == _METADATA]
    metadata = {as_text(e[1]): as_text(e[2]) for e in entries if {1, 2} <= e.keys()}
    if '"vgg_jax"' not in metadata.get("versions", ""):
        return None
    return {key: metadata[key] for key in ("model", "classes") if key in metadata}


def _convention(layers: dict[str, Layer]) -> Convention:
    """torch's, or Keras's input where the initialisers have Keras's names (tf2onnx keeps them)."""
    convention, keras = CONVENTIONS["onnx"], CONVENTIONS["keras"]
    if any("block1_conv1" in name for name in layers):
        return convention._replace(input_order=keras.input_order, mean_rgb=keras.mean_rgb, std_rgb=keras.std_rgb)
    return convention


def _preprocess(
    node: Node, stored: list[Stored | None], scale: np.ndarray, shift: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The input as scale * RGB + shift after one more operation with a constant of three numbers, or one."""
    constant = next((s for s in stored[1:] if s), None)
    if node.op not in ("Sub", "Add", "Mul", "Div") or constant is None or count(constant.shape) not in (1, 3):
        raise Malformed(f"its graph begins with {node.op[:40]!r}, which is not understood: only a mean and a std are")
    c = np.broadcast_to(constant.read().astype(np.float64).reshape(-1), 3)
    if node.op in ("Mul", "Div"):
        if not np.isfinite(c).all() or not c.all():
            raise Malformed("its graph multiplies or divides the input by 0 or by no number")
        factor = c if node.op == "Mul" else 1 / c
        return scale * factor, shift * factor
    return scale, shift + c if node.op == "Add" else shift - c


def _shortest(values: np.ndarray) -> Rgb:
    """Three float32 numbers by the fewest digits that tell them apart, as 123.68 for 123.68000030517578."""
    with np.errstate(over="ignore"):
        singles = values.astype(np.float32)
    if not np.isfinite(singles).all():
        raise Malformed("the mean or the std that its graph applies is no finite number")
    red, green, blue = (float(str(single)) for single in singles)
    return red, green, blue


def _transposed(stored: Stored) -> Stored:
    return Stored(stored.shape[::-1], lambda: stored.read().T)


def _parse(graph: memoryview) -> tuple[dict[str, Stored], list[Node]]:
    constants, nodes = {}, []
    for number, value in _fields(graph, "graph"):
        if number == _INITIALIZER:
            name, stored = _tensor(as_bytes(value))
            constants[name] = stored
        elif number == _NODE:
            nodes.append(_node(as_bytes(value)))
    return constants, nodes


def _node(message: memoryview) -> Node:
    node = Node("", [], [], {})
    for number, value in _fields(message, "node"):
        if number in (1, 2):
            (node.inputs if number == 1 else node.outputs).append(as_text(value))
        elif number == 4:
            node = node._replace(op=as_text(value))
        elif number == 5:
            attribute = as_bytes(value)
            names = (as_text(part) for inner, part in _fields(attribute, "attribute") if inner == 1)
            node.attributes[next(names, "")] = attribute
    if not node.outputs:
        raise Malformed("it has a node without an output")
    return node


def _attribute(node: Node, name: str, field: int) -> memoryview:
    for number, value in node.attribute(name):
        if number == field:
            return as_bytes(value)
    raise Malformed(f"its {node.op} lacks {name}")


def _int(node: Node, name: str) -> int:
    return next((as_number(value) for number, value in node.attribute(name) if number == 3), 0)


def _float(node: Node, name: str, default: float) -> float:
    return next((as_float(value) for number, value in node.attribute(name) if number == 2), default)


def _ints(node: Node, name: str) -> list[int]:
    return [i for number, value in node.attribute(name) if number == 8 for i in numbers(value)]


def _lrn_convention(node: Node) -> str:
    """The convention of an LRN node; ONNX divides alpha by the size."""
    size = _int(node, "size")
    return lrn_convention(
        size, _float(node, "bias", 1.0), _float(node, "alpha", 1e-4) / max(size, 1), _float(node, "beta", 0.75)
    )


def _tensor(message: memoryview) -> tuple[str, Stored]:
    """(name, array) of a TensorProto; its data are raw bytes, or a repeated float or double."""
    name, shape, kind, parts, raw, external = "", [], 0, [], None, False
    for number, value in _fields(message, "tensor"):
        if number == 1:
            shape += numbers(value)
        elif number == 2:
            kind = as_number(value)
        elif number == 8:
            name = as_text(value)
        elif number in (4, 10):
            parts.append(as_bytes(value))
        elif number == 9:
            raw = as_bytes(value)
        elif number in (13, 14):
            external = external or number == 13 or as_number(value) == 1
    if external:
        raise Malformed("its arrays lie in other files: onnx.save(onnx.load(FILE), NEW_FILE) puts them inside")
    sides, held = tuple(shape), sum(map(len, parts)) if raw is None else len(raw)

    def read() -> np.ndarray:
        if kind not in _DTYPES or held != count(sides) * np.dtype(_DTYPES[kind]).itemsize:
            raise Malformed(f"its array {name[:80]!r} of shape {list(sides)} and type {kind} has {held} bytes")
        return floats(parts if raw is None else [raw], _DTYPES[kind]).reshape(sides)

    return name, Stored(sides, read)
