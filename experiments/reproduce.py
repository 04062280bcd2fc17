"""Reproduce the paper's tables: evaluate trained nets by every row, print the tables and claims, write the report.

python experiments/reproduce.py --runs=DIR [--output=DIR/report] [--split=test] [--tables=3,4] [--seeds=0,1] [--require]
python experiments/reproduce.py --runs=DIR --train --config=configs/caltech101_tables.py --data_path=CALTECH101
"""

import json
from pathlib import Path

from absl import flags
from compilation_cache import keep_programs

from command_line import HERE, run

RUNS = flags.DEFINE_string("runs", None, "A folder with workdirs of train.py anywhere below it.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "Where reproduction.json and the report go; RUNS/report if not given.")
SPLIT = flags.DEFINE_enum("split", None, ["train", "val", "test"], "The split; the configs' eval.split if not given.")
DATA_PATH = flags.DEFINE_string("data_path", None, "Where the data set lies, if not where the config says.")
TABLES = flags.DEFINE_list("tables", None, "Some of 1,2,3,4,5,6,7,extra; all if not given.")
SEEDS = flags.DEFINE_list("seeds", None, "Seeds; all that are found, or 0 to train, if not given.")
REQUIRE = flags.DEFINE_bool("require", False, "Stop unless every row of the tables can be run.")
TRAIN = flags.DEFINE_bool("train", False, "First train the nets that are not finished, to RUNS/seedS/NET.")
CONFIG = flags.DEFINE_string("config", None, "With --train: the config, whose argument is the net.")
NETS = flags.DEFINE_list("nets", None, "With --train: some of the nets, as A,D,E; all if not given.")
TRAIN_FLAG = flags.DEFINE_multi_string("train_flag", [], "With --train: one more flag of train.py; may be repeated.")
PHOTOGRAPHS = flags.DEFINE_list("photographs", [], "Picture files to show in the report as a trained net sees them.")
CREDIT = flags.DEFINE_multi_string("credit", [], "The source of a photograph, one for each in their order.")


def main(_: object) -> None:
    """Train where wanted, evaluate, print, write."""
    keep_programs()
    from vgg_jax.report import write_atomically
    from vgg_jax.reproduction.claims import claims_markdown
    from vgg_jax.reproduction.document import reproduction, result_rows
    from vgg_jax.reproduction.manifest import TABLE_NAMES, protocols
    from vgg_jax.reproduction.page import write_report
    from vgg_jax.reproduction.photographs import photograph_entries
    from vgg_jax.reproduction.runs import common_split, evaluate_rows, find_runs, require_all, stage_to_show
    from vgg_jax.reproduction.tables import table_markdown

    root, seeds = Path(RUNS.value), numbers(SEEDS.value)
    tables = TABLES.value or TABLE_NAMES
    rows = protocols(tables)
    if TRAIN.value:
        train(root, seeds or [0])
    runs = find_runs(root, seeds)
    if REQUIRE.value:
        require_all(runs, rows)
    split = SPLIT.value or common_split(runs)
    files = [Path(file) for file in PHOTOGRAPHS.value]
    photographs = photograph_entries(stage_to_show(runs), files, CREDIT.value) if files else []
    results = evaluate_rows(runs, rows, split=split, data_path=DATA_PATH.value)
    content = {**reproduction(runs, results, split, tables), "photographs": photographs}
    output = Path(OUTPUT.value) if OUTPUT.value else root / "report"
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "reproduction.json", json.dumps(content, indent=1) + "\n")
    rows_made = json.dumps({"rows": result_rows(results, root)}, indent=1)
    write_atomically(output / "rows.json", rows_made + "\n")
    write_report(content, output)
    print(*map(table_markdown, content["tables"]), claims_markdown(content["claims"]), sep="\n\n")
    print(f"\nreproduction.json, rows.json, report.html and report.md are in {output}")


def train(root: Path, seeds: list[int]) -> None:
    """Run train.py for each net that is not finished."""
    from vgg_jax.architectures import ARCHITECTURES
    from vgg_jax.errors import InputError
    from vgg_jax.reproduction.launch import plan_trainings, run_trainings

    if CONFIG.value is None:
        raise InputError("--train needs --config, a config that takes the net, as configs/caltech101_tables.py")
    options = {"seeds": seeds, "nets": NETS.value or list(ARCHITECTURES), "flags": TRAIN_FLAG.value}
    run_trainings(plan_trainings(HERE / "train.py", CONFIG.value, root, data_path=DATA_PATH.value, **options))


def numbers(texts: list[str] | None) -> list[int] | None:
    """The seeds as numbers; anything else raises InputError."""
    from vgg_jax.errors import InputError

    if texts and not all(text.isdecimal() for text in texts):
        raise InputError(f"--seeds is {','.join(texts)}, but whole numbers are expected, as 0,1,2")
    return [int(text) for text in texts] if texts else None


if __name__ == "__main__":
    run(main)
