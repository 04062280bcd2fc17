"""Links to the images of one of transfer.py's random splits, as a data set for train.py.

python experiments/link_split.py --data_path=DIR --output=FOLDER [--number=0] [--train_images=30] [--test_images=50]

Makes FOLDER/train, val (the 20% held out of the training images) and test, each with its class folders.
"""

from pathlib import Path

from absl import flags

from command_line import run

DATA_PATH = flags.DEFINE_string("data_path", None, "Folder of class folders.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "Folder to make.", required=True)
NUMBER = flags.DEFINE_integer("number", 0, "Which of the splits, from 0.", 0)
SEED = flags.DEFINE_integer("seed", 0, "Of the splits.", 0)
TRAIN_IMAGES = flags.DEFINE_integer("train_images", 30, "Training images a class.")
TEST_IMAGES = flags.DEFINE_integer("test_images", 50, "Test images a class, at most.")


def main(_: object) -> None:
    """Draw the split and link it."""
    from vgg_jax.data.folder import folder_source
    from vgg_jax.transfer.links import link_split
    from vgg_jax.transfer.splits import random_split

    source = folder_source(DATA_PATH.value, "train", val_fraction=0.0)
    counts = {"train_images": TRAIN_IMAGES.value, "test_images": TEST_IMAGES.value, "seed": SEED.value}
    split = random_split(source.labels, source.class_names, NUMBER.value, **counts)
    link_split(source, split, Path(OUTPUT.value))
    print(f"{OUTPUT.value}: {len(split.train)} images to train and validate, {len(split.test)} to test")


if __name__ == "__main__":
    run(main)
