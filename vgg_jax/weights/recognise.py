"""Which format a weights file has, by its first bytes and, in a zip archive, its members; never by its name."""

import zipfile
from pathlib import Path

from vgg_jax.errors import InputError
from vgg_jax.weights.torch import is_torch_pickle

KNOWN = (
    "Caffe .caffemodel, Keras .h5 and .weights.h5, torch .pth, safetensors, MatConvNet .mat, ONNX, .npz, flax msgpack"
)

_HDF5 = b"\x89HDF\r\n\x1a\n"
_LEGACY_TORCH = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # the number that opens torch's old files
# the first fields of a NetParameter: name, old layers, input, input_dim, layers
_CAFFE = (b"\x0a", b"\x12", b"\x1a", b"\x20", b"\x22", b"\xa2\x06")
_MSGPACK_MAPS = (*range(0x81, 0x90), 0xDE, 0xDF)


def recognise(path: Path) -> str:
    """A key of `load.READERS`. Raises InputError for what is none of them, with the mend where one is known."""
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"MATLAB 7.3"):
        raise InputError(f"{path} is a .mat file of version 7.3: save it in MATLAB with the option '-v7'")
    if head.startswith(_HDF5):
        return "keras"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _recognise_zip(path)
    if head.startswith(b"MATLAB 5.0"):
        return "matconvnet"
    if _LEGACY_TORCH in head[:20]:
        return "torch_legacy"
    if head[257:262] == b"ustar":
        raise InputError(
            f"{path} is a tar archive, as torch 0.1 wrote .pth files, which is not read: "
            "in torch, torch.save(torch.load(FILE, weights_only=True), NEW_FILE) writes one that is"
        )
    if head[8:9] == b"{" and head[5:8] == bytes(3):  # before the pickle: 80 05 is a header of 1408 bytes, too
        return "safetensors"
    if head[:1] == b"\x80" and head[1:2] and head[1] < 6:
        raise InputError(f"{path} is a pickle, which can run any program when it is opened: no pickle is read")
    if head and head[0] in _MSGPACK_MAPS:
        return "msgpack"
    if head.startswith(b"\x08"):
        return "onnx"
    if head.startswith(_CAFFE):
        return "caffe"
    raise InputError(f"{path} is cut off, damaged or no weights file: none of {KNOWN}")


def _recognise_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as reason:
        raise InputError(f"{path} is a zip archive (.pth, .npz) that is cut off or damaged: {reason}") from reason
    if any(is_torch_pickle(name) for name in names):
        return "torch"
    if "model.weights.h5" in names:
        raise InputError(f"{path} is a .keras archive: unpack its model.weights.h5, or save the weights alone")
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    raise InputError(f"{path} is a zip archive of neither arrays (.npz) nor torch's tensors (.pth)")
