"""The section "Overview": all candidates in one table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from shiftbench.reports.names import is_fraction, percent, score
from shiftbench.reports.section import TEMPLATES, Chapter, Content, Section
from shiftbench.reports.sheets import Sheet, SheetCell, SheetColumn, SheetRow, heading_cell, number_cell, word_cells
from shiftbench.reports.standings import NORMALISED, Standing, quantities_of
from shiftbench.reports.view import View


def content(chapter: Chapter) -> Content:
    """The table, and which of its quantities the baseline leaves empty."""
    view, rows, (error, increase) = chapter.view, chapter.standings, NORMALISED
    counts = {key: sum(key in row.numbers for row in rows) for key in NORMALISED}
    return {
        "table": overview_sheet(view, rows, chapter.baseline),
        "has_labels": bool(view.metrics),
        "n_left_out": len(view.metrics) - len(chapter.metrics),
        "baseline": chapter.baseline,
        "lacks_baseline": bool(view.metrics and view.shifts and not counts[error]),
        "lacks_increase": counts[error] > counts[increase],
    }


SECTION = Section("top", TEMPLATES / "overview.html", content, anchor="overview", title="Overview")


def overview_sheet(view: View, rows: Sequence[Standing], baseline: str) -> Sheet:
    """The comparison of all candidates."""
    quantities = quantities_of(rows)
    spans = [_span(row) for row in rows]
    columns = [SheetColumn("Encoder"), SheetColumn("Clusters", key="protocol")]
    columns += [SheetColumn("Metric", key="metric")] if view.metrics else []
    columns += [SheetColumn("Shift", key="shift", is_optional=True)]
    columns += [SheetColumn("Algorithm", key="clusterer", is_optional=True)]
    if any(spans):
        definition = "From the worst condition over the mean to the clean split."
        columns.append(SheetColumn("Worst – mean – clean", "", definition=definition))
    for quantity in quantities:
        note = f"{baseline} = 100" if quantity.key in NORMALISED else ""
        columns.append(SheetColumn(quantity.heading, "number", definition=quantity.definition, note=note))
    sheet_rows = []
    for row, span in zip(rows, spans, strict=True):
        keys = {"protocol": row.protocol, "metric": row.metric, "shift": row.shift, "clusterer": row.clusterer}
        incomplete = [f"{row.n_ok} of {row.n_cells} cells"] if not row.is_complete else []
        cells = [heading_cell(row.candidate, incomplete), *word_cells(keys, columns)]
        cells += [SheetCell("", span=span)] if any(spans) else []
        for quantity in quantities:
            case = [row.worst_case] if quantity.key == "worst" and row.worst_case else []
            shown = partial(score, metric=row.metric) if quantity.in_units else percent
            strong = quantity.key in row.leads
            cells.append(number_cell(row.number(quantity.key), shown, case, strong=strong))
        sheet_rows.append(SheetRow(cells, keys, row.candidate))
    chosen = {"metric": (view.headline or [""])[0], "shift": (view.shifts or ["clean"])[0], "clusterer": view.clusterer}
    return Sheet.of(f"Encoders on {view.data}", columns, sheet_rows, chosen)


def _span(row: Standing) -> dict[str, float] | None:
    """Worst, mean shifted and clean in percent, for the small picture in the table; None where one is missing."""
    if not is_fraction(row.metric):
        return None
    span = {key: 100 * row.number(key).value for key in ("worst", "shifted", "clean")}
    return span if all(map(math.isfinite, span.values())) else None
