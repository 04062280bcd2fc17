"""StableHLO by jax.export: one file with the params inside, which `jax.export.deserialize` takes."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import numpy as np
from jax import export

from vgg_jax.eval.dense import Params
from vgg_jax.export.files import check_size, write_bytes
from vgg_jax.export.program import images_like, least_side, make_program, run
from vgg_jax.model import VGG

PLATFORMS = ("cpu", "cuda")


def export_stablehlo(path: str | Path, model: VGG, params: Params, *, form: str = "crop", layout: str = "NHWC") -> None:
    """Write a net as StableHLO for CPU and CUDA. It takes float32 RGB 0..255 and normalises them itself.

    form: "crop", images [N, crop, crop, 3] -> logits [N, K]; "dense", [N, H, W, 3] -> score maps [N, h, w, K] as
        `dense_scores`; "pool5", [N, H, W, 3] -> [N, h, w, C], which needs no fc layers. N, H and W are symbolic: one
        file serves every size from the form's smallest on.
    layout: "NHWC", or "NCHW" of images and maps. The file computes in float32 and has no gradients (vjp_order 0).
    An existing file is replaced, at once. Raises InputError as `make_program` does, for params of more than 2 GiB, and
    where the file cannot be written.
    """
    program = make_program(model, params, form, layout)
    check_size(path, program.params)
    if program.form.any_size:
        sizes = export.symbolic_shape("n, h, w", constraints=[f"{side} >= {least_side(program)}" for side in "hw"])
    else:
        sizes = (*export.symbolic_shape("n"), model.crop_size, model.crop_size)
    exported = export.export(jax.jit(partial(run, program)), platforms=PLATFORMS)(images_like(program, *sizes))
    write_bytes(path, exported.serialize(vjp_order=0))


def load_stablehlo(path: str | Path) -> Callable[[np.ndarray], np.ndarray]:
    """The function in a file that `export_stablehlo` wrote, run by jax and nothing else."""
    call = jax.jit(export.deserialize(bytearray(Path(path).read_bytes())).call)
    return lambda images: np.asarray(call(images))
