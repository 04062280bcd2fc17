"""Weights of another program, or a trained stage, -> our own file; what was recognised is printed.

python experiments/convert.py IN OUT.safetensors [--arch=A-LRN] [--input_order=RGB] [--overwrite]

IN: .caffemodel, Keras's .h5, .pth, .safetensors, .mat, .onnx, .npz, flax msgpack (known by content), or WORKDIR/STAGE.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from command_line import run
from vgg_jax.architectures import ARCHITECTURES
from vgg_jax.errors import InputError
from vgg_jax.weights import load_weights, save_weights
from vgg_jax.weights.fields import describe

ARCH = flags.DEFINE_enum("arch", None, tuple(ARCHITECTURES), "The net, where the shapes fit several (A and A-LRN).")
INPUT_ORDER = flags.DEFINE_enum("input_order", None, ("RGB", "BGR"), "Channels of conv1_1 in IN, if not the usual.")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Write OUT though it exists.")


def main(argv: Sequence[str]) -> None:
    """Read IN, write OUT."""
    source, target = map(Path, argv[1:])
    if target.exists() and not OVERWRITE.value:
        raise InputError(f"{target} exists: choose another name, or add --overwrite")
    model, params = load_weights(source, ARCH.value, input_order=INPUT_ORDER.value)
    save_weights(target, model, params)
    print(f"wrote {target}: {describe(model, 'fc8' in params)}")


if __name__ == "__main__":
    run(main, arguments=("IN", "OUT"))
