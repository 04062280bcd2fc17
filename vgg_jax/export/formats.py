"""The formats of exported nets by the file's suffix: writing one, and running what was written beside the net."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from vgg_jax.errors import InputError
from vgg_jax.eval.dense import Params
from vgg_jax.export.onnx_graph import export_onnx, load_onnx
from vgg_jax.export.program import Program, images_like, make_program, run
from vgg_jax.export.stablehlo import export_stablehlo, load_stablehlo
from vgg_jax.model import VGG

TOLERANCE = 1e-4  # of the largest value: another order of float32 sums

_LOADERS: dict[str, Callable[[str | Path], Callable[[np.ndarray], np.ndarray]]] = {
    ".onnx": load_onnx,
    ".stablehlo": load_stablehlo,
}


def export_net(
    path: str | Path,
    model: VGG,
    params: Params,
    *,
    form: str = "crop",
    layout: str = "NHWC",
    classes: Sequence[str] | None = None,
) -> None:
    """`export_onnx` or `export_stablehlo`, as the file is named; class names are kept in ONNX alone.

    Raises InputError for another suffix, and as the two do.
    """
    if _suffix(path) == ".onnx":
        export_onnx(path, model, params, form=form, layout=layout, classes=classes)
    else:
        export_stablehlo(path, model, params, form=form, layout=layout)


def check_export(
    path: str | Path, model: VGG, params: Params, *, form: str = "crop", layout: str = "NHWC"
) -> Iterator[tuple[tuple[int, ...], float]]:
    """Run an exported file beside the net on random images of several batch sizes and, where it takes them, sizes.

    Yields (shape of the images, largest difference as a fraction of the net's largest value); not finite where values
    are not. ONNX runs in onnxruntime, StableHLO in jax. Raises InputError for another suffix, without onnxruntime, and
    as `make_program` does.
    """
    load = _LOADERS[_suffix(path)]
    program = make_program(model, params, form, layout)
    exported, ours = load(path), jax.jit(lambda images: run(program, images))
    rng = np.random.default_rng(0)
    for count, height, width in _check_sizes(program):
        images = rng.uniform(0, 255, images_like(program, count, height, width).shape).astype(np.float32)
        expected, found = np.asarray(ours(images)), exported(images)
        largest = max(np.abs(expected).max(), np.finfo(np.float32).tiny)
        yield images.shape, float(np.abs(found - expected).max() / largest)


def _check_sizes(program: Program) -> list[tuple[int, int, int]]:
    """(N, H, W) of the images of a check; where any size is taken, oblongs with an odd side too."""
    crop = program.model.crop_size
    if program.form.any_size:
        return [(1, crop, crop), (2, crop + 33, crop + 66), (3, crop + 64, crop + 1)]
    return [(1, crop, crop), (3, crop, crop)]


def _suffix(path: str | Path) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in _LOADERS:
        raise InputError(f"cannot export {path}: an exported net is named {' or '.join(f'*{s}' for s in _LOADERS)}")
    return suffix
