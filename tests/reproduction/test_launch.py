import json
import sys
from pathlib import Path

import pytest
from reproduction_results import make_workdir

from vgg_jax.errors import InputError
from vgg_jax.reproduction.launch import Training, is_finished, plan_trainings, run_trainings

TRAIN = Path("train.py")
ALL = ("A", "A-LRN", "B", "B-5x5", "C", "D", "E")


def test_a_comes_first_and_starts_the_deeper_nets():
    plan = plan_trainings(TRAIN, "configs/x.py", Path("runs"), seeds=(0, 2))
    assert [(t.seed, t.arch) for t in plan] == [(seed, arch) for seed in (0, 2) for arch in ALL]
    commands = {(t.seed, t.arch): t.command for t in plan}
    begin = (sys.executable, "train.py")
    assert commands[0, "A"] == (*begin, "--config=configs/x.py:A", "--workdir=runs/seed0/A", "--config.seed=0")
    warm = ("--config.stages.s256.init_from=workdir:runs/seed2/A/s256", "--config.stages.s256.init_layers=paper_a")
    for arch in "BCDE":
        expected = (f"--config=configs/x.py:{arch}", f"--workdir=runs/seed2/{arch}", "--config.seed=2", *warm)
        assert commands[2, arch] == (*begin, *expected)
    for arch in ("A-LRN", "B-5x5"):
        assert commands[0, arch][2:] == (
            f"--config=configs/x.py:{arch}",
            f"--workdir=runs/seed0/{arch}",
            "--config.seed=0",
        )


def test_data_path_and_more_flags_are_passed_on():
    flags = ["--config.data.threads=2", "--config.chain=('s256',)"]
    (training,) = plan_trainings(TRAIN, "c.py", Path("runs"), nets=["A"], data_path="pictures", flags=flags)
    assert training.command[-3:] == ("--config.data.path=pictures", *flags)


def test_finished_nets_are_left_out(tmp_path):
    make_workdir(tmp_path / "seed0" / "A")
    make_workdir(tmp_path / "seed0" / "B", "B", stages=())
    plan = plan_trainings(TRAIN, "c.py", tmp_path, nets=["B", "A"])
    assert [t.arch for t in plan] == ["B"]
    assert [t.arch for t in plan_trainings(TRAIN, "c.py", tmp_path, nets=["B"])] == ["B"]


def test_a_chain_is_finished_with_its_last_stage(tmp_path):
    path = make_workdir(tmp_path / "D", "D", stages=("s256",))
    assert is_finished(path) and not is_finished(tmp_path / "absent")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"chain": ["s256", "s384"]}))
    assert not is_finished(path)


def test_a_net_without_the_net_that_it_starts_from(tmp_path):
    with pytest.raises(InputError, match=r"net D starts from net A, but .*seed0/A is not finished: add A to --nets"):
        plan_trainings(TRAIN, "c.py", tmp_path, nets=["D"])
    assert len(plan_trainings(TRAIN, "c.py", tmp_path, nets=["B-5x5", "A-LRN"])) == 2


def test_an_unknown_net():
    with pytest.raises(InputError, match="--nets names 'F', but the nets are A, A-LRN, B, B-5x5, C, D, E"):
        plan_trainings(TRAIN, "c.py", Path("runs"), nets=["A", "F"])


def python(program, arch="A"):
    return Training(arch, 0, Path("runs"), (sys.executable, "-c", program))


def test_trainings_run_in_order_and_their_output_is_passed_on(tmp_path, capfd):
    file = tmp_path / "order"
    run_trainings([python(f"print('I am {n}'); open({str(file)!r}, 'a').write({n!r})", n) for n in "AB"])
    assert file.read_text() == "AB"
    assert "I am A\n" in capfd.readouterr().err


def test_a_failing_training_ends_all_with_its_last_lines(tmp_path):
    file = tmp_path / "never"
    failing = python("import sys; print(*range(9), sep='\\n'); sys.exit('error: no such folder')", "B")
    message = (
        r"net B with seed 0 ended with status 1, last saying: .*7 \| 8.*; mend that and give the same command again"
    )
    with pytest.raises(InputError, match=message) as told:
        run_trainings([failing, python(f"open({str(file)!r}, 'w')")])
    assert "error: no such folder" in str(told.value)
    assert not file.exists()
