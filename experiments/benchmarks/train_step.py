"""The training step beside torchvision's, keras.applications' and plain flax's, and against the machine's ceilings.

pip install -e '.[peers]' && python experiments/benchmarks/train_step.py [--arch=D] [--batches=2,8,16]
    [--dtype=bfloat16] [--switches] [--json=FILE] [--plot=FILE.png]

Forward and backward pass with dropout and SGD with momentum and weight decay over all parameters, images as uint8 on
the device. --switches: also what each of our switches changes alone. Peers that are not installed are left out.
"""

from collections.abc import Callable
from functools import partial

import comparison
import numpy as np
from absl import app, flags
from ours import train

from vgg_jax import VGG
from vgg_jax.training.state import multiply_adds

BATCHES = flags.DEFINE_list("batches", ["2", "8", "16"], "Images a step.")


def main(_: object) -> None:
    """Measure batch by batch, print, write."""
    model = comparison.model_of_flags()
    comparison.run("training step", map(int, BATCHES.value), partial(sides, model), 3 * 2.0 * multiply_adds(model))


def sides(model: VGG, batch: int) -> dict[str, comparison.Build]:
    """What is compared at a batch size."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, model.crop_size, model.crop_size, 3), np.uint8)
    labels = rng.integers(0, model.num_classes, batch, np.int32)
    variants = comparison.variants()
    ours = {name: partial(train, model, images, labels, variant) for name, variant in variants.items()}
    peers = {"plain flax": partial(plain_flax, model, images, labels), "keras": partial(keras, model, images, labels)}
    return {**ours, **torch_sides(model, images, labels), **peers}


def torch_sides(model: VGG, images: np.ndarray, labels: np.ndarray) -> dict[str, comparison.Build]:
    """The torchvision package's net, as it is and as torch can make it faster."""

    def build(**how: bool) -> tuple[Callable[[], object], None]:
        from peer_torch import torch_train

        return torch_train(model, images, labels, **how), None

    return {name: partial(build, **how) for name, how in comparison.torch_ways().items()}


def plain_flax(model: VGG, images: np.ndarray, labels: np.ndarray) -> tuple[Callable[[], object], None]:
    """As flax's users write it."""
    from peer_flax import flax_train

    return flax_train(model, images, labels), None


def keras(model: VGG, images: np.ndarray, labels: np.ndarray) -> tuple[Callable[[], object], None]:
    """The net of keras.applications on the jax backend."""
    from peer_keras import keras_train

    return keras_train(model, images, labels), None


if __name__ == "__main__":
    app.run(main)
