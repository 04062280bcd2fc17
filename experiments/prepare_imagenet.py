"""ILSVRC2012 as ImageNet hands it out -> ArrayRecord shards of the original files (`data.source=array_record`).

    python experiments/prepare_imagenet.py --devkit=ILSVRC2012_devkit_t12.tar.gz --output=DIR \
        --train_tar=ILSVRC2012_img_train.tar --val_tar=ILSVRC2012_img_val.tar [--test_tar=...]

Start it again after an interruption: finished shards are kept. It needs scipy (for the kit's meta.mat) and as much free
disk space as the tars; decoding every picture once, to name the broken ones, takes most of the time.
"""

from collections.abc import Sequence

from absl import flags

from command_line import run
from vgg_jax.data import imagenet
from vgg_jax.errors import InputError

TARS = {
    split: flags.DEFINE_string(
        f"{split}_tar", None, f"the tar of the {split} pictures; left out, the split is not written"
    )
    for split in imagenet.NUM_IMAGES
}
NUM_IMAGES = {
    split: flags.DEFINE_integer(f"num_{split}", number, f"how many {split} pictures there must be")
    for split, number in imagenet.NUM_IMAGES.items()
}
DEVKIT = flags.DEFINE_string("devkit", None, "ILSVRC2012_devkit_t12.tar.gz", required=True)
OUTPUT = flags.DEFINE_string("output", None, "the directory to write", required=True)
NUM_CLASSES = flags.DEFINE_integer("num_classes", imagenet.NUM_CLASSES, "how many classes there must be")
IMAGES_PER_SHARD = flags.DEFINE_integer("images_per_shard", imagenet.IMAGES_PER_SHARD, "pictures a shard, at most", 1)
THREADS = flags.DEFINE_integer("threads", None, "decoding threads; one a core by default", 1)


def main(argv: Sequence[str]) -> None:
    """Prepare the splits whose tars are given."""
    del argv
    tars = {split: flag.value for split, flag in TARS.items() if flag.value}
    if not tars:
        raise InputError("there is nothing to prepare; give --train_tar, --val_tar or --test_tar")
    bad = imagenet.prepare_imagenet(
        tars,
        DEVKIT.value,
        OUTPUT.value,
        num_images={split: flag.value for split, flag in NUM_IMAGES.items()},
        num_classes=NUM_CLASSES.value,
        images_per_shard=IMAGES_PER_SHARD.value,
        threads=THREADS.value,
    )
    print(f"{OUTPUT.value} is complete: {', '.join(tars)}; {len(bad)} undecodable pictures (bad_images.txt)")


if __name__ == "__main__":
    run(main)
