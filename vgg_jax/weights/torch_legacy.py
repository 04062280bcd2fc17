"""torch's .pth of before 1.6: a row of pickles, then the storages' bytes."""

import io
from functools import partial

from vgg_jax.weights.found import Found, Malformed, check_size, count, found_by_name
from vgg_jax.weights.state_dict import unpickle_tensors
from vgg_jax.weights.torch import MAX_PICKLE, itemsize, state_dict, strided

FORMAT = "torch (.pth of before 1.6)"
MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001


def read_legacy_torch(data: memoryview) -> Found:
    """The tensors of the state dict; the pickles are read as those of `read_torch`, and nothing in them is executed."""
    stream = io.BytesIO(data[:MAX_PICKLE])
    magic, protocol, system, state, keys = (unpickle_tensors(stream) for _ in range(5))
    if (magic, protocol) != (MAGIC, PROTOCOL) or not isinstance(system, dict) or not isinstance(keys, list):
        raise Malformed("its pickles are not those of torch.save")
    if system.get("little_endian") is not True:
        raise Malformed("it was written on a machine with big-endian numbers")
    tensors = state_dict(state)
    check_size(sum(count(t.shape) * itemsize(t.dtype) for t in tensors.values()), len(data))
    dtypes = {tensor.key: tensor.dtype for tensor in tensors.values()}
    storages = _storages(data, stream.tell(), keys, dtypes)
    arrays = {}
    for name, tensor in tensors.items():
        if tensor.key not in storages:
            raise Malformed(f"it lacks the data of a tensor of shape {list(tensor.shape)}")
        storage = storages[tensor.key]
        arrays[name] = strided(tensor, len(storage), partial(bytes, storage))
    return found_by_name(FORMAT, arrays, caffe_names="caffe")


def _storages(data: memoryview, position: int, keys: list[object], dtypes: dict[str, str]) -> dict[str, memoryview]:
    """Key -> bytes: each storage is its number of elements, eight bytes, and then they, in the order of the keys."""
    storages = {}
    for key in keys:
        if not isinstance(key, str) or key not in dtypes:
            raise Malformed("it holds data that are no tensor of the state dict")
        start = position + 8
        elements = int.from_bytes(data[position:start], "little")
        position = start + elements * itemsize(dtypes[key])
        if position > len(data):
            raise Malformed(f"it ends within the data of a tensor, which has {elements} elements")
        storages[key] = data[start:position]
    return storages
