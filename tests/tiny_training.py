"""A training of seconds: a few coloured pictures, a narrow net A."""

import numpy as np
from PIL import Image

from configs.base import base, stage

CLASSES = 4
PICTURES = 12  # a class: 9 to train, 3 to validate


def write_pictures(folder, classes=CLASSES):
    """Each class a colour under noise; of several sizes; PNG and JPEG."""
    rng = np.random.default_rng(0)
    for label in range(classes):
        (folder / f"class{label}").mkdir(parents=True)
        colour = rng.integers(0, 256, 3)
        for i in range(PICTURES):
            pixels = colour + rng.normal(0, 40, (*rng.integers(40, 61, 2), 3))
            name = f"class{label}/{label}_{i:02}.{'png' if i % 2 else 'jpg'}"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
    return folder


def make_config(data, *stages, **fields):
    """A narrow net A on the pictures; ``stages`` of the chain s256, s384, jitter; fields with dots as __."""
    config = base()
    config.model.update(arch="A", width_multiplier=0.03, crop_size=32)
    config.data.update(source="folder", path=str(data), name="tiny", val_fraction=0.25, threads=2)
    config.train.update(batch_size=16, log_every=2)
    config.stages.s256 = stage((37, 37), 0.01, 6)
    config.stages.s384 = stage((55, 55), 0.01, 6, "stage:s256")
    config.stages.jitter = stage((37, 74), 0.01, 6, "stage:s384")
    config.chain = stages or ("s256",)
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    return config
