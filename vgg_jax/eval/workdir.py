"""Evaluation of a workdir that train.py made: rows for its stages, added to its results.json."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vgg_jax.data.sources import open_source
from vgg_jax.errors import InputError
from vgg_jax.eval.posteriors import three_scales
from vgg_jax.eval.stage import dense_row
from vgg_jax.report import Row, add_rows


def evaluate_workdir(
    workdir: Path,
    *,
    stage: str | None = None,
    split: str | None = None,
    scales: Sequence[str | int] | None = None,
    checkpoint: str = "best",
    flip: bool = True,
    pool_rounding: str | None = None,
    data_path: str | None = None,
) -> list[Row]:
    """Dense rows of one stage or of all that have a checkpoint: single-scale and three-scale, or at given scales.

    split: the config's eval.split if None. Raises InputError for a folder that is no workdir, an unknown stage or a
    scale that is no number.
    """
    config = _read_config(workdir)
    data = config["data"]
    split = split or config["eval"]["split"]
    source = open_source(
        data["source"],
        data_path or data["path"],
        split,
        **{name: data[name] for name in ("split_seed", "val_fraction", "test_fraction", "images_per_class")},
    )
    crop = config["model"]["crop_size"]
    rows: list[Row] = []
    for name in _stages(workdir, config, stage):
        given = _numbers(scales)
        for test_scales in (given,) if given else (None, three_scales(config["stages"][name]["scale"], crop)):
            row = dense_row(
                workdir / name,
                source,
                split=split,
                scales=test_scales,
                checkpoint=checkpoint,
                flip=flip,
                pool_rounding=pool_rounding,
                batch_size=config["eval"]["batch_size"],
                on_error=data["on_error"],
                threads=data["threads"],
            )
            rows.append(row)
            add_rows(workdir / "results.json", [row])
    return rows


def _read_config(workdir: Path) -> dict[str, Any]:
    path = workdir / "config.json"
    if not path.exists():
        raise InputError(f"{workdir} is no workdir of train.py: it has no config.json")
    return json.loads(path.read_text())


def _stages(workdir: Path, config: dict[str, Any], stage: str | None) -> list[str]:
    present = [name for name in config["stages"] if any((workdir / name / "checkpoints").glob("[0-9]*"))]
    if stage is None and present:
        return present
    if stage is None or stage not in present:
        wanted = f"no stage {stage!r}" if stage else "no stage"
        raise InputError(f"{workdir} has {wanted} with a checkpoint; it has: {', '.join(present) or 'none'}")
    return [stage]


def _numbers(scales: Sequence[str | int] | None) -> tuple[int, ...] | None:
    try:
        numbers = tuple(int(scale) for scale in scales or ())
    except ValueError:
        numbers = (0,)
    if any(number < 1 for number in numbers):
        raise InputError(f"scales are {','.join(map(str, scales or ()))}, but whole numbers are expected: 256,384,512")
    return numbers or None
