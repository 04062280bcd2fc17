"""MATLAB's .mat (version 5, what `save -v7` and scipy write) as numpy arrays, lists and dicts, within bounded memory.

scipy.io.loadmat decompresses whatever a file announces; here each size is compared with what is there first.
"""

import math
import zlib
from typing import Any

import numpy as np

from vgg_jax.weights.found import MAX_BYTES, MAX_INFLATION, SMALL, Malformed

HEADER, MAX_DEPTH = 128, 32

_DTYPES = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8", 16: "u1"}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _OBJECT, _CHAR, _SPARSE = 1, 2, 3, 4, 5
_NUMERIC = range(6, 16)
_COMPLEX = 0x0800


def read_mat(data: memoryview) -> dict[str, Any]:
    """The variables of a file: a numeric array [rows, columns, ...], text as str, a cell as list, a struct as dict.

    An array of structs is a list of dicts; what else MATLAB knows (objects' methods, function handles) is None.
    """
    if bytes(data[126:128]) != b"IM":
        raise Malformed("it is cut off, or was written on a machine with big-endian numbers")
    variables, rest, allowed = {}, data[HEADER:], min(MAX_BYTES, SMALL + MAX_INFLATION * len(data))
    while len(rest):
        kind, body, rest = _element(rest)
        if kind == _COMPRESSED:
            unpacked = _decompress(body, allowed)
            allowed -= len(unpacked)
            kind, body, _ = _element(unpacked)
        if kind != _MATRIX:
            raise Malformed(f"it has an element of type {kind} where a variable is expected")
        name, value = _matrix(body, 0)
        variables[name] = value
    return variables


def _decompress(body: memoryview, allowed: int) -> memoryview:
    unpacker = zlib.decompressobj()
    unpacked = unpacker.decompress(body, max(allowed, 1))
    if not unpacker.eof:
        raise Malformed(f"it is cut off, or holds more than {allowed} bytes compressed")
    return memoryview(unpacked)


def _element(data: memoryview) -> tuple[int, memoryview, memoryview]:
    """(type, body, what follows) of the element at the front; short ones keep their body in the tag."""
    if len(data) < 8:
        raise Malformed("it is cut off")
    kind, length = (int(n) for n in np.frombuffer(data[:8], "<u4"))
    if kind >> 16:
        return kind & 0xFFFF, data[4 : 4 + min(kind >> 16, 4)], data[8:]
    if length > len(data) - 8:
        raise Malformed(f"it is cut off: an element announces {length} bytes, {len(data) - 8} are left")
    padded = length if kind == _COMPRESSED else length + -length % 8
    return kind, data[8 : 8 + length], data[8 + padded :]


def _numbers(data: memoryview) -> tuple[np.ndarray, memoryview]:
    kind, body, rest = _element(data)
    if kind not in _DTYPES or len(body) % np.dtype(_DTYPES[kind]).itemsize:
        raise Malformed(f"it has an element of type {kind} with {len(body)} bytes where numbers are expected")
    return np.frombuffer(body, _DTYPES[kind]), rest


def _matrix(body: memoryview, depth: int) -> tuple[str, Any]:
    """(name, value) of one array of any class."""
    if depth > MAX_DEPTH:
        raise Malformed(f"it nests more than {MAX_DEPTH} deep")
    if not len(body):
        return "", np.zeros((0, 0), np.float32)
    flags, rest = _numbers(body)
    sides, rest = _numbers(rest)
    name, rest = _numbers(rest)
    kind, shape = int(flags[0]) & 0xFF, tuple(int(side) for side in sides)
    if len(shape) > MAX_DEPTH or any(side < 0 for side in shape):
        raise Malformed(f"it has an array of shape {list(shape)[:MAX_DEPTH]}")
    return _text(name), _value(kind, bool(int(flags[0]) & _COMPLEX), shape, rest, depth)


def _value(kind: int, is_complex: bool, shape: tuple[int, ...], rest: memoryview, depth: int) -> Any:
    elements = math.prod(shape)
    if kind in _NUMERIC or kind == _CHAR:
        numbers, _ = _numbers(rest)
        if kind == _CHAR:
            return _text(numbers)
        if is_complex or len(numbers) != elements:
            raise Malformed(f"it has an array of shape {list(shape)} with {len(numbers)} numbers")
        return numbers.reshape(shape, order="F")
    if kind == _CELL:
        return _cells(rest, elements, depth)[0]
    if kind == _OBJECT:
        _, rest = _numbers(rest)  # the class's name
    if kind in (_STRUCT, _OBJECT):
        return _structs(rest, elements, depth)
    return None


def _cells(rest: memoryview, number: int, depth: int) -> tuple[list[Any], memoryview]:
    if number > len(rest) // 8:
        raise Malformed(f"it announces {number} cells, but has {len(rest)} bytes for them")
    cells = []
    for _ in range(number):
        kind, body, rest = _element(rest)
        if kind != _MATRIX:
            raise Malformed(f"it has an element of type {kind} where an array is expected")
        cells.append(_matrix(body, depth + 1)[1])
    return cells, rest


def _structs(rest: memoryview, number: int, depth: int) -> dict[str, Any] | list[dict[str, Any]]:
    width, rest = _numbers(rest)
    names, rest = _numbers(rest)
    length = max(1, int(width[0]))
    fields = [_text(names[i : i + length]) for i in range(0, len(names), length)]
    values, _ = _cells(rest, number * len(fields), depth)
    structs = [dict(zip(fields, values[i * len(fields) :])) for i in range(number if fields else 0)]
    return structs[0] if len(structs) == 1 else structs


def _text(codes: np.ndarray) -> str:
    return "".join(map(chr, codes.astype(np.uint16).tolist())).rstrip("\0")
