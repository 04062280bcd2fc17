"""What a trained net says of photographs: its class score map and its crops' posteriors, for the report."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from vgg_jax.errors import InputError
from vgg_jax.eval.crops import centre_crop_eval, grid_places
from vgg_jax.eval.dense import dense_eval, dense_scores
from vgg_jax.eval.posteriors import three_scales
from vgg_jax.images.decode import decode_rgb
from vgg_jax.images.rescale import rescale
from vgg_jax.model import STRIDE, VGG
from vgg_jax.weights.load import load_stage

Params = dict[str, dict[str, jax.Array]]

_TOP_CLASSES = 5
_SHOWN_SIDE = 256  # smallest side of the picture in the page, where the net's own is smaller: for the reader's eyes


def photograph_entries(stage: Path, files: Sequence[Path], credits: Sequence[str]) -> list[dict[str, Any]]:
    """The "photographs" of a reproduction.json: each file seen by the net of WORKDIR/STAGE at its largest test scale.

    credits: where each photograph comes from. Raises InputError where there are more or fewer credits than files, the
    workdir has no classes.txt of the net's classes, or a file is no image.
    """
    if len(files) != len(credits):
        raise InputError(f"{len(files)} photographs were given with {len(credits)} credits: give one for each")
    model, params, info = load_stage(stage)
    classes = _class_names(stage.parent / "classes.txt", model.num_classes)
    side = three_scales(info["train_scale"], model.crop_size)[-1]
    entries = []
    for file, credit in zip(files, credits):
        image = decode_rgb(file.read_bytes(), str(file))
        entries.append({"name": file.stem, "credit": credit, **photograph_entry(model, params, classes, image, side)})
    return entries


def photograph_entry(
    model: VGG, params: Params, classes: Sequence[str], image: np.ndarray, smallest_side: int
) -> dict[str, Any]:
    """One photograph, uint8 [H, W, 3], rescaled to a smallest side; the entry's places are in the rescaled pixels.

    "top_classes" by dense evaluation with the mirror image; "score_map" [h][w] and "crops" are posteriors of the best
    of them, without the mirror image.
    """
    view = rescale(image, smallest_side)
    posteriors = dense_eval(model, params, [view])[0]  # [K]
    best = np.argsort(-posteriors, kind="stable")[:_TOP_CLASSES]
    score_map = jax.nn.softmax(dense_scores(model, params, [view])[0])[..., best[0]]  # [h, w]
    height, width = view.shape[:2]
    crop = model.crop_size
    places = grid_places((height, width), crop)
    crops = np.stack([view[top : top + crop, left : left + crop] for top, left in places])
    of_crops = centre_crop_eval(model, params, crops)[:, best[0]]
    return {
        "image": _jpeg(rescale(image, max(smallest_side, min(_SHOWN_SIDE, *image.shape[:2])))),
        "width": width,
        "height": height,
        "top_classes": [{"class": classes[k], "posterior": _rounded(posteriors[k])} for k in best],
        "shown_class": classes[best[0]],
        "score_map": [[_rounded(p) for p in row] for row in np.asarray(score_map)],
        "window": crop,
        "stride": STRIDE,
        "crops": [{"top": top, "left": left, "posterior": _rounded(p)} for (top, left), p in zip(places, of_crops)],
    }


def _class_names(path: Path, count: int) -> list[str]:
    if not path.exists():
        raise InputError(f"{path} is absent: train.py writes it beside the stages, and the report names classes by it")
    names = path.read_text().splitlines()
    if len(names) != count:
        raise InputError(f"{path} names {len(names)} classes, but the net has {count}: it belongs to another net")
    return names


def _jpeg(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=80, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _rounded(posterior: float) -> float:
    return round(float(posterior), 4)
