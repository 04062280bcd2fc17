"""Tables 3 to 7 in the paper's form: the paper's figure beside ours, as data and as Markdown."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from vgg_jax.report import Row, format_scale, markdown_table
from vgg_jax.reproduction.manifest import (
    TABLE_7,
    TABLES,
    PaperRow,
    PriorRow,
    Protocol,
    net_text,
    paper_scale,
)
from vgg_jax.reproduction.notes import NOTES, protocol_notes
from vgg_jax.reproduction.runs import Results

Record = dict[str, Any]
Cell = str | float | None

CAPTIONS = {
    "3": "Table 3: ConvNet performance at a single test scale",
    "4": "Table 4: ConvNet performance at multiple test scales",
    "5": "Table 5: ConvNet evaluation techniques compared",
    "6": "Table 6: multiple ConvNet fusion results",
    "7": "Table 7: comparison with the state of the art in ILSVRC classification",
    "extra": "Rows outside the paper's tables: the 5x5 twin, fine-tuning of the last layers alone, D at each Q",
}
METHOD_NAMES = {"multi_crop": "multi-crop", "multi_crop+dense": "multi-crop & dense", "centre_crop": "centre crop"}
STAGE_MARK = {"jitter_fc": "fc"}  # as in the manifest, after S


class Measured(NamedTuple):
    """A row of the paper's tables and what was measured for it: our rows by seed."""

    paper: PaperRow | PriorRow
    ours: dict[int, Row]


class Column(NamedTuple):
    """A column: its head, the cell of a row, "number" or "text", and whether it goes where every cell is None."""

    name: str
    cell: Callable[[Measured], Cell]
    kind: str = "number"
    optional: bool = False


def _mean(field: str) -> Callable[[Measured], Cell]:
    def cell(row: Measured) -> Cell:
        if row.paper.protocol is None:
            return "-"  # somebody else's system: not ours to run
        values = _values(row, field)
        return statistics.fmean(values) if values else None

    return cell


def _spread(field: str) -> Callable[[Measured], Cell]:
    def cell(row: Measured) -> Cell:
        values = _values(row, field)
        return f"{statistics.stdev(values):.1f}" if len(values) > 1 else None

    return cell


def _values(row: Measured, field: str) -> list[float]:
    return [ours[field] for ours in row.ours.values() if ours[field] is not None]


def _paper(field: str, name: str) -> Column:
    return Column(name, lambda row: getattr(row.paper, field), optional=True)


def _protocol(row: Measured) -> Protocol:
    assert row.paper.protocol is not None, "somebody else's system has no protocol"
    return row.paper.protocol


def _nets(row: Measured) -> tuple[str, ...]:
    return tuple(dict.fromkeys(net.arch for net in _protocol(row).nets))


def _trained_at(row: Row) -> str:
    return format_scale(row["train_scale"]) + STAGE_MARK.get(row["stage"], "")


def _tested_at(row: Row) -> str:
    return ",".join(map(str, row["test_scales"]))


def _here(text: Callable[[Row], str], paper: Callable[[Measured], str]) -> Callable[[Measured], Cell]:
    """What our rows say, where it is not what the paper says."""

    def cell(row: Measured) -> Cell:
        ours = next(map(text, row.ours.values()), None)
        return None if ours == paper(row) else ours

    return cell


def _train_scale(row: Measured) -> str:
    return paper_scale(_protocol(row).nets[0])


def _test_scales(row: Measured) -> str:
    return ",".join(map(str, _protocol(row).nets[0].test_scales))


def _method(row: Measured) -> str:
    return METHOD_NAMES.get(_protocol(row).method, _protocol(row).method)


def _members(row: Measured) -> str:
    return ", ".join(f"({net_text(net)})" for net in _protocol(row).nets)


def _our_members(row: Row) -> str:
    return ", ".join(f"({m['arch']}/{_trained_at(m)}/{_tested_at(m)})" for m in row["members"])


_ERRORS = (
    _paper("top1_val", "top-1 val., paper"),
    Column("top-1, here", _mean("top1_error")),
    Column("± top-1", _spread("top1_error"), "text", optional=True),
    _paper("top5_val", "top-5 val., paper"),
    Column("top-5, here", _mean("top5_error")),
    Column("± top-5", _spread("top5_error"), "text", optional=True),
    _paper("top5_test", "top-5 test, paper"),
    Column("seeds", lambda row: ", ".join(map(str, row.ours)) or None, "text"),
)
_ONE_NET = (
    Column("net", lambda row: _nets(row)[0], "text"),
    Column("S, paper", _train_scale, "text"),
    Column("Q, paper", _test_scales, "text"),
    Column("S here", _here(_trained_at, _train_scale), "text", optional=True),
    Column("Q here", _here(_tested_at, _test_scales), "text", optional=True),
)
_METHOD = Column("method", _method, "text")
COLUMNS: dict[str, tuple[Column, ...]] = {
    "3": (*_ONE_NET, *_ERRORS),
    "4": (*_ONE_NET, *_ERRORS),
    "5": (*_ONE_NET, _METHOD, *_ERRORS),
    "6": (
        Column("combined models (net/S/Q), paper", _members, "text"),
        Column("models here", _here(_our_members, _members), "text", optional=True),
        _METHOD,
        *_ERRORS,
    ),
    "7": (
        Column("method", lambda row: row.paper.method if isinstance(row.paper, PriorRow) else None, "text"),
        *_ERRORS,
    ),
    "extra": (*_ONE_NET, _METHOD, *_ERRORS),
}


def error_table(name: str, results: Results) -> Record:
    """One of Tables 3 to 7, or the rows outside them, as data: columns, rows of cells, the nets of each row, notes.

    A cell is a text, a number (percent) or None: not run, or, in a column of text or of the paper's, not given.
    """
    papers: Sequence[PaperRow | PriorRow] = TABLE_7 if name == "7" else TABLES[name]
    rows = [Measured(paper, _ours(paper.protocol, results)) for paper in papers]
    cells = {column: [column.cell(row) for row in rows] for column in COLUMNS[name]}
    shown = [column for column in COLUMNS[name] if not (column.optional and all(c is None for c in cells[column]))]
    return {
        "id": f"table{name}",
        "caption": f"{CAPTIONS[name]}; errors in %",
        "columns": [{"name": column.name, "kind": column.kind} for column in shown],
        "rows": [[cells[column][i] for column in shown] for i in range(len(rows))],
        "archs": [list(_nets(row)) if row.paper.protocol else [] for row in rows],
        "notes": [*NOTES.get(name, ()), *protocol_notes([list(row.ours.values()) for row in rows])],
    }


def _ours(protocol: Protocol | None, results: Results) -> dict[int, Row]:
    return {seed: result.row for (run, seed), result in results.items() if run == protocol}


def table_markdown(table: Record) -> str:
    """A table with its caption and notes as Markdown."""
    columns = table["columns"]
    lines = [[cell_text(cell, column) for cell, column in zip(row, columns)] for row in table["rows"]]
    body = markdown_table([column["name"] for column in columns], lines)
    return "\n\n".join([f"### {table['caption']}", body, *table["notes"]])


def cell_text(cell: Cell, column: Mapping[str, str]) -> str:
    """A cell as it is printed, an error to a tenth as in the paper; None as `error_table` says."""
    if cell is None:
        return "not run" if column["kind"] == "number" and "paper" not in column["name"].lower() else "-"
    return cell if isinstance(cell, str) else f"{cell:.1f}" if isinstance(cell, float) else f"{cell:,}"
