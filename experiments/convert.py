"""Weights of another program, or a trained stage, -> our own file or another program's, with a model card beside it.

python experiments/convert.py IN OUT.safetensors [--layout=torchvision|timm] [--arch=A-LRN] [--input_order=RGB]
python experiments/convert.py IN OUT.h5                                           Keras's

IN: .caffemodel, Keras's .h5, .pth, .safetensors, .mat, .onnx, .npz, flax msgpack (known by content), or WORKDIR/STAGE.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from command_line import run
from vgg_jax.architectures import ARCHITECTURES
from vgg_jax.errors import InputError
from vgg_jax.weights import save_weights
from vgg_jax.weights.card import stage_rows
from vgg_jax.weights.fields import describe
from vgg_jax.weights.load import load_stage
from vgg_jax.weights.metadata import training_metadata
from vgg_jax.weights.save import LAYOUTS, card_path, check_layout

ARCH = flags.DEFINE_enum("arch", None, tuple(ARCHITECTURES), "The net, where the shapes fit several (A and A-LRN).")
INPUT_ORDER = flags.DEFINE_enum("input_order", None, ("RGB", "BGR"), "Channels of conv1_1 in IN, if not the usual.")
LAYOUT = flags.DEFINE_enum("layout", None, LAYOUTS, "Names and layout of OUT; by its suffix if not given.")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Write OUT though it exists.")


def main(argv: Sequence[str]) -> None:
    """Read IN, write OUT."""
    source, target = map(Path, argv[1:])
    layout = check_layout(target, LAYOUT.value)
    for path in (target, card_path(target)):
        if path.exists() and not OVERWRITE.value:
            raise InputError(f"{path} exists: choose another name, or add --overwrite")
    model, params, info = load_stage(source, ARCH.value, input_order=INPUT_ORDER.value)
    results = stage_rows(source, info)
    save_weights(target, model, params, layout=layout, metadata=training_metadata(info), results=results)
    print(f"wrote {target} and {card_path(target).name}, layout {layout}: {describe(model, 'fc8' in params)}")


if __name__ == "__main__":
    run(main, arguments=("IN", "OUT"))
