"""Made-up results of the manifest's rows, and workdirs without nets, for the tests of the reproduction."""

import json

import numpy as np

from vgg_jax.eval.workdir import Evaluated
from vgg_jax.reproduction.manifest import PAPER_SCALES

SMALL_SCALES = {"s256": [37, 37], "s384": [55, 55], "jitter": [37, 74], "jitter_fc": [37, 74]}


def wrong(count, images=1000, first=0):
    """A bool [images], ``count`` of it True, from position ``first`` on and round the end."""
    return np.isin(np.arange(images), (first + np.arange(count)) % images)


def evaluated(protocol, seed=0, top1=500, top5=250, images=1000, first=0, **fields):
    """The result of a row at the paper's own size: ``top1`` of the images wrong."""
    members = [
        {"arch": n.arch, "stage": n.stage, "train_scale": PAPER_SCALES[n.stage], "test_scales": list(n.test_scales)}
        for n in protocol.nets
    ]
    row = {
        "dataset": "caltech101",
        "split": "test",
        **(members[0] if len(members) == 1 else {"arch": "D & E", "stage": None}),
        "seed": seed,
        "checkpoint": "best",
        "method": protocol.method,
        "grid": {"dense": None, "centre_crop": 1}.get(protocol.method, 5),
        "flip": protocol.method != "centre_crop",
        "pool_rounding": "floor",
        "members": members if len(members) > 1 else None,
        "top1_error": 100 * top1 / images,
        "top5_error": 100 * top5 / images,
        "num_images": images,
        "num_skipped": 0,
        **fields,
    }
    return Evaluated(row, {1: wrong(top1, images, first), 5: wrong(top5, images, first)}, folders=[])


def make_workdir(path, arch="A", seed=0, stages=("s256",), classes=("ant", "bee"), **fields):
    """A workdir with a config and finished stages, and nothing else; fields as ``model__crop_size=64``."""
    config = {
        "seed": seed,
        "chain": ["s256"],
        "model": {"arch": arch, "crop_size": 32, "width_multiplier": 0.125},
        "data": {"name": "pictures", "path": "where", "source": "folder", "split_seed": 0},
        "eval": {"split": "test"},
        "stages": {name: {"scale": scale} for name, scale in SMALL_SCALES.items()},
    }
    for name, value in fields.items():
        section, _, field = name.partition("__")
        config[section][field] = value
    for stage in stages:
        (path / stage).mkdir(parents=True)
        (path / stage / "finished.json").write_text('{"steps": 1}\n')
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    (path / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    return path
