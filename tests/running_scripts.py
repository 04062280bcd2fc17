"""What the tests of the scripts share: running one as a user does, its one line of error, pictures to train on."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).resolve().parent.parent
EXPERIMENTS = REPOSITORY / "experiments"


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
