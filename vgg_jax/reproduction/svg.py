"""SVG for pages and files: elements, axes, a legend. Colours come from CSS, so that a figure suits light and dark."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, SubElement, tostring

from matplotlib.ticker import MaxNLocator

Points = Sequence[tuple[float, float]]
Ticks = Sequence[tuple[float, str]]  # a place on an axis and its text, of one line or more

MARKS = {  # each stage has a colour (CSS) and a shape
    "s256": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "s384": "M-4-4h8v8h-8z",
    "jitter": "M0-5L5 4h-10z",
    "jitter_fc": "M0-5.5L5.5 0L0 5.5L-5.5 0z",
}
_STAGE_CSS = "".join(f"svg .{s} {{ stroke: var(--{s}) }} svg .mark.{s} {{ fill: var(--{s}) }}\n" for s in MARKS)
CSS = f"""
:root {{ --ink: #1b1f24; --ground: #fff; --muted: #5b6570; --line: #dfe3e8;
  --s256: #0b66c3; --s384: #b8500a; --jitter: #0f7a57; --jitter_fc: #a03588 }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e4e7eb; --ground: #14171b; --muted: #9aa4af; --line: #333a42;
  --s256: #6cb2ff; --s384: #ff9d57; --jitter: #4fcf9f; --jitter_fc: #ee8fd6 }} }}
svg {{ color: var(--ink); font: 12px system-ui, -apple-system, "Segoe UI", sans-serif;
  font-variant-numeric: tabular-nums }}
svg text {{ fill: currentColor }} svg .title {{ font-size: 13px; font-weight: 600 }}
svg .label {{ fill: var(--muted) }} svg .middle {{ text-anchor: middle }} svg .end {{ text-anchor: end }}
svg .grid {{ stroke: var(--line) }} svg .boundary {{ stroke: var(--muted); stroke-dasharray: 2 3 }}
{_STAGE_CSS}svg .mark {{ stroke: var(--ground) }}
svg .curve {{ fill: none; stroke-linejoin: round; stroke-width: 1.6 }}
svg .val {{ stroke: var(--s256) }} svg .dot {{ fill: var(--s256) }}
svg .train {{ stroke: var(--muted); stroke-width: 1; opacity: .8 }} svg .key {{ stroke: currentColor }}
svg .run1 {{ stroke-dasharray: 5 2.5 }} svg .run2 {{ stroke-dasharray: 1.5 2.5 }}
svg .cell {{ fill-opacity: .55 }}
svg .posterior {{ fill: #fff; stroke: #000; stroke-width: .16em; stroke-opacity: .75; paint-order: stroke;
  text-anchor: middle; dominant-baseline: central; font-weight: 600 }}
"""

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _BOTTOM, _TITLE, _LEGEND_ROW = 380, 270, 52, 374, 50, 24, 17


class Axes(NamedTuple):
    """A drawing with axes: ranges of the data and the pixels that they fill."""

    svg: Element
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    top: float
    bottom: float

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The pixel of a data point."""
        across = (x - self.x_range[0]) / (self.x_range[1] - self.x_range[0])
        up = (y - self.y_range[0]) / (self.y_range[1] - self.y_range[0])
        return _LEFT + across * (_RIGHT - _LEFT), self.bottom - up * (self.bottom - self.top)


def inline(svg: Element) -> str:
    """A figure as text for a page that has CSS."""
    return tostring(svg, encoding="unicode")


def standalone(svg: Element) -> str:
    """A figure as the text of an SVG file, with its style and its ground."""
    file = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **svg.attrib})
    add(file, "style").text = f"{CSS}svg {{ background: var(--ground) }}\n"
    file.extend(svg)
    return tostring(file, encoding="unicode") + "\n"


def drawing(width: float, height: float, label: str, **attributes: Any) -> Element:
    """An empty figure; ``label`` is what a screen reader says of it."""
    names = {"viewBox": f"0 0 {width:g} {height:g}", "role": "img", "aria-label": label}
    return Element("svg", names | _texts(attributes))


def chart(label: str, **attributes: Any) -> Element:
    """An empty figure of the size that `axes` fills."""
    return drawing(_WIDTH, _HEIGHT, label, **attributes)


def add(parent: Element, tag: str, **attributes: Any) -> Element:
    """A child; numbers are rounded to a tenth, class_ and data_seed stand for class and data-seed."""
    return SubElement(parent, tag, _texts(attributes))


def text(parent: Element, at: tuple[float, float], words: str, class_: str, **attributes: Any) -> None:
    """Words at a point."""
    add(parent, "text", x=at[0], y=at[1], class_=class_, **attributes).text = words


def line(parent: Element, class_: str, points: Points) -> None:
    """A line through points."""
    add(parent, "polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_)


def mark(parent: Element, stage: str, at: tuple[float, float], tip: str) -> None:
    """A stage's mark at a point, with words for a pointer that rests on it."""
    shape = add(parent, "path", d=MARKS[stage], class_=f"mark {stage}", transform=f"translate({at[0]:.1f} {at[1]:.1f})")
    add(shape, "title").text = tip


def axes(
    svg: Element,
    title: str,
    names: tuple[str, str],
    x_range: tuple[float, float],
    x_ticks: Ticks,
    values: Sequence[float],
    keys: Sequence[tuple[str, str]],
    columns: int,
) -> Axes:
    """Draw a chart's title, legend, grid, ticks and names (x, y); its y axis spans the values.

    keys: the legend's texts and classes, a stage's name for its mark, else the class of a line.
    """
    text(svg, (4, 14), title, "title")
    top = _TITLE + _LEGEND_ROW * -(-len(keys) // columns) + 4
    _legend(svg, keys, columns)
    y_ticks = round_numbers(min(values), max(values), 5)
    frame = Axes(svg, x_range, (y_ticks[0], y_ticks[-1]), top, _HEIGHT - _BOTTOM)
    for value in y_ticks:
        y = frame.at(x_range[0], value)[1]
        line(svg, "grid", [(_LEFT, y), (_RIGHT, y)])
        text(svg, (_LEFT - 6, y + 4), f"{value:g}", "label end")
    for value, label in x_ticks:
        for row, words in enumerate(label.split("\n")):
            text(svg, (frame.at(value, 0)[0], frame.bottom + 15 + 13 * row), words, "label middle")
    rows = max((label.count("\n") + 1 for _, label in x_ticks), default=1)
    text(svg, ((_LEFT + _RIGHT) / 2, frame.bottom + 19 + 13 * rows), names[0], "label middle")
    middle = (top + frame.bottom) / 2
    text(svg, (11, middle), names[1], "label middle", transform=f"rotate(-90 11 {middle:.1f})")
    return frame


def round_numbers(low: float, high: float, count: int) -> list[float]:
    """About ``count`` round numbers that span [low, high]."""
    locator = MaxNLocator(nbins=count, steps=[1, 2, 2.5, 5, 10])
    return [float(value) for value in locator.tick_values(low, high if high > low else low + 1)]


def _legend(svg: Element, keys: Sequence[tuple[str, str]], columns: int) -> None:
    for index, (label, class_) in enumerate(keys):
        x = _LEFT + index % columns * (_RIGHT - _LEFT) / columns
        y = _TITLE + _LEGEND_ROW * (index // columns) + 4
        if class_ in MARKS:
            add(svg, "path", d=MARKS[class_], class_=f"mark {class_}", transform=f"translate({x + 5:.1f} {y:.1f})")
        else:
            line(svg, class_, [(x, y), (x + 16, y)])
        text(svg, (x + (14 if class_ in MARKS else 20), y + 4), label, "label")


def _texts(attributes: dict[str, Any]) -> dict[str, str]:
    return {
        name.rstrip("_").replace("_", "-"): f"{round(value, 1):g}" if isinstance(value, float) else str(value)
        for name, value in attributes.items()
    }
