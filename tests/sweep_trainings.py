"""Trainings of a sweep: small programs in train.py's place, and the files that a training leaves.

The programs import this file, so it imports nothing that takes time.
"""

import json
import sys
from pathlib import Path

STEPS, BATCH = 10, 8


def write_steps(workdir, *val_errors, stage="s256", steps=STEPS):
    """A stage's log with a validation at each of its last steps."""
    (workdir / stage).mkdir(parents=True, exist_ok=True)
    rows = [{"step": step, "train_loss": 1.0} for step in range(1, steps + 1)]
    rows += [{"step": steps, "val_top1_error": error, "val_loss": 1.0} for error in val_errors]
    (workdir / stage / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def finish(workdir, top1_error, stage="s256", steps=STEPS):
    """What a finished and evaluated stage has."""
    write_steps(workdir, top1_error, stage=stage, steps=steps)
    (workdir / stage / "finished.json").write_text(json.dumps({"steps": steps}))
    row = {"stage": stage, "method": "dense", "checkpoint": "best", "test_scales": [37], "split": "test"}
    rows = [{**row, "top1_error": top1_error + 1, "top5_error": top1_error / 2}]
    rows = [{**rows[0], "test_scales": [32, 37, 42], "top1_error": 0.0}, *rows]  # a better one, by evaluate.py
    (workdir / "results.json").write_text(json.dumps({"rows": rows}))


def make_run(root, name, program="", stages=None):
    """A training that runs a Python program, whose `workdir` is a Path and `finish` the function above."""
    from vgg_jax.sweep.plan import Run

    workdir = root / name
    begin = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    begin += f"from pathlib import Path; workdir = Path({str(workdir)!r})\n"
    command = (sys.executable, "-c", begin + program)
    return Run(name, {"seed": name}, command, workdir, stages or {"s256": STEPS}, BATCH)


def make_sweep(root, **programs):
    """A sweep of one training a program."""
    from vgg_jax.sweep.plan import Sweep

    return Sweep(root, tuple(make_run(root, name, program) for name, program in programs.items()))
