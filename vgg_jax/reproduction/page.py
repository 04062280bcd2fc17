"""The report of a reproduction: one HTML page that needs nothing beside it, and the same in Markdown."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

import jinja2
from markupsafe import Markup

from vgg_jax.architectures import ARCHITECTURES
from vgg_jax.model import STRIDE
from vgg_jax.report import markdown_table, write_atomically
from vgg_jax.reproduction import figures, svg
from vgg_jax.reproduction.tables import cell_text

Record = dict[str, Any]

VERDICTS = {"holds": ("✓", "holds"), "does not hold": ("✗", "fails"), "not run": ("–", "unknown")}  # symbol, CSS class

_INTRODUCTION = (
    "Simonyan & Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition (2014), run again on {}. "
    "What is headed “paper” is printed in the paper, which measured on ImageNet at full size; everything else was "
    "measured here. Errors are percentages."
)
_ONE_POSITION = (
    "At this size dense evaluation is at a disadvantage: a picture of smallest side {} gives the window of {} pixels, "
    "which moves by {}, one place along that side, in the corner, where the paper's 256 and 224 give two, at both "
    "ends; and beyond its border it sees pixels where training saw zeros. So the claims about nets are judged a second "
    "time, on centre crops."
)
_CAPTIONS = {
    "claims": "A difference is in percent points of top-1 error, positive in the direction that the paper claims, with "
    "its standard error. Nets are written net/S/Q with the paper's S and Q.",
    "depth": "Dense evaluation at one test scale. A mark is the mean of the seeds; its bar goes from the lowest to the "
    "highest.",
    "scales": "Dense evaluation at one test scale Q, the mean of the seeds; S is the training scale. All axes are the "
    "same.",
    "curves": "The stages follow each other along the axis. Training values are of augmented crops with dropout, each "
    "point the mean of consecutive logged ones; validation values are of the whole validation split.",
    "photographs": "First the class score map: the soft-max of the scores at each position, a square at the centre of "
    "the window that the position looks at. Then the same picture in crops, a disc at the centre of each. The numbers "
    "are posteriors of the best class in percent.",
}


class Pictures(NamedTuple):
    """The figures of a report; each knows its net by data-arch and says what it shows by aria-label."""

    depth: list[Element]
    scales: list[Element]  # one a net
    curves: list[list[Element]]  # loss and error of each net
    photographs: list[tuple[Element, Element]]  # score map and crops of each photograph


def write_report(reproduction: Record, output: Path) -> None:
    """Write OUTPUT/report.html, and OUTPUT/report.md with OUTPUT/figures/*.svg, from a reproduction.json's content.

    The page is one file: it opens from disk, loads nothing, and its tables and charts can be read without JavaScript.
    """
    pictures = _pictures(reproduction)
    (output / "figures").mkdir(parents=True, exist_ok=True)
    files = _file_names(pictures)
    for name, picture in files:
        write_atomically(output / name, svg.standalone(picture))
    write_atomically(output / "report.md", _markdown(reproduction, pictures, files))
    write_atomically(output / "report.html", _html(reproduction, pictures))


def _pictures(reproduction: Record) -> Pictures:
    depth, scales, curves = (reproduction[name] for name in ("depth", "scales", "curves"))
    labels = figures.stage_labels(scales)
    both = [
        [
            figures.learning_curve([c for c in curves if c["arch"] == arch], quantity, unit)
            for quantity, unit in (("loss", "loss"), ("top1_error", "top-1 error (%)"))
        ]
        for arch in _nets(curves)
    ]
    return Pictures(
        [figures.error_against_depth(depth, labels)] if depth else [],
        [figures.error_against_scale(arch, scales, labels) for arch in _nets(scales)],
        [drawn for net in both if (drawn := [picture for picture in net if picture is not None])],
        [(figures.score_map(p), figures.crop_scores(p)) for p in reproduction["photographs"]],
    )


def _nets(records: Sequence[Record]) -> list[str]:
    return [arch for arch in ARCHITECTURES if any(record["arch"] == arch for record in records)]


def _html(reproduction: Record, pictures: Pictures) -> str:
    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=folder, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["inline"] = lambda picture: Markup(svg.inline(picture))
    nets = [arch for arch in ARCHITECTURES if arch in _mentioned(reproduction)]
    seeds = sorted({curve["seed"] for curve in reproduction["curves"]})
    return environment.get_template("page.html").render(
        reproduction,
        introduction=_INTRODUCTION.format(reproduction["setting"]["dataset"]),
        remark=_remark(reproduction["setting"]),
        captions=_CAPTIONS,
        settings=_settings(reproduction["setting"]),
        choosers=[("arch", "nets", nets), ("seed", "seeds of the curves", seeds)],
        verdicts=VERDICTS,
        verdict_counts=_verdict_counts(reproduction["claims"]),
        figure_css=Markup(svg.CSS),
        colours=figures.COLOURS,
        pictures=pictures,
        largest_posterior=figures.largest_posterior,
        cell_text=cell_text,
        difference=_difference,
    )


def _mentioned(reproduction: Record) -> set[str]:
    rows = [arch for table in reproduction["tables"] for archs in table["archs"] for arch in archs]
    return {*rows, *(record["arch"] for name in ("depth", "scales", "curves") for record in reproduction[name])}


def _settings(setting: Record) -> list[tuple[str, str]]:
    versions = ", ".join(f"{name} {version}" for name, version in setting["versions"].items())
    return [
        ("data set", setting["dataset"]),
        ("split", f"{setting['split']}, {setting['num_images']} images"),
        ("crop", f"{setting['crop_size']} pixels"),
        ("width of the nets", f"{setting['width_multiplier']:g} of the paper's"),
        ("seeds", ", ".join(map(str, setting["seeds"]))),
        ("date", setting["date"]),
        ("device", setting["device"]),
        ("commit", (setting["commit"] or "unknown")[:12]),
        ("versions", versions),
    ]


def _remark(setting: Record) -> str:
    """A warning where the smallest training scale gives a score map of one position."""
    side, crop = setting["smallest_scale"], setting["crop_size"]
    return _ONE_POSITION.format(side, crop, STRIDE) if side // STRIDE == crop // STRIDE else ""


def _verdict_counts(claims: Sequence[Record]) -> str:
    counts = Counter(claim["verdict"] for claim in claims)
    return "; ".join(f"{verdict}: {counts[verdict]}" for verdict in VERDICTS).capitalize()


def _difference(claim: Record) -> str:
    """A claim's figures, as "difference +1.20 ± 0.85; paper +0.6."; empty where there are none."""
    parts = []
    if claim["difference"] is not None:
        error = "" if claim["standard_error"] is None else f" ± {claim['standard_error']:.2f}"
        parts.append(f"difference {claim['difference']:+.2f}{error}")
    if claim["paper_difference"] is not None:
        parts.append(f"paper {claim['paper_difference']:+.1f}")
    return f"{'; '.join(parts)}.".replace("-", "\N{MINUS SIGN}") if parts else ""


def _file_names(pictures: Pictures) -> list[tuple[str, Element]]:
    """Every figure with its file under the output folder."""
    named = [("depth", picture) for picture in pictures.depth]
    named += [(f"scale-{picture.get('data-arch')}", picture) for picture in pictures.scales]
    named += [(f"curve-{p.get('data-arch')}-{i}", p) for net in pictures.curves for i, p in enumerate(net, 1)]
    named += [
        (f"photograph-{n}-{i}", p) for n, pair in enumerate(pictures.photographs, 1) for i, p in enumerate(pair, 1)
    ]
    return [(f"figures/{name}.svg", picture) for name, picture in named]


def _markdown(reproduction: Record, pictures: Pictures, files: Sequence[tuple[str, Element]]) -> str:
    names = {id(picture): name for name, picture in files}

    def shown(*elements: Element) -> str:
        return " ".join(f"![{_plain(e.get('aria-label', ''))}]({names[id(e)]})" for e in elements)

    blocks = [f"# {_plain(reproduction['title'])}", _plain(_INTRODUCTION.format(reproduction["setting"]["dataset"]))]
    blocks += ["\n".join(f"* {name}: {_plain(value)}" for name, value in _settings(reproduction["setting"]))]
    if reproduction["claims"]:
        blocks += ["## The paper's claims", f"{_verdict_counts(reproduction['claims'])}. {_CAPTIONS['claims']}"]
        blocks += [remark] if (remark := _remark(reproduction["setting"])) else []
        blocks += ["\n".join(_claim_line(claim) for claim in reproduction["claims"])]
    blocks += ["## Tables", *(_table_block(table) for table in reproduction["tables"])]
    if pictures.depth or pictures.scales:
        blocks += ["## Error against depth and against the test scale"]
        blocks += [f"{shown(picture)}\n\n{_CAPTIONS['depth']}" for picture in pictures.depth]
        blocks += [shown(*pictures.scales), _CAPTIONS["scales"]] if pictures.scales else []
    if pictures.curves:
        blocks += ["## Learning curves", *(shown(*net) for net in pictures.curves), _CAPTIONS["curves"]]
    if pictures.photographs:
        blocks += ["## Where the net sees it", _CAPTIONS["photographs"]]
    for photograph, pair in zip(reproduction["photographs"], pictures.photographs):
        best = ", ".join(f"{_plain(t['class'])} {100 * t['posterior']:.1f}%" for t in photograph["top_classes"])
        heading = f"### {_plain(photograph['name'])}: {_plain(photograph['shown_class'])}"
        blocks += [heading, f"{best}. {_plain(photograph['credit'])}", shown(*pair)]
    return "\n\n".join(blocks) + "\n"


def _claim_line(claim: Record) -> str:
    figures_of_claim = " ".join(part for part in (_difference(claim), _plain(claim["details"])) if part)
    symbol = VERDICTS[claim["verdict"]][0]
    return f"* {symbol} **{claim['verdict']}** (sec. {claim['section']}): {_plain(claim['text'])} {figures_of_claim}"


def _table_block(table: Record) -> str:
    columns = table["columns"]
    lines = [[_plain(cell_text(value, column)) for value, column in zip(row, columns)] for row in table["rows"]]
    parts = [f"### {_plain(table['caption'])}", markdown_table([_plain(c["name"]) for c in columns], lines)]
    return "\n\n".join(parts + [_plain(note) for note in table["notes"]])


def _plain(text: str) -> str:
    """Text for Markdown in one line: no markup, no table cell, no link."""
    return re.sub(r"([\\`*|<>]|\](?=\())", r"\\\1", " ".join(str(text).split()))
