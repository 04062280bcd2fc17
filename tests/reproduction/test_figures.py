"""Charts read back: the ticks tell what a pixel means, and the marks must lie where the data say."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from vgg_jax.reproduction import figures, svg

CURVE = {
    **{"arch": "D", "seed": 0, "step": [10, 20, 30, 40], "train_loss": [4.0, 3.0, float("nan"), 2.0]},
    **{"train_top1_error": [90.0, 80.0, None, 70.0], "val_step": [20, 40]},
    **{"val_loss": [3.5, 2.5], "val_top1_error": [85.0, 75.0]},
}
LABELS = {stage: f"the stage {stage}" for stage in figures.STAGES}
SCALES = [
    {"arch": arch, "stage": stage, "train_scale": [37, 74], "test_scale": q, "error": error, "num_seeds": 3}
    for arch, stage, q, error in [
        *(("D", "jitter", 74, 51.5), ("D", "jitter", 37, 55.0), ("D", "s256", 37, 57.0), ("D", "s256", 74, 68.0)),
        *(("E", "s256", 32, 49.0), ("E", "s256", 80, 73.0)),
    ]
]
PHOTOGRAPH = {
    **{"name": "x", "credit": "", "image": "data:,", "width": 106, "height": 74, "shown_class": "y", "window": 32},
    **{"stride": 32, "score_map": [[0.0, 0.2, 0.4], [0.1, 0.3, 0.5]]},
    "crops": [{"top": 10 * i, "left": 18 * j, "posterior": 0.1 * i} for i in range(5) for j in range(5)],
}
BASELINE = 4  # a tick's text stands this much lower than its line


def axis(figure, place, class_):
    """The map from pixels to data that an axis's numbers tell."""
    ticks = [t for t in figure.findall("text") if t.get("class") == class_ and re.fullmatch(r"[\d.]+", t.text)]
    slope, start = np.polyfit([float(t.get(place)) for t in ticks], [float(t.text) for t in ticks], 1)
    assert slope > 0 if place == "x" else slope < 0  # to the right, and up
    return lambda pixel: start + slope * pixel


def data(figure, pixels):
    x, y = axis(figure, "x", "label middle"), axis(figure, "y", "label end")
    return np.array([(x(across), y(down + BASELINE)) for across, down in pixels])


def corners(line):
    return [tuple(map(float, corner.split(","))) for corner in line.get("points").split()]


def places(marks):
    return [tuple(map(float, re.findall(r"[\d.]+", mark.get("transform")))) for mark in marks]


def marks(figure):
    return [path for path in figure.iter("path") if path.find("title") is not None]  # those of the legend have none


def test_stages_follow_each_other_along_the_steps():
    figure = figures.learning_curve([{**CURVE, "stage": "jitter"}, {**CURVE, "stage": "s256"}], "loss", "loss")
    dots = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in figure.iter("circle")]
    expected = [(60, 3.5), (80, 2.5), (20, 3.5), (40, 2.5)]  # jitter comes after s256, and s256 has 40 steps
    np.testing.assert_allclose(data(figure, dots), expected, rtol=0.01)
    assert [t.text for t in figure.findall("text") if t.text in figures.STAGES] == ["s256", "jitter"]


@pytest.mark.parametrize("quantity, values", [("loss", (4, 3, 2)), ("top1_error", (90, 80, 70))])
def test_values_that_are_no_numbers_are_left_out(quantity, values):
    figure = figures.learning_curve([{**CURVE, "stage": "s256"}], quantity, quantity)
    (train,) = [line for line in figure.findall("g/polyline") if "train" in line.get("class")]
    np.testing.assert_allclose(data(figure, corners(train)), list(zip((10, 20, 40), values)), rtol=0.02)


def test_a_long_training_curve_is_thinned_to_means():
    steps = list(range(1, 12001))
    values = [float(step % 2) + 1 for step in steps]  # 2, 1, 2, 1, ...: every mean is 1.5
    curve = {**CURVE, "stage": "s256", "step": steps, "train_loss": values, "val_step": [], "val_loss": []}
    (train,) = [
        line for line in figures.learning_curve([curve], "loss", "loss").findall("g/polyline") if line.get("points")
    ]
    points = np.array(corners(train))
    assert 100 < len(points) < 130
    assert np.ptp(points[:-1, 1]) < 0.02 * np.ptp([0, 200])


def test_no_points_give_no_chart():
    nothing = {**CURVE, "stage": "s256", "train_loss": [None] * 4, "val_step": [], "val_loss": []}
    assert figures.learning_curve([nothing], "loss", "loss") is None


def test_error_against_scale_has_its_points_on_the_axes():
    figure = figures.error_against_scale("D", SCALES, LABELS)
    expected = [(37, 57.0), (74, 68.0), (37, 55.0), (74, 51.5)]
    np.testing.assert_allclose(data(figure, places(marks(figure))), expected, rtol=0.01)
    assert marks(figure)[0].find("title").text == "the stage s256, Q = 37: 57.0%"


def test_nets_share_the_axes_of_error_against_scale():
    texts = [[t.text for t in figures.error_against_scale(a, SCALES, LABELS).findall("text")][-12:] for a in "DE"]
    assert texts[0] == texts[1]


def test_error_against_depth_orders_the_nets_by_depth():
    points = [("E", 19, "s256", 55.0), ("A", 11, "s256", 59.0), ("D", 16, "jitter", 53.0), ("D", 16, "s256", 56.0)]
    depth = [{"arch": a, "layers": n, "stage": s, "error": e, "low": e - 1, "high": e + 2} for a, n, s, e in points]
    figure = figures.error_against_depth(depth, LABELS)
    y = axis(figure, "y", "label end")
    found = dict(zip([(p[0], p[2]) for p in points], places(marks(figure))))
    np.testing.assert_allclose([y(down + BASELINE) for _, down in found.values()], [p[3] for p in points], rtol=0.005)
    assert found["A", "s256"][0] < found["D", "s256"][0] < found["D", "jitter"][0] < found["E", "s256"][0]
    for (_, _, _, error), group in zip(points, figure.findall("g")):
        ends = [y(down + BASELINE) for _, down in corners(group.find("polyline"))]
        np.testing.assert_allclose(ends, [error - 1, error + 2], rtol=0.005)


def test_score_map_cells_stand_at_the_centres_of_their_windows():
    cells = figures.score_map(PHOTOGRAPH).findall("rect")
    centres = [
        tuple(float(c.get(a)) + float(c.get(b)) / 2 for a, b in (("x", "width"), ("y", "height"))) for c in cells
    ]
    assert centres == [(16, 16), (48, 16), (80, 16), (16, 48), (48, 48), (80, 48)]
    assert [cell.find("title").text for cell in cells] == ["0.0%", "20.0%", "40.0%", "10.0%", "30.0%", "50.0%"]


def test_crops_stand_at_their_centres_in_the_colours_of_the_score_map():
    cells = figures.crop_scores(PHOTOGRAPH).findall("rect")
    centres = [
        tuple(float(c.get(a)) + float(c.get(b)) / 2 for a, b in (("x", "width"), ("y", "height"))) for c in cells
    ]
    assert centres == [(16 + 18 * j, 16 + 10 * i) for i in range(5) for j in range(5)]
    colours = {cell.find("title").text: cell.get("fill") for cell in figures.score_map(PHOTOGRAPH).findall("rect")}
    assert all(cell.get("fill") == colours[cell.find("title").text] for cell in cells)
    assert len(set(colours.values())) == 6


@pytest.mark.parametrize("crops", [[], [{"top": 0, "left": 0, "posterior": 0.0}]])
def test_crops_that_have_no_neighbours(crops):
    picture = figures.crop_scores({**PHOTOGRAPH, "crops": crops, "score_map": [[0.0]]})
    assert len(picture.findall("rect")) == len(crops)


def test_a_file_is_a_figure_of_its_own():
    text = svg.standalone(figures.error_against_scale("D", SCALES, LABELS))
    root = ElementTree.fromstring(text)
    style = root.find("{http://www.w3.org/2000/svg}style").text
    assert "prefers-color-scheme: dark" in style and "currentColor" in style
    assert "url(" not in text and "<script" not in text
