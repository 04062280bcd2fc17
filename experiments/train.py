"""Train a VGG through its chain of stages and evaluate each densely.

python experiments/train.py --config=configs/quickstart.py [--workdir=DIR] [--config.any.field=value]
    [--dry_run [--memory_table]]
"""

from pathlib import Path

from absl import flags
from compilation_cache import keep_programs
from distributed import start_processes
from ml_collections import config_flags
from numerics import set_numerics

from command_line import run

CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment, as configs/quickstart.py.", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Where checkpoints and results go; runs/<config name> if not given.")
DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Print what each stage needs of operations, memory and time; train nothing."
)
MEMORY_TABLE = flags.DEFINE_bool("memory_table", False, "With --dry_run: the memory of other batches and settings too.")
flags.mark_flag_as_required("config")


def main(_: object) -> None:
    """Run the chain and print its table of results."""
    keep_programs()
    set_numerics()
    start_processes()
    from vgg_jax.compilation import counted_compilations
    from vgg_jax.processes import is_first
    from vgg_jax.report import results_table
    from vgg_jax.training.chain import run_chain

    name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    workdir = Path(WORKDIR.value or Path("runs") / name)
    if DRY_RUN.value:
        return dry_run(workdir)
    with counted_compilations() as compilations:
        rows = run_chain(CONFIG.value, workdir)
    if not is_first():
        return
    print(f"\n{results_table(rows)}\n\nresults.json and learning_curve.png are in {workdir}; {compilations}")


def dry_run(workdir: Path) -> None:
    """Print the estimates; an InputError for the first stage that does not fit."""
    from vgg_jax.training import dry_run, estimate

    available = estimate.device_memory()
    model, stages = dry_run.estimate_chain(CONFIG.value, workdir)
    print(dry_run.stages_table(model, stages, CONFIG.value.train.batch_size, available))
    if MEMORY_TABLE.value:
        rows = dry_run.memory_rows(dry_run.alternatives(CONFIG.value), model.num_classes)
        print(f"\n{dry_run.memory_table(rows, available)}")
    for stage in stages:
        estimate.check_fits(stage.stage, CONFIG.value, stage.memory, available)


if __name__ == "__main__":
    run(main)
