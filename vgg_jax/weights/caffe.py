"""Caffe's .caffemodel: a NetParameter with the blobs of each layer, in the old (V1LayerParameter) or new layer format.

The field numbers are those of caffe.proto. Layers that carry no blobs are skipped, but for an LRN, which tells A-LRN.
"""

from collections.abc import Iterator

import numpy as np

from vgg_jax.weights.found import Found, Layer, Malformed, Stored, count, lrn_convention, without_leading_ones
from vgg_jax.weights.names import CONVENTIONS
from vgg_jax.weights.protobuf_wire import as_bytes, as_float, as_number, as_text, fields, floats, numbers

FORMAT = "Caffe (.caffemodel)"

_NET_OLD_LAYERS, _NET_LAYERS = 2, 100
# (name, type, blobs, lrn_param) of V1LayerParameter and of LayerParameter
_OLD, _NEW = (4, 5, 6, 18), (1, 2, 7, 118)
_OLD_LRN, _OLD_INNER_PRODUCT = 15, 14
_BLOB_OLD_SHAPE, _BLOB_DATA, _BLOB_SHAPE, _BLOB_DOUBLE = (1, 2, 3, 4), 5, 7, 8
_LRN_SIZE, _LRN_ALPHA, _LRN_BETA, _LRN_K = 1, 2, 3, 5


def read_caffe(data: memoryview) -> Found:
    """The layers that have blobs. Malformed where the bytes are no NetParameter, or one that holds no layer."""
    layers: dict[str, Layer] = {}
    lrn = None
    for name, kind, blobs, lrn_param in _layers(data):
        if kind in ("LRN", _OLD_LRN):
            lrn = _lrn_convention(lrn_param)
        if not blobs:
            continue
        if name in layers:
            raise Malformed(f"it holds the layer {name!r} twice")
        stored = [_blob(blob) for blob in blobs]
        if kind in ("InnerProduct", _OLD_INNER_PRODUCT) or name.startswith("fc"):
            stored[0] = without_leading_ones(stored[0], 2)
        # the old format gives every blob four sides: [1, 1, out, in], [1, 1, 1, out]
        roles = ("kernel", "bias", *(f"blob {i}" for i in range(2, len(stored))))
        layers[name] = {"kernel": stored[0], **{r: without_leading_ones(s, 1) for r, s in zip(roles[1:], stored[1:])}}
    if not layers:
        raise Malformed("it holds no layer with weights")
    return Found(FORMAT, layers, CONVENTIONS["caffe"], lrn)


def _layers(data: memoryview) -> Iterator[tuple[str, str | int, list[memoryview], memoryview]]:
    """(name, type, blobs, lrn_param) of each layer."""
    for number, value in fields(data):
        if number not in (_NET_OLD_LAYERS, _NET_LAYERS):
            continue
        name_field, type_field, blobs_field, lrn_field = _NEW if number == _NET_LAYERS else _OLD
        name, kind, blobs, lrn = "", "", [], memoryview(b"")
        for inner, part in fields(as_bytes(value)):
            if inner == name_field:
                name = as_text(part)
            elif inner == type_field:
                kind = as_text(part) if number == _NET_LAYERS else as_number(part)  # type: ignore[assignment]
            elif inner == blobs_field:
                blobs.append(as_bytes(part))
            elif inner == lrn_field:
                lrn = as_bytes(part)
        yield name, kind, blobs, lrn


def _blob(message: memoryview) -> Stored:
    old_shape, shape, parts, dtype = [1, 1, 1, 1], None, [], "<f4"
    for number, value in fields(message):
        if number in _BLOB_OLD_SHAPE:
            old_shape[number - 1] = as_number(value)
        elif number == _BLOB_SHAPE:
            shape = [side for inner, part in fields(as_bytes(value)) if inner == 1 for side in numbers(part)]
        elif number in (_BLOB_DATA, _BLOB_DOUBLE):
            parts.append(as_bytes(value))
            dtype = "<f4" if number == _BLOB_DATA else "<f8"
    sides = tuple(old_shape if shape is None else shape)
    if (held := sum(map(len, parts))) != count(sides) * np.dtype(dtype).itemsize:
        raise Malformed(f"a blob of shape {list(sides)} has {held} bytes of data")
    return Stored(sides, lambda: floats(parts, dtype).reshape(sides))


def _lrn_convention(message: memoryview) -> str:
    """The convention of an LRNParameter; Caffe divides alpha by the size."""
    size, values = 5, {_LRN_ALPHA: 1.0, _LRN_BETA: 0.75, _LRN_K: 1.0}
    for number, value in fields(message):
        if number == _LRN_SIZE:
            size = as_number(value)
        elif number in values:
            values[number] = as_float(value)
    return lrn_convention(size, values[_LRN_K], values[_LRN_ALPHA] / max(size, 1), values[_LRN_BETA])
