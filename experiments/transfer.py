"""Appendix B: a net's activations as descriptors of another data set's images, and a linear SVM on them.

python experiments/transfer.py --weights=FILE --data_path=DIR [--features=DIR2] [--output=DIR3] [--scales=256,384,512]
python experiments/transfer.py --weights=FILE_D,FILE_E --data_path=DIR                 each net, and both stacked
python experiments/transfer.py --layer=conv5_3,pool5 --pool=mean,max ...               a row for each combination

DIR holds DIR/CLASS/*.jpg. The net is applied densely to each image, rescaled to each smallest side Q, and to its mirror
image; a layer is pooled over all positions, averaged over the two, scales are combined, and the vector brought to
length 1. Descriptors go to DIR2 as they come; the same command goes on where it was stopped. Random splits, mean class
recall with its deviation; the SVM's C is chosen on 20% of the training images. The defaults are the paper's.
"""

import itertools
from pathlib import Path

from absl import flags
from compilation_cache import keep_programs

from command_line import run

WEIGHTS = flags.DEFINE_list("weights", None, "Files of weights, or WORKDIR/STAGE.", required=True)
DATA_PATH = flags.DEFINE_string("data_path", None, "Folder of class folders.", required=True)
FEATURES = flags.DEFINE_string("features", "runs/features", "Folder for the descriptors; they serve later runs.")
OUTPUT = flags.DEFINE_string("output", "runs/transfer", "Folder for results.json, report.md and a picture.")
LAYER = flags.DEFINE_list("layer", ["fc7"], "Layers, as fc7, conv5_3, pool5; of several each has its row.")
POOL = flags.DEFINE_list("pool", ["mean"], "Pooling over all positions: mean, max, or both.")
SCALES = flags.DEFINE_list("scales", ["256", "384", "512"], "Smallest sides Q.")
COMBINE = flags.DEFINE_list("combine", ["stack"], "How scales are combined: stack, average, or both.")
FLIP = flags.DEFINE_bool("flip", True, "Average with the mirror image.")
SPLITS = flags.DEFINE_integer("splits", 3, "Random splits.", 1)
SEED = flags.DEFINE_integer("seed", 0, "Of the splits.", 0)
TRAIN_IMAGES = flags.DEFINE_integer("train_images", 30, "Training images a class.")
TEST_IMAGES = flags.DEFINE_integer("test_images", 50, "Test images a class, at most.")
THREADS = flags.DEFINE_integer("threads", 8, "Threads that decode images.", 1)


def main(_: object) -> None:
    """Extract what is missing, fit and test on each split, write and print the rows."""
    keep_programs()
    from vgg_jax.data.folder import folder_source
    from vgg_jax.errors import InputError
    from vgg_jax.transfer.evaluation import Protocol, evaluate_transfer
    from vgg_jax.transfer.report import transfer_table, write_results
    from vgg_jax.transfer.representation import Representation

    if not all(scale.isdecimal() for scale in SCALES.value):
        raise InputError(f"--scales is {','.join(SCALES.value)}, but whole numbers are expected, as 256,384,512")
    scales = tuple(map(int, SCALES.value))
    representations = [
        Representation(layer, pool, scales, combine, FLIP.value)
        for layer, pool, combine in itertools.product(LAYER.value, POOL.value, COMBINE.value)
    ]
    evaluated = evaluate_transfer(
        [Path(path) for path in WEIGHTS.value],
        folder_source(DATA_PATH.value, "train", val_fraction=0.0),
        representations,
        Protocol(SPLITS.value, TRAIN_IMAGES.value, TEST_IMAGES.value, SEED.value),
        Path(FEATURES.value),
        threads=THREADS.value,
    )
    rows = []
    for row in evaluated:
        rows.append(row)
        write_results(Path(OUTPUT.value), rows)  # each as it comes: a fit takes minutes
    print(f"\n{transfer_table(rows)}")


if __name__ == "__main__":
    run(main)
