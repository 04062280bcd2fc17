"""Images/s and compilations of evaluation: dense by exact shape, dense by buckets (`dense_eval`), and by 50 crops.

python experiments/benchmarks/dense_eval.py [--images=FOLDER] [--json=FILE] [--plot=FILE.png]

All three see the same photographs, decoded and rescaled to smallest side Q beforehand, with mirror images, through one
net with fresh weights. "Cold" is a first evaluation of the set, its compilations included; "warm" the same set again.
The defaults (net D at 1/4 of its width, crop 64, Q = 128, 100 photographs of 37 sizes) take about 3 minutes on 2 cores.
"""

import functools
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from absl import app, flags
from jax import Array
from record import device, write_record

from vgg_jax import ARCHITECTURES, VGG
from vgg_jax.compilation import compiler_options, quick_compiler_options
from vgg_jax.eval import compilation_count, dense_eval, fc_to_conv, multi_crop_eval
from vgg_jax.images.decode import decode_rgb
from vgg_jax.images.rescale import rescale

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("VGG_JAX_DATA", REPOSITORY.parent / "shared" / "data"))
SUFFIXES = (".jpg", ".jpeg", ".png")
BATCH = 16  # images at most by exact shape, as dense_eval has by buckets

IMAGES = flags.DEFINE_string("images", str(DATA / "imagenet_sample"), "Folder of photographs, searched to any depth.")
ARCH = flags.DEFINE_enum("arch", "D", list(ARCHITECTURES), "The net.")
WIDTH = flags.DEFINE_float("width", 0.25, "Its width multiplier.")
CROP = flags.DEFINE_integer("crop", 64, "Its crop size.")
SCALE = flags.DEFINE_integer("scale", 128, "Smallest side Q of the photographs.")
LIMIT = flags.DEFINE_integer("limit", None, "Number of photographs; all if not given.", lower_bound=1)
REPEATS = flags.DEFINE_integer("repeats", 3, "Cold and warm runs of each side; the median counts.", lower_bound=1)
JSON = flags.DEFINE_string("json", None, "File for the figures.")
PLOT = flags.DEFINE_string("plot", None, "File for a picture of them, as PNG.")

Params = dict[str, dict[str, Array]]
Side = Callable[[], tuple[np.ndarray, int]]  # evaluates the set: posteriors [N, K], compilations


def photographs(folder: Path, scale: int, limit: int | None) -> list[np.ndarray]:
    """The first ``limit`` photographs of a folder by name, uint8 [h, w, 3] with smallest side ``scale``."""
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)[:limit]
    if not files:
        sys.exit(f"error: --images={folder} holds no {', '.join(SUFFIXES)} files: name a folder of photographs")
    return [rescale(decode_rgb(file.read_bytes(), str(file)), scale) for file in files]


def exact_shapes(model: VGG, conv_params: Params, images: Sequence[np.ndarray]) -> Side:
    """Dense evaluation with one compilation a shape: images of one size in batches of one length, the last filled."""
    shapes_compiled = []

    @functools.partial(jax.jit, compiler_options=compiler_options())
    def posteriors(params: Params, batch: Array) -> Array:
        shapes_compiled.append(batch.shape)  # runs when traced, which is once a compilation
        scores = [cast(Array, model.apply({"params": params}, view)) for view in (batch, batch[:, :, ::-1])]
        image, mirror = (jax.nn.softmax(maps.mean((1, 2))) for maps in scores)
        return (image + mirror) / 2

    def evaluate() -> tuple[np.ndarray, int]:
        before = len(shapes_compiled)
        result = np.empty((len(images), model.num_classes), np.float32)
        order = sorted(range(len(images)), key=lambda i: images[i].shape)
        for _, group in itertools.groupby(order, key=lambda i: images[i].shape):
            members = list(group)
            count = min(BATCH, len(members))
            for start in range(0, len(members), count):
                indices = members[start : start + count]
                batch = np.stack([images[i] for i in indices + indices[-1:] * (count - len(indices))])
                result[indices] = np.asarray(posteriors(conv_params, batch))[: len(indices)]
        return result, len(shapes_compiled) - before

    return evaluate


def counted(evaluate: Callable[[], np.ndarray]) -> tuple[np.ndarray, int]:
    """The posteriors of one of vgg_jax's evaluation functions and how often it compiled."""
    before = compilation_count()
    return evaluate(), compilation_count() - before


def measure(
    sides: dict[str, Side], num_images: int, repeats: int
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Rows of medians, a side each, and its posteriors. The sides take turns; caches are cleared before each turn."""
    seconds: dict[tuple[str, str], list[float]] = {}
    compilations: dict[str, int] = {}
    posteriors: dict[str, np.ndarray] = {}
    for _ in range(repeats):
        for name, side in sides.items():
            for state in ("cold", "warm"):
                if state == "cold":
                    jax.clear_caches()
                start = time.perf_counter()
                posteriors[name], compiled = side()
                seconds.setdefault((name, state), []).append(time.perf_counter() - start)
                if state == "cold":
                    compilations[name] = compiled
    rows = []
    for name in sides:
        row: dict[str, Any] = {"side": name, "compilations": compilations[name]}
        for state in ("cold", "warm"):
            row[f"{state}_s"] = statistics.median(seconds[name, state])
            row[f"{state}_images_per_s"] = num_images / row[f"{state}_s"]
        rows.append(row)
    return rows, posteriors


def fresh_params(model: VGG) -> Params:
    """Params of the net's own initialisation."""
    crop = np.zeros((1, model.crop_size, model.crop_size, 3), np.uint8)
    return jax.jit(model.init, compiler_options=quick_compiler_options())(jax.random.key(0), crop)["params"]


def plot(rows: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Bars of images/s, cold and warm, with each side's compilations."""
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    names = [f"{row['side']}\ncompilations: {row['compilations']}" for row in rows]
    for offset, state in ((-0.2, "warm"), (0.2, "cold")):
        places = [place + offset for place in range(len(rows))]
        bars = axes.barh(places, [row[f"{state}_images_per_s"] for row in rows], 0.38, label=state)
        axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlabel("images/s")
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, format="png", dpi=120)


def main(_: object) -> None:
    """Measure, print, write."""
    jax.config.update("jax_enable_compilation_cache", False)  # a cold start is one
    images = photographs(Path(IMAGES.value), SCALE.value, LIMIT.value)
    model = VGG(ARCH.value, width_multiplier=WIDTH.value, crop_size=CROP.value)
    params = fresh_params(model)
    dense_model, conv_params = model.clone(fully_convolutional=True), fc_to_conv(params)
    sides: dict[str, Side] = {
        "dense, exact shapes": exact_shapes(dense_model, conv_params, images),
        "dense, buckets of 32": lambda: counted(lambda: dense_eval(model, params, images)),
        "50 crops": lambda: counted(lambda: multi_crop_eval(model, params, images)),
    }
    rows, posteriors = measure(sides, len(images), REPEATS.value)
    exact, buckets, crops = rows
    ratios = {
        "buckets/exact shapes, images/s, cold": buckets["cold_images_per_s"] / exact["cold_images_per_s"],
        "buckets/exact shapes, images/s, warm": buckets["warm_images_per_s"] / exact["warm_images_per_s"],
        "exact shapes/buckets, compilations": exact["compilations"] / buckets["compilations"],
        "buckets/50 crops, images/s, cold": buckets["cold_images_per_s"] / crops["cold_images_per_s"],
        "buckets/50 crops, images/s, warm": buckets["warm_images_per_s"] / crops["warm_images_per_s"],
    }
    by_shape, by_buckets = (posteriors[row["side"]] for row in (exact, buckets))
    setting = {
        **{"arch": model.arch, "width": model.width_multiplier, "crop": model.crop_size, "scale": SCALE.value},
        **{"images": len(images), "sizes": len({image.shape for image in images}), "repeats": REPEATS.value},
        "max_difference_of_posteriors": float(np.abs(by_shape - by_buckets).max()),
        "largest_posterior": float(by_shape.max()),
    }
    for record in (setting, *rows, ratios):
        print({name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in record.items()})
    if JSON.value:
        write_record(JSON.value, rows, ratios, setting)
    if PLOT.value:
        net = f"net {model.arch}, width {model.width_multiplier:g}, crop {model.crop_size}, Q = {SCALE.value}"
        plot(rows, f"{net}, {len(images)} photographs of {setting['sizes']} sizes; {device()}", Path(PLOT.value))


if __name__ == "__main__":
    app.run(main)
