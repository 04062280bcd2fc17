"""The pickle inside torch's .pth, read by an interpreter of our own that knows tensors and nothing else.

Python's unpickler can call anything that a file names. Here `pickletools` splits the bytes into opcodes, and this file
gives a meaning to those alone that a dict of tensors needs: no name is looked up, nothing is imported, nothing called.
"""

import pickletools
from collections.abc import Callable
from typing import IO, Any, NamedTuple

from vgg_jax.weights.found import Malformed

STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
}


class Name(NamedTuple):
    """What a pickle would import; here it stays a name."""

    name: str


class TensorRecord(NamedTuple):
    """A tensor: elements of a storage from an offset on, in steps of the strides."""

    dtype: str
    key: str  # the member data/KEY of the archive
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


_MARK = object()


def unpickle_tensors(data: bytes | IO[bytes]) -> Any:
    """The object of a pickle: dicts, lists, tuples, numbers, text and tensors; Malformed for anything else.

    A stream is read to the end of the pickle and no further.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _VALUES:
            stack.append(argument)
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "GLOBAL":
            stack.append(Name(argument))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in _OPERATIONS:
            _OPERATIONS[name](stack)
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise Malformed(f"its pickle does more than hold tensors (opcode {name})")
    raise Malformed("its pickle has no end")


_CONSTANTS: dict[str, Callable[[], Any]] = {
    **{"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple},
    **{"NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False},
}
_VALUES = {"BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_VALUES |= {"BINSTRING", "SHORT_BINSTRING"}  # text of Python 2


def _after_mark(stack: list[Any]) -> list[Any]:
    position = len(stack) - 1 - stack[::-1].index(_MARK)
    items = stack[position + 1 :]
    del stack[position:]
    return items


def _pop(stack: list[Any], number: int) -> list[Any]:
    if len(stack) < number:
        raise Malformed("its pickle takes from an empty stack")
    items = stack[-number:]
    del stack[-number:]
    return items


def _extend(stack: list[Any], items: list[Any]) -> None:
    if not isinstance(stack[-1], list):
        raise Malformed("its pickle appends to something else than a list")
    stack[-1].extend(items)


def _set_items(stack: list[Any], items: list[Any]) -> None:
    if not isinstance(stack[-1], dict) or not all(isinstance(key, str | int) for key in items[::2]):
        raise Malformed("its pickle has a dict whose keys are neither text nor numbers")
    stack[-1].update(zip(items[::2], items[1::2], strict=True))


def _stack_global(stack: list[Any]) -> None:
    module, name = _pop(stack, 2)
    if not isinstance(module, str) or not isinstance(name, str):
        raise Malformed("its pickle names something by no text")
    stack.append(Name(f"{module} {name}"))


def _persistent_id(stack: list[Any]) -> None:
    """A storage: ("storage", torch.FloatStorage, key, device, number of elements[, None: before torch 1.6])."""
    (record,) = _pop(stack, 1)
    match record:
        case ("storage", Name(name), str(key), _, int()) | ("storage", Name(name), str(key), _, int(), None) if (
            name.removeprefix("torch ") in STORAGES
        ):
            stack.append((STORAGES[name.removeprefix("torch ")], key))
        case ("storage", Name(name), *_):
            raise Malformed(f"it holds tensors of another type than floats ({name[:80]!r})")
        case _:
            raise Malformed("its pickle refers to something that is no storage of a tensor")


def _build(stack: list[Any]) -> None:
    """Attributes, as a state dict's _metadata: dropped."""
    _pop(stack, 1)
    if not isinstance(stack[-1], dict):
        raise Malformed("its pickle sets attributes of something else than a dict")


def _reduce(stack: list[Any]) -> None:
    """A call, of the three functions that tensors need."""
    function, arguments = _pop(stack, 2)
    match function, arguments:
        case Name("collections OrderedDict"), ():
            stack.append({})
        case Name("torch._utils _rebuild_tensor_v2" | "torch._utils _rebuild_tensor"), (
            (str(dtype), str(key)),
            int(offset),
            tuple(),
            tuple(),
            *_,
        ):
            shape, strides = arguments[2:4]
            if not all(type(side) is int and side >= 0 for side in (offset, *shape, *strides)):
                raise Malformed("it holds a tensor with a shape or strides that are no whole numbers")
            stack.append(TensorRecord(dtype, key, offset, shape, strides))
        case Name("torch._utils _rebuild_parameter"), (TensorRecord() as tensor, *_):
            stack.append(tensor)
        case Name(name), _:
            raise Malformed(f"its pickle calls {name[:80]!r}, which is not executed: only tensors are read")
        case _:
            raise Malformed("its pickle calls something that is no function of torch")


_OPERATIONS: dict[str, Callable[[list[Any]], None]] = {
    "TUPLE": lambda stack: stack.append(tuple(_after_mark(stack))),
    "TUPLE1": lambda stack: stack.append(tuple(_pop(stack, 1))),
    "TUPLE2": lambda stack: stack.append(tuple(_pop(stack, 2))),
    "TUPLE3": lambda stack: stack.append(tuple(_pop(stack, 3))),
    "APPEND": lambda stack: _extend(stack, _pop(stack, 1)),
    "APPENDS": lambda stack: _extend(stack, _after_mark(stack)),
    "SETITEM": lambda stack: _set_items(stack, _pop(stack, 2)),
    "SETITEMS": lambda stack: _set_items(stack, _after_mark(stack)),
    "STACK_GLOBAL": _stack_global,
    "BINPERSID": _persistent_id,
    "REDUCE": _reduce,
    "BUILD": _build,
}
