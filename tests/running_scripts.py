"""What the tests of the scripts share: running one as a user does, its one line of error, pictures to train on."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).resolve().parent.parent
EXPERIMENTS = REPOSITORY / "experiments"
CONFIG = """
from configs.base import base, stage


def get_config():
    config = base()
    config.model.update(arch="A", width_multiplier=0.03, crop_size=32)
    config.data.update(source="folder", path={path!r}, val_fraction=0.25, **{data!r})
    config.train.update({train!r})
    config.stages.s256 = stage({scale!r}, 0.01, {steps})
    config.chain = ("s256",)
    return config
"""


def script(name, *arguments, cwd=REPOSITORY):
    """Run as a user does; warnings of any library stay what they are."""
    command = [sys.executable, os.path.relpath(EXPERIMENTS / name, cwd), *map(str, arguments)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def assert_one_error_line(run, *words):
    assert run.returncode == 1, run.stderr
    assert run.stderr.startswith("error: "), run.stderr
    assert run.stderr.count("\n") == 1, run.stderr
    for word in words:
        assert word in run.stderr, run.stderr


def write_noise(folder, images_per_class):
    """Two classes of JPEG noise."""
    rng = np.random.default_rng(0)
    for label in range(2):
        (folder / f"class{label}").mkdir(parents=True)
        for i in range(images_per_class):
            pixels = rng.integers(0, 256, (45, 50, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"class{label}" / f"{i}.jpg")


def write_config(folder, images_per_class, *, steps, scale=(37, 37), data=None, **train):
    """FOLDER/tiny.py, a narrow net A on noise that is written beside it; data, train: fields of the config."""
    write_noise(folder / "pictures", images_per_class)
    data = {"threads": 2, **(data or {})}
    fields = {"path": str(folder / "pictures"), "data": data, "train": train, "scale": scale, "steps": steps}
    file = folder / "tiny.py"
    file.write_text(CONFIG.format(**fields))
    return file
