"""The figures of the report: learning curves, error against depth and Q, posteriors over a photograph."""

import math
from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from statistics import fmean
from typing import Any
from xml.etree.ElementTree import Element

from matplotlib import colormaps
from matplotlib.colors import to_hex

from vgg_jax.report import format_scale
from vgg_jax.reproduction import svg

Record = dict[str, Any]

STAGES = tuple(svg.MARKS)
COLOURS = tuple(to_hex(colormaps["inferno"](i / 16)) for i in range(17))  # of a posterior, from 0 to the largest
_POINTS = 120  # of a training curve; more cannot be told apart at this width
_PANEL = 320  # CSS pixels that a photograph is about wide on a phone
_SMALLEST_CELL = 24  # CSS pixels; a number in a smaller one cannot be read


def stage_labels(scales: Iterable[Record]) -> dict[str, str]:
    """The stages with their training scales, which the points of error against Q tell."""
    known = {point["stage"]: format_scale(point["train_scale"]) for point in scales}
    return {stage: f"{stage}, S = {known[stage]}" if stage in known else stage for stage in STAGES}


def learning_curve(curves: Sequence[Record], quantity: str, unit: str) -> Element | None:
    """One net's training and validation curves, all seeds: ``quantity`` is "loss" or "top1_error"; None without points.

    The stages follow each other along the steps; a point of training is the mean of consecutive logged values.
    """
    arch, seeds = curves[0]["arch"], sorted({curve["seed"] for curve in curves})
    starts, end = _stage_starts(curves)
    lines = [
        (curve["seed"], split, _points(curve, split, quantity, starts[curve["stage"]], end / _POINTS))
        for curve in curves
        for split in ("train", "val")
    ]
    values = [y for _, _, points in lines for _, y in points]
    if not values:
        return None
    name = unit.partition(" (")[0]
    picture = svg.chart(f"Net {arch}: {name} against steps, training and validation", data_arch=arch)
    ticks = [(v, f"{v / 1000:g}k" if v >= 1000 else f"{v:g}") for v in svg.round_numbers(0, end, 6) if v <= end]
    runs = [(f"seed {seed}", f"curve key run{i % 3}") for i, seed in enumerate(seeds)]
    keys = [("train", "curve train"), ("val", "curve val"), *(runs if len(runs) > 1 else [])]
    axes = svg.axes(picture, f"{arch}: {name}", ("step", unit), (0, end), ticks, values, keys, columns=5)
    for stage, start in starts.items():
        x = axes.at(start, 0)[0]
        svg.line(picture, "boundary", [(x, axes.top), (x, axes.bottom)])
        svg.text(picture, (x + 3, axes.top + 9), stage, "label")
    for seed, split, points in lines:
        run = svg.add(picture, "g", data_seed=seed)
        pixels = [axes.at(x, y) for x, y in points]
        svg.line(run, f"curve {split} run{seeds.index(seed) % 3}", pixels)
        for x, y in pixels if split == "val" else ():
            svg.add(run, "circle", class_="dot", cx=x, cy=y, r=1.8)
    return picture


def _stage_starts(curves: Sequence[Record]) -> tuple[dict[str, float], float]:
    """Where each stage begins on the common axis of steps, and where the last one ends."""
    starts, end = {}, 0.0
    for stage in sorted({curve["stage"] for curve in curves}, key=STAGES.index):
        starts[stage] = end
        steps = [step for c in curves if c["stage"] == stage for step in (*c["step"], *c["val_step"])]
        end += max(steps, default=0)
    return starts, end or 1.0


def _points(curve: Record, split: str, quantity: str, start: float, width: float) -> list[tuple[float, float]]:
    """A curve's points on the common axis; training's are means over bins of ``width`` steps."""
    steps = curve["step" if split == "train" else "val_step"]
    pairs = zip(steps, curve[f"{split}_{quantity}"])
    points = [(start + step, value) for step, value in pairs if value is not None and math.isfinite(value)]
    if split == "val":
        return points
    bins = [list(members) for _, members in groupby(points, lambda point: point[0] // width)]
    return [(fmean(x for x, _ in members), fmean(y for _, y in members)) for members in bins]


def error_against_depth(depth: Sequence[Record], labels: dict[str, str]) -> Element:
    """Top-1 error of each net and stage in order of depth; a bar spans the seeds, from the lowest to the highest."""
    nets = list(dict.fromkeys((p["layers"], p["arch"]) for p in sorted(depth, key=lambda p: p["layers"])))
    stages = [stage for stage in STAGES if any(p["stage"] == stage for p in depth)]
    picture = svg.chart("Top-1 error of each net and training stage, in order of depth")
    ticks = [(float(i), f"{arch}\n{layers}") for i, (layers, arch) in enumerate(nets)]
    values = [p[name] for p in depth for name in ("low", "high")]
    keys = [(labels[stage], stage) for stage in stages]
    names, x_range = ("net, and its number of weight layers", "top-1 error (%)"), (-0.5, len(nets) - 0.5)
    axes = svg.axes(picture, "Error against depth", names, x_range, ticks, values, keys, columns=2)
    for point in depth:
        stage, arch = point["stage"], point["arch"]
        group = svg.add(picture, "g", data_arch=arch)
        x = nets.index((point["layers"], arch)) + 0.2 * (stages.index(stage) - (len(stages) - 1) / 2)
        svg.line(group, f"curve {stage}", [axes.at(x, point["low"]), axes.at(x, point["high"])])
        svg.mark(group, stage, axes.at(x, point["error"]), f"{arch}, {labels[stage]}: {point['error']:.1f}%")
    return picture


def error_against_scale(arch: str, scales: Sequence[Record], labels: dict[str, str]) -> Element:
    """One net's top-1 error against the test scale Q, a line a stage; the axes span the points of all nets."""
    points = [p for p in scales if p["arch"] == arch]
    stages = [stage for stage in STAGES if any(p["stage"] == stage for p in points)]
    sides = [p["test_scale"] for p in scales]
    margin = max(1.0, 0.04 * (max(sides) - min(sides)))
    x_range = (min(sides) - margin, max(sides) + margin)
    ticks = [(v, f"{v:g}") for v in svg.round_numbers(*x_range, 6) if x_range[0] <= v <= x_range[1]]
    picture = svg.chart(f"Net {arch}: top-1 error against the test scale Q", data_arch=arch)
    names, keys = ("test scale Q (pixels)", "top-1 error (%)"), [(labels[stage], stage) for stage in stages]
    errors = [p["error"] for p in scales]
    axes = svg.axes(picture, f"{arch}: error against Q", names, x_range, ticks, errors, keys, columns=2)
    for stage in stages:
        line = sorted((p["test_scale"], p["error"]) for p in points if p["stage"] == stage)
        svg.line(picture, f"curve {stage}", [axes.at(q, error) for q, error in line])
        for q, error in line:
            svg.mark(picture, stage, axes.at(q, error), f"{labels[stage]}, Q = {q}: {error:.1f}%")
    return picture


def score_map(photograph: Record) -> Element:
    """The class score map over the picture: a square of one stride at the centre of each position's window."""
    stride, middle = photograph["stride"], photograph["window"] / 2
    rows = enumerate(photograph["score_map"])
    cells = [(j * stride + middle, i * stride + middle, p) for i, row in rows for j, p in enumerate(row)]
    return _over_picture(photograph, "score map", cells, stride)


def crop_scores(photograph: Record) -> Element:
    """The crops' posteriors over the picture: a disc at the centre of each crop."""
    middle = photograph["window"] / 2
    cells = [(crop["left"] + middle, crop["top"] + middle, crop["posterior"]) for crop in photograph["crops"]]
    sides = [sorted({cell[axis] for cell in cells}) for axis in (0, 1)]
    side = min((b - a for side in sides for a, b in pairwise(side)), default=photograph["window"])
    return _over_picture(photograph, "crops", cells, side)


def largest_posterior(photograph: Record) -> float:
    """The end of a photograph's colour scale, which its score map and its crops share."""
    return max([p for row in photograph["score_map"] for p in row] + [c["posterior"] for c in photograph["crops"]])


def _over_picture(photograph: Record, what: str, cells: Sequence[tuple[float, float, float]], side: float) -> Element:
    """The picture with posteriors (x, y, p) over it: squares that tile a score map, discs for crops."""
    width, height, largest = photograph["width"], photograph["height"], largest_posterior(photograph)
    label = f"{photograph['name']}, {what}: posterior of {photograph['shown_class']} at each position"
    picture = svg.drawing(width, height, label)
    svg.add(picture, "image", href=photograph["image"], width=width, height=height, preserveAspectRatio="none")
    for x, y, posterior in cells:
        across, radius = (side, 0.0) if what == "score map" else (0.9 * side, 0.45 * side)
        place = {"x": x - across / 2, "y": y - across / 2, "width": across, "height": across, "rx": radius}
        colour = COLOURS[round(16 * posterior / (largest or 1.0))]
        cell = svg.add(picture, "rect", class_="cell", fill=colour, **place)
        svg.add(cell, "title").text = f"{100 * posterior:.1f}%"
        if side * _PANEL / width >= _SMALLEST_CELL:
            number = f"{100 * posterior:.{0 if largest >= 0.1 else 1}f}"
            svg.text(picture, (x, y), number, "posterior", font_size=min(0.36 * side, 0.06 * width))
    return picture
