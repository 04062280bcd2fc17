"""Evaluate nets: the stages of a workdir, several workdirs and their fusion, or weights alone.

python experiments/evaluate.py --workdir=DIR [--stage=jitter] [--protocol=both] [--split=test] [--scales=256,384,512]
python experiments/evaluate.py --workdir=DIR_D,DIR_E --stage=jitter          each net, and the mean of their posteriors
python experiments/evaluate.py --workdir=DIR_D/s256,DIR_E/jitter             members by stage
python experiments/evaluate.py --weights=FILE --data_path=PATH --scales=384  no workdir
... --weights=FILE --expect=caffe_d                                          beside the published errors of a release
"""

from pathlib import Path

from absl import flags
from compilation_cache import keep_programs
from distributed import start_processes

from command_line import run

WORKDIR = flags.DEFINE_list("workdir", [], "Workdirs that train.py made, or WORKDIR/STAGE; several are fused as well.")
STAGE = flags.DEFINE_string("stage", None, "One stage; all that have a checkpoint if not given.")
WEIGHTS = flags.DEFINE_list("weights", [], "Instead of workdirs: files of weights, with --data_path.")
PROTOCOL = flags.DEFINE_enum("protocol", "dense", ["dense", "multi_crop", "both", "centre_crop"], "Method.")
SPLIT = flags.DEFINE_enum(
    "split",
    None,
    ["train", "val", "test"],
    "The split; else eval.split, or with --weights val or all.",
)
SCALES = flags.DEFINE_list("scales", None, "Smallest sides Q whose posteriors are averaged, as 256,384,512.")
CHECKPOINT = flags.DEFINE_enum("checkpoint", "best", ["best", "latest"], "Which checkpoint of a stage.")
FLIP = flags.DEFINE_bool("flip", True, "Average with the mirror image.")
POOL_ROUNDING = flags.DEFINE_enum("pool_rounding", None, ["floor", "ceil"], "Instead of the model's own.")
DATA_PATH = flags.DEFINE_string("data_path", None, "Where the data set lies, if not where the training found it.")
DATA_SOURCE = flags.DEFINE_string("data_source", "folder", "With --weights: folder, array_record, tfds or shapes.")
ON_ERROR = flags.DEFINE_string("on_error", "raise", "With --weights: unreadable images, raise, skip or skip:FILE.")
SAVE_POSTERIORS = flags.DEFINE_bool("save_posteriors", False, "Keep the posteriors, for later fusion or other use.")
EXPECT = flags.DEFINE_string("expect", None, "Print the errors beside those published for this release of weights.")
OUTPUT = flags.DEFINE_string("output", None, "Folder for results.json and posteriors; else the first workdir.")


def main(_: object) -> None:
    """Evaluate, write results.json, print the table."""
    keep_programs()
    start_processes()
    from vgg_jax.errors import InputError
    from vgg_jax.eval.workdir import evaluate_stages, find_stages, source_data
    from vgg_jax.processes import is_first
    from vgg_jax.report import results_table
    from vgg_jax.weights.releases import beside_published, find_release

    if bool(WORKDIR.value) == bool(WEIGHTS.value):
        raise InputError("give --workdir=DIR[,DIR...] or --weights=FILE, one of the two")
    if EXPECT.value:
        find_release(EXPECT.value)  # an unknown one is told before the work
    if WEIGHTS.value:
        stages = [Path(path) for path in WEIGHTS.value]
        data = source_data(DATA_SOURCE.value, DATA_PATH.value, SPLIT.value, ON_ERROR.value)
    else:
        found = [find_stages(Path(path), STAGE.value) for path in WORKDIR.value]
        if len(found) > 1 and (several := [path for path, of in zip(WORKDIR.value, found) if len(of) > 1]):
            raise InputError(f"{several[0]} has several stages: say which one to fuse, --stage=NAME or DIR/STAGE")
        stages, data = [stage for of_workdir in found for stage in of_workdir], None
    rows = evaluate_stages(
        stages,
        protocol=PROTOCOL.value,
        data=data,
        split=SPLIT.value,
        scales=SCALES.value,
        checkpoint=CHECKPOINT.value,
        flip=FLIP.value,
        pool_rounding=POOL_ROUNDING.value,
        data_path=DATA_PATH.value,
        save_posteriors=SAVE_POSTERIORS.value,
        output=Path(OUTPUT.value) if OUTPUT.value else None,
        fuse=max(len(WORKDIR.value), len(WEIGHTS.value)) > 1,
    )
    if is_first():
        print(f"\n{results_table(rows)}")
        if EXPECT.value:
            print(f"\n{beside_published(rows, EXPECT.value)}")


if __name__ == "__main__":
    run(main)
