"""The page's tables: typed rows become cells that can be shown, sorted and filtered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shiftbench.reports.across import readings
from shiftbench.reports.candidates import Candidate
from shiftbench.reports.glossary import AXES, QUANTITIES, TERMS
from shiftbench.reports.names import condition_name, metric_name, percent, score
from shiftbench.reports.overview import Number, Row, quantities_of
from shiftbench.reports.stability import MEASURES, steadiness
from shiftbench.reports.style import Look
from shiftbench.reports.unlabelled import measured, rankings
from shiftbench.reports.view import View

ALL_ROWS = ""  # the choice of a filter that hides nothing


@dataclass(frozen=True)
class Head:
    """A column's heading.

    Attributes:
        key: what its cells say of the row; rows can be chosen by it unless ``can_filter`` is off.
        kind: how it sorts, "text" or "number"; empty if it does not.
        definition: shown on hover.
    """

    text: str
    kind: str = "text"
    key: str = ""
    definition: str = ""
    note: str = ""
    can_filter: bool = True


@dataclass(frozen=True)
class Cell:
    """A cell: what is shown, what it is sorted by, and what stands below in small type."""

    text: str
    value: str | float = ""
    small: Sequence[str] = ()
    strong: bool = False
    span: Mapping[str, float] | None = None

    @property
    def is_number(self) -> bool:
        """Whether it holds a number."""
        return isinstance(self.value, float)


@dataclass(frozen=True)
class SheetRow:
    """A row, which the choices show or hide; the first cell is its heading."""

    cells: list[Cell]
    keys: Mapping[str, str] = field(default_factory=dict)
    candidate: Candidate | None = None

    @property
    def look(self) -> Look | None:
        """Of the encoder that the row is about."""
        return self.candidate.look if self.candidate else None


@dataclass(frozen=True)
class Sheet:
    """A table of the page.

    Attributes:
        choices: the values by which it can be filtered, by key, those with more than one.
        chosen: which of them is shown first; the others' columns say nothing new and are hidden.
    """

    caption: str
    heads: list[Head]
    rows: list[SheetRow]
    choices: Mapping[str, list[str]]
    chosen: Mapping[str, str]

    @classmethod
    def of(cls, caption: str, heads: Sequence[Head], rows: Sequence[SheetRow], chosen: Mapping[str, str]) -> Sheet:
        """A table whose columns with a key can be filtered by; those in ``chosen`` have one value at a time."""
        filtered = [head.key for head in heads if head.key and head.can_filter]
        choices = {key: list(dict.fromkeys(row.keys[key] for row in rows)) for key in filtered}
        choices = {key: values for key, values in choices.items() if len(values) > 1}
        return cls(caption, list(heads), list(rows), choices, {k: v for k, v in chosen.items() if k in choices})


def overview_sheet(view: View, rows: Sequence[Row], baseline: str) -> Sheet:
    """The comparison of all encoders."""
    quantities = quantities_of(rows)
    spans = [_span(row) for row in rows]
    heads = [Head("Encoder"), Head("Clusters", key="protocol")]
    heads += [Head("Metric", key="metric")] if view.metrics else []
    heads += [Head("Shift", key="shift"), Head("Algorithm", key="clusterer")]
    if any(spans):
        heads.append(
            Head("Worst – mean – clean", "", definition="From the worst condition over the mean to the clean split.")
        )
    for quantity in quantities:
        note = f"{baseline} = 100" if quantity.key in ("mce", "relative_mce") else ""
        heads.append(Head(quantity.heading, "number", definition=quantity.definition, note=note))
    found = []
    for row, span in zip(rows, spans, strict=True):
        keys = {"protocol": row.protocol, "metric": row.metric, "shift": row.shift, "clusterer": row.clusterer}
        incomplete = [f"{row.n_ok} of {row.n_cells} cells"] if not row.is_complete else []
        cells = [Cell(row.candidate.label, row.candidate.label, incomplete), *_words(keys, heads)]
        cells += [Cell("", span=span)] if any(spans) else []
        for quantity in quantities:
            number = row.number(quantity.key)
            case = [row.worst_case] if quantity.key == "worst" and row.worst_case else []
            small = [*_bounds(number, percent), *case]
            cells.append(Cell(percent(number.value), number.value, small, quantity.key in row.leads))
        found.append(SheetRow(cells, keys, row.candidate))
    chosen = {"metric": (view.headline or [""])[0], "shift": (view.shifts or ["clean"])[0], "clusterer": view.clusterer}
    return Sheet.of(f"Encoders on {view.data}", _several(heads, found), _without(heads, found), chosen)


def probes_sheet(view: View) -> Sheet | None:
    """Clusters beside classifiers on the same features; None without probes."""
    heads = [Head("Encoder"), Head("Read by", key="reader"), Head("Shift", key="shift")]
    heads += [
        Head(QUANTITIES[key].heading, "number", definition=QUANTITIES[key].definition)
        for key in ("clean", "shifted", "drop")
    ]
    rows = []
    for one in readings(view):
        keys = {"reader": one.reader.name, "shift": one.shift}
        cells = [Cell(one.candidate.label, one.candidate.label), *_words(keys, heads), *_numbers(one.numbers.values())]
        rows.append(SheetRow(cells, keys, one.candidate))
    caption = f"Accuracy of clusters and of classifiers on {view.data}"
    return _sheet(caption, heads, rows, {"shift": (view.shifts or [""])[0]})


def stability_sheet(view: View) -> Sheet | None:
    """Agreement between partitions, by axis; None where none was measured."""
    found = steadiness(view)
    metrics = [metric for metric in MEASURES if any(metric in one.numbers for one in found)]
    heads = [
        Head("Encoder"),
        Head("Agreement", key="axis"),
        Head("Images", key="shift"),
        Head("Clusters", key="protocol"),
    ]
    heads += [Head(metric_name(metric), "number", definition=TERMS.get(metric_name(metric), "")) for metric in metrics]
    rows = []
    for one in found:
        keys = {"axis": AXES[one.axis], "shift": one.shift, "protocol": one.protocol}
        numbers = [one.numbers.get(metric, Number(math.nan)) for metric in metrics]
        cells = [Cell(one.candidate.label, one.candidate.label), *_words(keys, heads), *_numbers(numbers)]
        rows.append(SheetRow(cells, keys, one.candidate))
    return _sheet(f"Agreement between partitions of {view.data}", heads, rows, {"protocol": view.protocols[0]})


def label_free_sheet(view: View) -> Sheet | None:
    """Metrics without labels; None where none was measured."""
    found = measured(view)
    shifted = any(math.isfinite(one.numbers["shifted"].value) for one in found)
    wanted = ("clean", "shifted", "worst") if shifted else ("clean",)
    heads = [
        Head("Encoder"),
        Head("Metric", key="metric"),
        Head("Of", key="protocol", can_filter=False),
        Head("Shift", key="shift"),
    ]
    heads += [Head(QUANTITIES[key].heading, "number") for key in wanted]
    rows = []
    for one in found:
        keys = {"metric": metric_name(one.metric), "protocol": one.protocol or "features", "shift": one.shift}
        cells = [Cell(one.candidate.label, one.candidate.label), *_words(keys, heads)]
        for key in wanted:
            number = one.numbers[key]
            name, _, severity = one.worst_case.rpartition("-")
            case = condition_name(name, int(severity)) if severity.isdigit() else one.worst_case
            small = [
                *_bounds(number, lambda value, metric=one.metric: score(value, metric)),
                *([case] if key == "worst" and case else []),
            ]
            cells.append(Cell(score(number.value, one.metric), number.value, small))
        rows.append(SheetRow(cells, keys, one.candidate))
    first = rows[0].keys if rows else {}
    chosen = {key: first.get(key, "") for key in ("metric", "shift")}
    return _sheet(f"Metrics without labels on {view.data}", heads, rows, chosen)


def rankings_sheet(view: View) -> Sheet | None:
    """Spearman's rho of what needs no labels with the drop; None where there is none."""
    found = rankings(view)
    labels = [
        label for label in [one.label for one in view.drawn] + ["all"] if any(label in one.numbers for one in found)
    ]
    heads = [Head("Without labels"), Head("Drop in", key="metric"), Head("Clusters", key="protocol")]
    heads += [Head(label, "number") for label in labels]
    rows = []
    for one in found:
        keys = {"metric": metric_name(one.metric), "protocol": one.protocol}
        cells = [Cell(metric_name(one.proxy), metric_name(one.proxy)), *_words(keys, heads)]
        for label in labels:
            number = one.numbers.get(label, Number(math.nan))
            cells.append(
                Cell(
                    score(number.value, "silhouette"),
                    number.value,
                    _bounds(number, lambda value: score(value, "silhouette")),
                )
            )
        rows.append(SheetRow(cells, keys))
    first = rows[0].keys if rows else {}
    return _sheet(
        f"Rank correlations with the drop on {view.data}",
        heads,
        rows,
        {key: first.get(key, "") for key in ("metric", "protocol")},
    )


def _sheet(caption: str, heads: Sequence[Head], rows: Sequence[SheetRow], chosen: Mapping[str, str]) -> Sheet | None:
    return Sheet.of(caption, _several(heads, rows), _without(heads, rows), chosen) if rows else None


def _several(heads: Sequence[Head], rows: Sequence[SheetRow]) -> list[Head]:
    """The headings without those whose column says the same in every row; a protocol is always said."""
    return [head for head in heads if not _is_constant(head, rows)]


def _without(heads: Sequence[Head], rows: Sequence[SheetRow]) -> list[SheetRow]:
    kept = [place for place, head in enumerate(heads) if not _is_constant(head, rows)]
    return [SheetRow([row.cells[place] for place in kept], row.keys, row.candidate) for row in rows]


def _is_constant(head: Head, rows: Sequence[SheetRow]) -> bool:
    return head.key in ("shift", "clusterer", "reader") and len({row.keys[head.key] for row in rows}) < 2


def _words(keys: Mapping[str, str], heads: Sequence[Head]) -> list[Cell]:
    """The cells of the columns that have a key."""
    names = [metric_name(keys[head.key]) if head.key == "metric" else keys[head.key] for head in heads if head.key]
    return [Cell(name, name) for name in names]


def _numbers(numbers: Any) -> list[Cell]:
    return [Cell(percent(number.value), number.value, _bounds(number, percent)) for number in numbers]


def _bounds(number: Number, shown: Any) -> list[str]:
    """The interval as people read it; nothing without one."""
    if not math.isfinite(number.low):
        return []
    return [f"{shown(number.low)}{' to ' if number.low < 0 else '–'}{shown(number.high)}"]


def _span(row: Row) -> dict[str, float] | None:
    """Worst, mean shifted and clean, for the small picture in the table; None where one is missing."""
    span = {key: 100 * row.number(key).value for key in ("worst", "shifted", "clean")}
    return span if all(map(math.isfinite, span.values())) else None
