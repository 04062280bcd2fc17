import json

from sweep_trainings import BATCH, STEPS, finish, make_run, write_steps

from vgg_jax.sweep.attempts import write_end, write_start
from vgg_jax.sweep.plan import Sweep, read_sweep
from vgg_jax.sweep.table import report, result_rows
from vgg_jax.sweep.watch import show_progress, sweep_bar

TWO_STAGES = {"s256": STEPS, "s384": STEPS}


def make(tmp_path):
    """Trainings in many states; the best one is not the first."""
    runs = [make_run(tmp_path, name, stages=TWO_STAGES) for name in ("waiting", "failed", "half", "done", "better")]
    _, failed, half, done, better = runs
    write_steps(failed.workdir, 50.0)
    write_start(failed.workdir, 1)
    write_end(failed.workdir, 1)
    (failed.workdir / "train.log").write_text("error: the loss | is nan " + "x" * 200)
    write_steps(half.workdir, 60.0, 30.0, 35.0, steps=5)
    write_start(half.workdir, 1)
    write_end(half.workdir, 75)
    for run, error in ((done, 20.0), (better, 10.0)):
        write_steps(run.workdir, 5.0)  # an earlier stage does not count
        (run.workdir / "s256" / "finished.json").write_text(json.dumps({"steps": STEPS}))
        finish(run.workdir, error, stage="s384")
        rows = json.loads((run.workdir / "results.json").read_text())["rows"]
        rows = [{**rows[0], "stage": "s256"}, *rows]
        (run.workdir / "results.json").write_text(json.dumps({"rows": rows}))
    return Sweep(tmp_path, tuple(runs))


def test_rows_are_sorted_by_validation_error(tmp_path):
    rows = result_rows(make(tmp_path))
    shown = [(row["name"], row["state"], row["stage"], row["val_top1_error"], row["top1_error"]) for row in rows]
    assert shown == [
        *(("better", "done", "s384", 10.0, 11.0), ("done", "done", "s384", 20.0, 21.0)),
        *(("half", "preempted", "s256", 30.0, None), ("failed", "failed", "s256", 50.0, None)),
        ("waiting", "not started", None, None, None),
    ]
    assert [row["top5_error"] for row in rows[:2]] == [5.0, 10.0]
    assert [row["attempts"] for row in rows] == [0, 0, 1, 1, 0]


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_report_is_printed_and_written(tmp_path):
    sweep = make(tmp_path)
    rows, table = report(sweep)
    assert (tmp_path / "sweep.md").read_text() == table + "\n"
    assert json.loads((tmp_path / "sweep.json").read_text())["rows"] == rows
    assert read_sweep(tmp_path) == sweep
    header, _, first, *others = table.splitlines()
    assert cells(header)[:6] == ["seed", "state", "stage", "val top-1 (%)", "data", "top-1 error (%)"]
    assert cells(header)[6:] == ["top-5 error (%)", "attempts", "last words"]
    assert cells(first) == ["better", "done", "s384", "10.00", "test", "11.00", "5.00", "0", "-"]
    assert r"| error: the loss \| is nan ..." in others[2]
    assert rows[3]["error"].endswith("xxx")


def test_progress_leaves_out_what_failed(tmp_path):
    sweep = make(tmp_path)
    with sweep_bar(sweep) as bar:
        seen = BATCH * (0 + STEPS + 5 + 4 * STEPS)
        assert (bar.n, bar.total) == (seen, BATCH * 10 * STEPS)
        show_progress(bar, sweep)
        assert (bar.n, bar.total) == (seen, BATCH * 9 * STEPS)
        assert bar.postfix == "2 done, 1 preempted, 1 failed, 1 not started"
        show_progress(bar, sweep, waiting=["failed"])
        assert bar.total == BATCH * 10 * STEPS
