"""Evaluate the stages of a workdir densely: the single-scale row and the three-scale row, or given scales.

python experiments/evaluate.py --workdir=DIR [--stage=jitter] [--split=val|test] [--scales=256,384,512]
"""

from pathlib import Path

from absl import flags

from command_line import run

WORKDIR = flags.DEFINE_string("workdir", None, "A workdir that train.py made.", required=True)
STAGE = flags.DEFINE_string("stage", None, "One stage; all that have a checkpoint if not given.")
SPLIT = flags.DEFINE_enum("split", None, ["train", "val", "test"], "The split; the config's eval.split if not given.")
SCALES = flags.DEFINE_list("scales", None, "Smallest sides Q whose posteriors are averaged, as 256,384,512.")
CHECKPOINT = flags.DEFINE_enum("checkpoint", "best", ["best", "latest"], "Which checkpoint of a stage.")
FLIP = flags.DEFINE_bool("flip", True, "Average with the mirror image.")
POOL_ROUNDING = flags.DEFINE_enum("pool_rounding", None, ["floor", "ceil"], "Instead of the model's own.")
DATA_PATH = flags.DEFINE_string("data_path", None, "Where the data set lies now, if it moved since the training.")


def main(_: object) -> None:
    """Evaluate, write results.json, print the table."""
    from vgg_jax.eval.workdir import evaluate_workdir
    from vgg_jax.report import results_table

    rows = evaluate_workdir(
        Path(WORKDIR.value),
        stage=STAGE.value,
        split=SPLIT.value,
        scales=SCALES.value,
        checkpoint=CHECKPOINT.value,
        flip=FLIP.value,
        pool_rounding=POOL_ROUNDING.value,
        data_path=DATA_PATH.value,
    )
    print(f"\n{results_table(rows)}")


if __name__ == "__main__":
    run(main)
