"""Damaged and malicious files: one sentence, bounded memory, nothing executed. mutated_files.py fuzzes at length."""

import io
import os
import pickle
import pickletools
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import msgpack
import mutated_files
import numpy as np
import pytest
from mutated_files import SEEDS, fuzz, original, outcome
from scipy.io import savemat

from vgg_jax import InputError
from vgg_jax.weights import load_weights

FIXTURES = Path(__file__).parent / "fixtures"
MATLAB = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"  # the header of a .mat


@pytest.mark.parametrize("name", SEEDS)
def test_damaged_files_load_or_are_refused(name, tmp_path, recwarn):
    outcomes = fuzz(name, number=25, seed=2, folder=tmp_path)
    assert outcomes["refused"] > 10


@pytest.mark.parametrize("name", SEEDS)
def test_a_file_that_was_cut_off_is_refused(name, tmp_path):
    data, path = original(name), tmp_path / "cut_off"
    for length in {*range(0, 20), *np.geomspace(20, len(data) - 1, 20).astype(int)}:
        path.write_bytes(data[:length])
        assert outcome(path) == "refused", length


def test_the_fuzzing_sees_a_reader_that_breaks(tmp_path, monkeypatch):
    def broken(path):
        raise KeyError("conv1_1")

    monkeypatch.setattr("vgg_jax.weights.load_weights", broken)
    with pytest.raises(KeyError):
        mutated_files.fuzz("torchvision_a.pth", 1, 0, tmp_path)


def refused(path, sentence):
    """The file is refused with this sentence, and in little memory whatever it announces."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=sentence) as raised:
            load_weights(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(path) in str(raised.value)
    assert peak < 2**26, f"{peak / 2**20:.0f} MiB"


# -- pickles: what each of them would do is create a file


class Payload:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


def opcodes(marker):
    """Pickles by hand, one way of calling something each."""
    path = str(marker).encode()
    text = b"X" + struct.pack("<I", len(path)) + path
    mode = b"X\x01\x00\x00\x00w"
    yield b"\x80\x02cbuiltins\nopen\n(" + text + mode + b"tR."
    yield b"\x80\x02(ibuiltins\nopen\n".replace(b"(i", b"(" + text + mode + b"i") + b"."  # INST
    yield b"\x80\x02(cbuiltins\nopen\n" + text + mode + b"o."  # OBJ
    yield b"\x80\x02cbuiltins\nopen\n" + text + mode + b"\x86\x81."  # NEWOBJ
    yield b"\x80\x04\x8c\x08builtins\x8c\x04open\x93" + text + mode + b"\x86R."  # STACK_GLOBAL
    yield b"\x80\x02cbuiltins\nopen\n" + text + mode + b"\x86Q."  # as a persistent id
    yield b"\x80\x02ccollections\nOrderedDict\ncbuiltins\nopen\n" + text + mode + b"\x86R\x85R."
    yield b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\ncbuiltins\nopen\n" + text + mode + b"\x86RR."


def as_pth(path, data):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", data)
        archive.writestr("net/byteorder", "little")
        archive.writestr("net/data/0", bytes(40))


def test_a_payload_in_a_pth_is_not_executed(tmp_path):
    path, marker = tmp_path / "net.pth", tmp_path / "executed"
    pickles = [pickle.dumps(Payload(marker), protocol) for protocol in range(6)]
    pickles += [pickle.dumps({"features.0.weight": Payload(marker)}, protocol) for protocol in range(6)]
    for data in (*pickles, *opcodes(marker)):
        as_pth(path, data)
        refused(path, "cut off, damaged or no torch file of a VGG: it")
        path.write_bytes(data)
        refused(path, "a pickle, which can run any program|no weights file|Caffe|cut off")
    assert not marker.exists()
    call, arguments = Payload(marker).__reduce__()  # what any unpickler would do; the payload is real
    assert {"GLOBAL", "REDUCE"} <= {opcode.name for opcode, *_ in pickletools.genops(pickles[2])}
    call(*arguments).close()
    assert marker.exists()


def test_a_payload_in_torchs_old_format_is_not_executed(tmp_path):
    """In the place of each of its pickles."""
    path, marker = tmp_path / "net.pth", tmp_path / "executed"
    stream = io.BytesIO((FIXTURES / "torchvision_a_legacy.pth").read_bytes())
    ends = [[*pickletools.genops(stream)] and stream.tell() for _ in range(5)]
    data = stream.getvalue()
    for start, end in zip([0, *ends], ends):
        for payload in (pickle.dumps(Payload(marker), 2), *opcodes(marker)):
            path.write_bytes(data[:start] + payload + data[end:])
            refused(
                path, "damaged or no torch_legacy file of a VGG: it|a pickle, which can run any program|no weights file"
            )
    assert not marker.exists()


def test_the_oldest_format_of_torch_is_refused_with_the_mend(tmp_path):
    with tarfile.open(tmp_path / "net.pth", "w") as archive:
        archive.add(FIXTURES / "images.npy", "storages")
    refused(tmp_path / "net.pth", r"a tar archive, as torch 0\.1 wrote .* torch\.save\(torch\.load\(")


def test_tensors_that_reach_beyond_their_storage(tmp_path):
    def tensor(offset, shape, strides):
        storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x0atQ"
        sides = b"(" + b"".join(b"J" + struct.pack("<i", n) for n in shape) + b"t"
        steps = b"(" + b"".join(b"J" + struct.pack("<i", n) for n in strides) + b"t"
        call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"J" + struct.pack("<i", offset) + sides + steps
        return b"\x80\x02}X\x11\x00\x00\x00features.0.weight" + call + b"\x89}tRs."

    for arguments, sentence in (
        ((0, (11,), (1,)), "announces a tensor of shape"),
        ((5, (6,), (1,)), "announces a tensor of shape"),
        ((0, (2,), (10,)), "announces a tensor of shape"),
        ((0, (2**30,), (0,)), "announces 4294967296 bytes|announces a tensor"),
        ((-1, (2,), (1,)), "no whole numbers"),
        ((0, (2,), (-1,)), "no whole numbers"),
        ((0, (2, 2), (1,)), "lacks the data"),
        ((0, (10,), (1,)), "has not the layers of a net"),
    ):
        as_pth(tmp_path / "net.pth", tensor(*arguments))
        with pytest.raises(InputError, match=sentence):
            load_weights(tmp_path / "net.pth")


# -- bombs: small files that announce much


def test_a_zip_bomb_in_an_npz(tmp_path):
    path = tmp_path / "net.npz"
    np.savez_compressed(path, conv1_1_W=np.zeros((3, 3, 3, 2**20), np.float32))
    assert path.stat().st_size < 2**18
    refused(path, "announces 113246336 bytes|announces 113246[0-9]+ bytes of arrays, too many")


def test_a_zip_member_that_lies_about_its_size(tmp_path):
    path = tmp_path / "net.npz"
    np.savez_compressed(path, conv1_1_W=np.zeros((3, 3, 3, 2**20), np.float32))
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        size = archive.infolist()[0].file_size
    path.write_bytes(data.replace(struct.pack("<I", size), struct.pack("<I", 1000)))
    refused(path, "has 1000 bytes|cut off")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("name", ["conv1_1_W.npy", "net/data.pkl"])
def test_compressions_that_zipfile_inflates_without_a_limit(tmp_path, name, compression):
    with zipfile.ZipFile(tmp_path / "net", "w", compression) as archive:
        archive.writestr(name, bytes(2**20))
    size = struct.pack("<I", 2**20)
    (tmp_path / "net").write_bytes((tmp_path / "net").read_bytes().replace(size, struct.pack("<I", 1000)))
    refused(tmp_path / "net", "are compressed neither as NumPy nor as torch does it")


def test_a_bomb_in_a_pth(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", bytes(2**27))
    refused(tmp_path / "net.pth", "announces 134217728 bytes")


def test_a_bomb_in_a_mat(tmp_path):
    savemat(tmp_path / "net.mat", {"layers": np.zeros(2**24, np.float64)}, do_compression=True)
    assert (tmp_path / "net.mat").stat().st_size < 2**18
    refused(tmp_path / "net.mat", "more than [0-9]+ bytes compressed")


def test_a_bomb_in_hdf5(tmp_path):
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file.create_dataset("block1_conv1/block1_conv1/kernel", (2**20, 2**20), np.float32, chunks=(1024, 1024))
    refused(tmp_path / "net.h5", "announces 4398046511104 bytes")


@pytest.mark.parametrize(
    ("name", "dtype", "sentence"),
    [
        ("block1_conv1/block1_conv1/kernel", np.float32, "announces 268435456 bytes"),
        ("vgg_jax", np.uint8, "no text of"),
    ],
)
def test_a_bomb_in_a_chunk_of_hdf5(tmp_path, name, dtype, sentence):
    """libhdf5 inflates a chunk as a whole, whatever part of it the array is."""
    with h5py.File(tmp_path / "net.h5", "w") as file:
        chunks = (2**28 // np.dtype(dtype).itemsize,)
        file.create_dataset(name, (8,), dtype, chunks=chunks, maxshape=(None,), compression="gzip")
    refused(tmp_path / "net.h5", sentence)


def test_hdf5_that_points_to_another_file(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(range(8)))
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file.create_dataset("block1_conv1/kernel", (2,), np.float32, external=[(str(tmp_path / "secret"), 0, 8)])
    refused(tmp_path / "net.h5", "lie in another file")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(100), "a field announces 9223372036854775807 bytes"),
        (b"\x12" + b"\xff" * 11, "a number of more than ten bytes"),
        (b"\x0a\x03net", "holds no layer with weights"),
        (b"\x0a\x03net\x0f", "unknown wire type 7"),
        (b"\x12\x04\x22\x02a", "cut off"),
        (b"\x08\x07\x3a\x02\x2a\x00\x42\x00", "its graph has no layer with weights"),
        (b"\x08\x07", "holds no graph"),
        (b"\x81\xa1a" * 100_000 + b"\xc0", "damaged or no msgpack file"),
        (b"\xdf\xff\xff\xff\xff" + bytes(10), "damaged or no msgpack file"),
        (b"\x81\xa1a\xdd\x00\x10\x00\x00" + b"\x80" * 2**20, "exceeds max_array_len"),
        (b"\x81\xa1a\xdc\x10\x00" + (b"\xdc\x10\x00" + b"\x80" * 4096) * 4096, "more than 4096 dicts, lists"),
        (b"\x08\x07\x3a\x80\x80\x10" + b"\x2a\x00" * 2**17 + b"\x42\x00", "a graph of more than 4096 fields"),
        (b"\x08\x07\x3a\x83\x01\x0a\x80\x01" + b"\x0a\x00" * 64 + b"\x42\x00", "a node without an output"),
        (b"\x08\x07\x3a\x85\x01\x0a\x82\x01" + b"\x0a\x00" * 65 + b"\x42\x00", "a node of more than 64 fields"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "damaged or no keras file"),
        (
            b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n",
            "version 7.3: save it in MATLAB with the option '-v7'",
        ),
        (
            MATLAB + struct.pack("<II", 14, 2**31),
            "announces 2147483648 bytes",
        ),
        (b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI", "big-endian"),
        (b"PK\x05\x06" + bytes(18), "zip archive of neither arrays"),
        (b"<!DOCTYPE html>", "no weights file: none of Caffe"),
        (b"", "no weights file: none of Caffe"),
    ],
)
def test_lengths_and_headers_that_make_no_sense(tmp_path, data, sentence):
    (tmp_path / "net").write_bytes(data)
    refused(tmp_path / "net", sentence)


def nested_protobuf(depth):
    message = b""
    for _ in range(depth):
        length, size = len(message), b""
        while length > 127:
            size, length = size + bytes([length & 127 | 128]), length >> 7
        message = b"\x12" + size + bytes([length]) + message
    return message


def nested_cells(depth):
    flags, sides = struct.pack("<IIII", 6, 8, 1, 0), struct.pack("<IIii", 5, 8, 1, 1)
    no_name = struct.pack("<II", 1, 0)
    matrix = struct.pack("<II", 14, 0)
    for _ in range(depth):
        body = flags + sides + no_name + matrix
        matrix = struct.pack("<II", 14, len(body)) + body
    return MATLAB + matrix


def test_deep_nesting(tmp_path):
    path = tmp_path / "net"
    path.write_bytes(nested_protobuf(1000))
    refused(path, "holds no layer with weights|wire type|cut off|message is expected")
    path.write_bytes(nested_cells(1000))
    refused(path, "nests more than 32 deep")
    as_pth(path, b"\x80\x02" + b"(" * 20_000 + b"t" * 20_000 + b".")
    refused(path, "holds no dict of tensors")
    path.write_bytes(msgpack.packb({"a": 1}) + os.urandom(3))
    refused(path, "no msgpack file")


def test_an_encrypted_or_doubled_member(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", b"1")
        archive.writestr("b.npy", b"1")
    (tmp_path / "net.npz").write_bytes(file.getvalue().replace(b"b.npy", b"a.npy"))
    refused(tmp_path / "net.npz", "two members of one name")
