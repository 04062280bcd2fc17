"""Look through a data set before training: decode every image, tell what is odd, list what is bad.

python experiments/check_data.py --data_path=DIR [--data_source=folder] [--split=train] [--output=bad_images.txt]

The list can be given to a training, which then passes over these files and stops at any other that is bad:
--config.data.on_error=skip:bad_images.txt. The exit status is 1 if anything is bad.
"""

import sys
from pathlib import Path

from absl import flags

from command_line import run
from vgg_jax.data.bad_images import BAD_IMAGES_FILE, write_bad_images
from vgg_jax.data.check import check_source, open_splits, report_table
from vgg_jax.data.sources import SOURCES, SPLITS
from vgg_jax.errors import InputError
from vgg_jax.progress import progress_bar

DATA_SOURCE = flags.DEFINE_enum("data_source", "folder", SOURCES, "Kind of data.")
DATA_PATH = flags.DEFINE_string("data_path", None, "Where the data set lies.", required=True)
SPLIT = flags.DEFINE_enum("split", None, SPLITS, "One split; all that there are if not given.")
VAL_FRACTION = flags.DEFINE_float("val_fraction", 0.0, "As data.val_fraction; 0: all of a folder is train.")
TEST_FRACTION = flags.DEFINE_float("test_fraction", 0.0, "The same for test.")
SPLIT_SEED = flags.DEFINE_integer("split_seed", 0, "As data.split_seed.")
PROCESSES = flags.DEFINE_integer("processes", None, "How many decode; one a core if not given.", lower_bound=0)
OUTPUT = flags.DEFINE_string("output", BAD_IMAGES_FILE, "The list to write: NAME, a tab, what is wrong.")


def main(_: object) -> None:
    """Check the splits, print a table of each, write the list."""
    if not Path(OUTPUT.value).absolute().parent.is_dir():
        raise InputError(f"the folder of --output={OUTPUT.value} does not exist: make it, or give another file")
    options = {"val_fraction": VAL_FRACTION.value, "test_fraction": TEST_FRACTION.value, "split_seed": SPLIT_SEED.value}
    splits = open_splits(DATA_SOURCE.value, DATA_PATH.value, SPLIT.value, **options)
    bad: dict[str, str] = {}
    for name, source in splits.items():
        with progress_bar(total=len(source), desc=name, unit=" images") as bar:
            report = check_source(source, processes=PROCESSES.value, advance=bar.update)
        print(f"\n{name} split of {DATA_PATH.value}\n\n{report_table(report)}\n")
        bad |= report.bad
    write_bad_images(OUTPUT.value, bad)
    print(f"{len(bad)} bad images, listed in {OUTPUT.value}")
    if bad:
        print(f"to train without them: --config.data.on_error=skip:{OUTPUT.value}")
        sys.exit(1)


if __name__ == "__main__":
    run(main)
