"""Fuzzing of the readers of weights: fixtures damaged at random must load, or raise InputError, and nothing else.

python tests/mutated_files.py [--number=500] [--seed=0] [FILE ...]      number: of damaged files for each fixture
"""

import argparse
import io
import resource
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

FIXTURES = Path(__file__).parent / "weights" / "fixtures"
SEEDS = (
    *("caffe_d_old.caffemodel", "caffe_a_lrn.caffemodel", "keras_d_notop.h5", "keras_d_notop.weights.h5"),
    *(
        "torchvision_a.pth",
        "torchvision_a_legacy.pth",
        "timm_d.safetensors",
        "matconvnet_d_simplenn.mat",
        "matconvnet_b_dagnn_bgr.mat",
    ),
    *("onnx_a_lrn.onnx", "torchvision_a.onnx", "keras_d.npz_in_keras_names", "torchvision_b.msgpack"),
    *("written_here.h5", "written_here.safetensors"),
)
EXTREMES = [bytes(n) for n in (1, 4, 8)] + [b"\xff" * n for n in (1, 4, 8)] + [b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"]


def original(name):
    """The bytes of a fixture; of what is none, written of another one's params."""
    if (FIXTURES / name).exists():
        return (FIXTURES / name).read_bytes()
    from flax.serialization import to_bytes

    from vgg_jax.weights import load_weights, save_weights

    if name.startswith("written_here"):
        layout = {".h5": "keras", ".safetensors": "torchvision"}[Path(name).suffix]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            save_weights(path, *load_weights(FIXTURES / "torchvision_b.safetensors"), layout=layout)
            return path.read_bytes()
    if name.endswith("msgpack"):
        return to_bytes(load_weights(FIXTURES / "torchvision_b.safetensors")[1])
    _, params = load_weights(FIXTURES / "keras_d_notop.h5")
    file = io.BytesIO()
    names = {layer: f"block{layer[4]}_conv{layer[6]}" for layer in params}
    arrays = {f"{names[layer]}_{role[0].replace('k', 'W')}": a for layer, p in params.items() for role, a in p.items()}
    np.savez(file, **arrays)
    return file.getvalue()


def damaged(data, rng):
    """The bytes with up to four faults, most near the ends; of a zip archive half the time inside one member."""
    if data[:2] == b"PK" and rng.random() < 0.5:
        return _with_damaged_member(data, rng)
    for _ in range(rng.integers(1, 5)):
        where = int(rng.integers(0, len(data) + 1))
        if (end := rng.random()) < 0.6:
            near = min(int(rng.integers(0, 4096)), len(data))
            where = near if end < 0.4 else len(data) - near
        piece = int(rng.integers(1, 64))
        match rng.integers(0, 6):
            case 0:
                data = data[:where] + rng.bytes(1) + data[where + 1 :]
            case 1:
                extreme = EXTREMES[rng.integers(len(EXTREMES))]
                data = data[:where] + extreme + data[where + len(extreme) :]
            case 2:
                data = data[:where] + data[where + piece :]
            case 3:
                data = data[:where] + data[where : where + piece] * int(rng.integers(2, 5)) + data[where + piece :]
            case 4:
                data = data[:where] + rng.bytes(piece) + data[where:]
            case 5:
                data = data[:where] if rng.random() < 0.3 else data
    return data


def _with_damaged_member(data, rng):
    members = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    chosen = next((name for name in members if name.endswith("data.pkl")), None)
    if chosen is None or rng.random() < 0.3:
        chosen = list(members)[rng.integers(len(members))]
    members[chosen] = damaged(members[chosen], rng)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def outcome(path):
    """Say "loaded" or "refused"; anything else that a reader does goes up."""
    from vgg_jax import VGG, InputError
    from vgg_jax.weights import load_weights

    try:
        model, params = load_weights(path)
    except InputError as error:
        assert str(path) in str(error), error
        return "refused"
    assert isinstance(model, VGG)
    assert "conv1_1" in params
    return "loaded"


def fuzz(name, number, seed, folder):
    """How many of the damaged files are loaded and refused; one that does something else stays in the folder."""
    rng, data, path = np.random.default_rng(seed), original(name), Path(folder) / f"damaged_{name}"
    path.write_bytes(data)
    assert outcome(path) == "loaded", name
    outcomes = Counter()
    for _ in range(number):
        path.write_bytes(damaged(data, rng))
        outcomes[outcome(path)] += 1
    path.unlink()
    return outcomes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("names", nargs="*", default=SEEDS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    folder = tempfile.mkdtemp()
    for name in options.names:
        start = time.time()
        counts = fuzz(name, options.number, options.seed, folder)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        print(f"{name}: {dict(counts)}, {time.time() - start:.0f} s, peak of the process {peak:.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
