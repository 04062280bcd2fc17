"""Mean RGB and principal colours of a training set, beside ImageNet's.

python experiments/compute_statistics.py --source=folder --path=DIR --output=FILE
"""

from absl import flags

from command_line import run
from vgg_jax.data.sources import SOURCES, SPLITS, open_source
from vgg_jax.data.statistics import IMAGENET_STATISTICS, colour_statistics, save_statistics

FLAGS = flags.FLAGS
flags.DEFINE_enum("source", "folder", SOURCES, "Kind of data.")
flags.DEFINE_string("path", None, "Where the data lie.", required=True)
flags.DEFINE_enum("split", "train", SPLITS, "Split to read.")
flags.DEFINE_string("output", None, "JSON file to write.", required=True)
flags.DEFINE_enum("on_error", "raise", ("raise", "skip"), "What to do with an unreadable file.")
flags.DEFINE_integer("split_seed", 0, "Seed of a folder's split.")
flags.DEFINE_float("val_fraction", 0.1, "Share of a folder's images kept for validation, where it has no folder val.")
flags.DEFINE_float("test_fraction", 0.0, "The same for test.")


def main(argv: list[str]) -> None:
    """Compute, save, print."""
    source = open_source(
        FLAGS.source,
        FLAGS.path,
        FLAGS.split,
        split_seed=FLAGS.split_seed,
        val_fraction=FLAGS.val_fraction,
        test_fraction=FLAGS.test_fraction,
    )
    statistics = colour_statistics(source, on_error=FLAGS.on_error)
    save_statistics(FLAGS.output, statistics)
    for name in ("mean_rgb", "eigenvalues", "eigenvectors"):
        print(f"{name:12}  here {getattr(statistics, name)}")
        print(f"{'':12}  ImageNet {getattr(IMAGENET_STATISTICS, name)}")
    print(f"{len(source)} images; written to {FLAGS.output}")


if __name__ == "__main__":
    run(main)
