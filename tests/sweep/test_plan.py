import json

import pytest

from configs.base import base, stage
from vgg_jax import InputError
from vgg_jax.sweep.plan import plan, read_sweep, write_sweep
from vgg_jax.sweep.points import Axis, product


def config(**fields):
    made = base()
    made.stages.s256 = stage((256, 256), 0.01, 100)
    made.stages.s384 = stage((384, 384), 0.001, 50, "stage:s256")
    made.chain = ("s256", "s384")
    made.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    return made


def planned(root, axes, configs):
    points = product(axes)
    return plan(root, points, [["python", "train.py", *point.flags] for point in points], configs)


SEEDS = [Axis("config.seed", (0, 1))]


def test_each_point_has_a_workdir_and_a_command(tmp_path):
    sweep = planned(tmp_path, SEEDS, [config(seed=0), config(seed=1)])
    second = sweep.runs[1]
    assert second.workdir == tmp_path / "seed=1"
    assert second.command == ("python", "train.py", "--config.seed=1", f"--workdir={tmp_path}/seed=1")
    assert second.stages == {"s256": 100, "s384": 50} and second.images == 150 * 256
    assert not any(tmp_path.iterdir())


def test_the_plan_is_kept(tmp_path):
    sweep = planned(tmp_path / "runs", SEEDS, [config(seed=0), config(seed=1)])
    submitted = sweep._replace(runs=(sweep.runs[0], sweep.runs[1]._replace(job="17_1")))
    write_sweep(submitted, [], "the table")
    assert read_sweep(tmp_path / "runs") == submitted
    assert (tmp_path / "runs" / "sweep.md").read_text() == "the table\n"
    grown = planned(tmp_path / "runs", [Axis("config.seed", (1, 2))], [config(seed=1), config(seed=2)])
    assert [run.job for run in grown.runs] == ["17_1", None]  # a job in the queue is known to the next sweep too


def test_the_root_may_move(tmp_path):
    write_sweep(planned(tmp_path / "runs", SEEDS, [config(seed=0), config(seed=1)]), [], "")
    (tmp_path / "runs").rename(tmp_path / "moved")
    assert read_sweep(tmp_path / "moved").runs[0].workdir == tmp_path / "moved" / "seed=0"


def test_no_sweep_and_a_broken_one(tmp_path):
    with pytest.raises(InputError, match=r"sweep\.json does not exist: give --runs of a sweep that was started"):
        read_sweep(tmp_path)
    (tmp_path / "sweep.json").write_text('{"runs": [{"name": 3}]}')
    with pytest.raises(InputError, match=r"sweep\.json is no sweep"):
        read_sweep(tmp_path)


def test_a_config_that_cannot_be_names_its_point(tmp_path):
    with pytest.raises(InputError, match=r"^seed=1: stages\.s384\.steps is 0, but at least 1 is expected"):
        planned(tmp_path, SEEDS, [config(seed=0), config(seed=1, stages__s384__steps=0)])


def test_two_spellings_of_one_config(tmp_path):
    axes = [Axis("config.stages.s256.learning_rate", (1, "1.0"))]
    same = config(stages__s256__learning_rate=1.0)
    with pytest.raises(InputError, match=r"the points learning_rate=1 and learning_rate=1\.0 have the same config"):
        planned(tmp_path, axes, [same, same])
    planned(tmp_path, [Axis("distributed", ("none", "auto"))], [same, same])  # other flags tell them apart


def test_a_workdir_of_another_config(tmp_path):
    (tmp_path / "seed=1" / "s256" / "checkpoints" / "10").mkdir(parents=True)
    (tmp_path / "seed=1" / "config.json").write_text(json.dumps(config(seed=1, train__batch_size=64).to_dict()))
    configs = [config(seed=0), config(seed=1)]
    with pytest.raises(InputError, match=r"seed=1 was made with another config: train\.batch_size: saved 64, now 256"):
        planned(tmp_path, SEEDS, configs)
    (tmp_path / "seed=1" / "config.json").write_text(json.dumps(configs[1].to_dict()))
    planned(tmp_path, SEEDS, configs)
