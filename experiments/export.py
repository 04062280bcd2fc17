"""A trained net as one file that runs elsewhere: ONNX, or StableHLO of jax.export.

python experiments/export.py WEIGHTS|WORKDIR/STAGE OUT.onnx|OUT.stablehlo [--form=crop|dense|pool5] [--layout=NCHW]
    [--check] [--overwrite]

The file takes float32 RGB 0..255 and normalises them itself. --check then runs it (ONNX in onnxruntime) beside the net
at several batch and image sizes, and ends with status 1 where they differ. ONNX needs `pip install 'vgg_jax[export]'`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from compilation_cache import keep_programs

from command_line import run
from vgg_jax.architectures import ARCHITECTURES

FORM = flags.DEFINE_enum("form", "crop", ("crop", "dense", "pool5"), "Logits of crops, score maps, or the last pool's.")
LAYOUT = flags.DEFINE_enum("layout", "NHWC", ("NHWC", "NCHW"), "Of the images, and of the maps that come out.")
ARCH = flags.DEFINE_enum("arch", None, tuple(ARCHITECTURES), "The net, where the shapes fit several (A and A-LRN).")
CHECKPOINT = flags.DEFINE_enum("checkpoint", "best", ("best", "latest"), "Which checkpoint of a stage.")
CHECK = flags.DEFINE_bool("check", False, "Run what was written and compare.")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Write OUT though it exists.")


def main(argv: Sequence[str]) -> None:
    """Read the net, write the file, run it if asked to."""
    keep_programs()
    from vgg_jax.errors import InputError
    from vgg_jax.export import TOLERANCE, check_export, export_net
    from vgg_jax.weights.fields import describe
    from vgg_jax.weights.load import load_stage

    source, target = map(Path, argv[1:])
    if target.exists() and not OVERWRITE.value:
        raise InputError(f"{target} exists: choose another name, or add --overwrite")
    model, params, info = load_stage(source, ARCH.value, checkpoint=CHECKPOINT.value)
    options = {"form": FORM.value, "layout": LAYOUT.value}
    export_net(target, model, params, **options, classes=info["classes"])
    print(f"wrote {target}: {describe(model, 'fc8' in params)}; form {FORM.value}, images {LAYOUT.value}")
    if not CHECK.value:
        return
    for shape, difference in check_export(target, model, params, **options):
        print(f"images {list(shape)}: off by {difference:.1e} of the largest value", flush=True)
        if not difference < TOLERANCE:  # nor is NaN
            sys.exit(f"error: {target} does not compute what the net does, within {TOLERANCE:g}: do not use it")


if __name__ == "__main__":
    run(main, arguments=("WEIGHTS", "OUT"))
