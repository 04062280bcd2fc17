"""How different two pictures of one size look to a net: LPIPS without learnt weights (Zhang et al. 2018).

python experiments/perceptual_distance.py A.jpg B.jpg --weights=FILE|WORKDIR/STAGE [--layers=conv1_2,conv2_2,...]

At each position a layer's activations are divided by their length; a layer's distance is the squared difference of the
two pictures' unit vectors, averaged over the positions: 0 for equal pictures, at most 2. The layers' distances add up.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from compilation_cache import keep_programs

from command_line import run

WEIGHTS = flags.DEFINE_string("weights", None, "A file of weights, or WORKDIR/STAGE.", required=True)
LAYERS = flags.DEFINE_list("layers", None, "Layers to compare; the last convolution of each block if not given.")


def layer_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over positions of the squared difference of unit vectors, of activations [..., C]."""
    a, b = (x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-10) for x in (a, b))
    return float(np.mean(np.sum((a - b) ** 2, axis=-1)))


def main(argv: Sequence[str]) -> None:
    """Print a table of distances by layer."""
    keep_programs()
    from vgg_jax import InputError, features
    from vgg_jax.architectures import blocks_of
    from vgg_jax.images.decode import decode_rgb
    from vgg_jax.weights import load_weights

    pictures = [decode_rgb(Path(path).read_bytes(), path) for path in argv[1:]]
    sizes = [f"{picture.shape[0]}x{picture.shape[1]}" for picture in pictures]
    if sizes[0] != sizes[1]:
        raise InputError(f"{argv[1]} is {sizes[0]}, but {argv[2]} is {sizes[1]}: rescale or crop them to one size")
    model, params = load_weights(WEIGHTS.value)
    layers = LAYERS.value or [block[-1].name for block in blocks_of(model.arch)]
    a, b = features(model, params, pictures, layers)
    distances = {name: layer_distance(a[name], b[name]) for name in a}
    for name, distance in {**distances, "sum": sum(distances.values())}.items():
        print(f"{name:12} {distance:.6f}")


if __name__ == "__main__":
    run(main, arguments=("A", "B"))
