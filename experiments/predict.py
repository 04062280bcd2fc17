"""The five most probable classes of a photograph.

python experiments/predict.py IMAGE --weights=FILE|WORKDIR/STAGE [--protocol=centre_crop] [--classes=FILE]

Names come from --classes (one a line), else from the weights or the workdir; 1000 nameless classes are ImageNet's.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from compilation_cache import keep_programs

from command_line import run

WEIGHTS = flags.DEFINE_string("weights", None, "A file of weights, or WORKDIR/STAGE.", required=True)
PROTOCOL = flags.DEFINE_enum("protocol", "dense", ["dense", "centre_crop"], "The whole image, or its centre crop.")
SCALES = flags.DEFINE_list("scales", None, "Smallest sides Q, averaged; if not given 8/7 of the crop, 256 for 224.")
CLASSES = flags.DEFINE_string("classes", None, "Names of the classes, one a line, in the order of the net's outputs.")
FLIP = flags.DEFINE_bool("flip", True, "Average with the mirror image.")


def main(argv: Sequence[str]) -> None:
    """Print five lines: posterior in percent, name."""
    keep_programs()
    from vgg_jax.eval import centre_crop_eval, dense_eval
    from vgg_jax.eval.posteriors import scale_numbers
    from vgg_jax.images.decode import decode_rgb
    from vgg_jax.weights.class_names import class_names
    from vgg_jax.weights.load import load_stage

    image = decode_rgb(Path(argv[1]).read_bytes(), argv[1])
    model, params, info = load_stage(WEIGHTS.value)
    names = class_names(model.num_classes, info["classes"], Path(CLASSES.value) if CLASSES.value else None)
    scales = scale_numbers(SCALES.value) or (round(model.crop_size * 8 / 7),)
    evaluate = {"dense": dense_eval, "centre_crop": centre_crop_eval}[PROTOCOL.value]
    (posteriors,) = evaluate(model, params, [image], scales=scales, flip=FLIP.value)
    for index in (-posteriors).argsort(kind="stable")[:5]:
        print(f"{100 * posteriors[index]:6.2f}%  {names[index]}")


if __name__ == "__main__":
    run(main, arguments=("IMAGE",))
