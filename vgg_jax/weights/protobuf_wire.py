"""The wire format of protocol buffers: the fields of a message, with nothing copied and nothing nested parsed."""

import struct
from collections.abc import Iterator

import numpy as np

from vgg_jax.weights.found import Malformed

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Value = int | memoryview


def fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """(number, value) of each field: a varint as int, all else as its bytes; Malformed where the message breaks off."""
    position, end = 0, len(message)
    while position < end:
        key, position = _varint(message, position)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire == BYTES:
            length, position = _varint(message, position)
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
        else:
            raise Malformed(f"it has a field of the unknown wire type {wire}")
        if length > end - position:
            raise Malformed(f"it is cut off: a field announces {length} bytes, {end - position} are left")
        yield number, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise Malformed("it is cut off within a number")
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
    raise Malformed("it has a number of more than ten bytes")


def as_bytes(value: Value) -> memoryview:
    """A field that must be bytes, text or a message."""
    if isinstance(value, int):
        raise Malformed("it has a number where a message is expected")
    return value


def as_text(value: Value) -> str:
    """A field that must be text."""
    return bytes(as_bytes(value)).decode("utf-8", "replace")


def as_number(value: Value) -> int:
    """A field that must be a whole number."""
    if not isinstance(value, int):
        raise Malformed("it has bytes where a whole number is expected")
    return value


def as_float(value: Value) -> float:
    """A field that must be a float of 4 bytes."""
    if isinstance(value, int) or len(value) != 4:
        raise Malformed("it has something else where a float is expected")
    return struct.unpack("<f", value)[0]


def numbers(value: Value) -> list[int]:
    """A repeated whole number's part: one, or several packed; at most 64, for these are shapes."""
    if isinstance(value, int):
        return [value]
    found, position = [], 0
    while position < len(value):
        number, position = _varint(value, position)
        found.append(number)
        if len(found) > 64:
            raise Malformed("it has a shape of more than 64 sides")
    return found


def floats(parts: list[memoryview], dtype: str) -> np.ndarray:
    """A repeated float's parts, packed or one by one, as one array without a copy where it is one part."""
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    return np.frombuffer(data, dtype)
