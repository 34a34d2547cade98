"""The section "Stability": how far runs and partitions agree, along which axis, and whose hold longest."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from shiftbench.reports import figures, points
from shiftbench.reports.candidates import ShownCandidate
from shiftbench.reports.headline import AGREEMENT, MEASURES, MOVED
from shiftbench.reports.names import AXIS_NAMES, axis_name, known_first, metric_name, percent
from shiftbench.reports.panels import PanelGroup, choices, file_name, filled, shift_choice
from shiftbench.reports.points import Strip
from shiftbench.reports.section import TEMPLATES, Chapter, Content, Section
from shiftbench.reports.sheets import (
    Sheet,
    SheetColumn,
    SheetRow,
    heading_cell,
    number_cell,
    sheet_or_none,
    word_cells,
)
from shiftbench.reports.standings import Number
from shiftbench.reports.style import WIDE
from shiftbench.reports.terms import TERMS
from shiftbench.reports.view import Curve, View


def content(chapter: Chapter) -> Content | None:
    """Runs, agreement by severity, and all numbers."""
    view = chapter.view
    runs, agreement, table = seed_spread(view), agreement_curves(view), stability_sheet(view)
    if not (runs or agreement or table):
        return None
    return {"longest": longest(view), "runs": runs, "agreement": agreement, "table": table}


SECTION = Section("figures", TEMPLATES / "stability.html", content, anchor="stability", title="Stability")


def axes_of(view: View) -> list[str]:
    """The axes along which agreement was measured."""
    return known_first(view.stability["axis"].unique(), AXIS_NAMES)


def seed_spread(view: View) -> list[PanelGroup]:
    """Each run's score, clean and mean shifted."""
    groups = []
    for metric, protocol in choices(view):
        panels = []
        for shift in ["clean", *view.shifts]:
            strips = [
                Strip(candidate.label, candidate.look, values)
                for candidate in view.drawn
                if len(values := per_run(view, candidate, protocol, metric, shift)) > 1
            ]
            if strips:
                several = shift != "clean" and len(view.corruptions(shift)) * len(view.severities(shift)) > 1
                title = f"{shift}, mean over conditions" if several else shift
                name = file_name("runs", view, metric, protocol, shift)
                panels.append(points.strips(name, title, strips, what=metric_name(metric)))
        groups.append(PanelGroup(panels, metric, protocol))
    return filled(groups)


def per_run(view: View, candidate: ShownCandidate, protocol: str, metric: str, shift: str) -> np.ndarray:
    """The score of each run, mean over the conditions of the shift."""
    runs = view.runs(candidate, protocol, metric)
    if runs is None or not runs.conditions(shift):
        return np.empty(0)
    values = runs.table[runs.conditions(shift)].mean(axis=1).to_numpy(float)
    measured: np.ndarray = values[np.isfinite(values)]
    return measured


def agreement_curves(view: View) -> list[PanelGroup]:
    """Agreement over severity, along each axis."""
    what = f"agreement ({metric_name(AGREEMENT)})"
    groups = []
    for shift in view.graded:
        for protocol in view.protocols:
            panels = []
            for axis in axes_of(view):
                lines = agreements_of(view, protocol, axis, shift)
                if lines and max(len(line.severities) for line in lines) > 1:
                    name = file_name("agreement", view, protocol, axis, shift)
                    panels.append(figures.curves(name, axis_name(axis), lines, what=what, size=WIDE, labelled=True))
            groups.append(PanelGroup(panels, protocol=protocol, shift=shift_choice(view, shift)))
    return filled(groups)


def agreements_of(view: View, protocol: str, axis: str, shift: str) -> list[Curve]:
    """The curves of the candidates that figures show."""
    curves = (view.agreement_curve(candidate, protocol, axis, shift) for candidate in view.drawn)
    return [curve for curve in curves if curve]


@dataclass(frozen=True)
class Steadiness:
    """One line of the table: a candidate along an axis, on the clean split or under a shift.

    Attributes:
        numbers: by measure of agreement; the mean over conditions of a shift has no interval.
    """

    candidate: ShownCandidate
    protocol: str
    axis: str
    shift: str
    numbers: dict[str, Number]


def steadiness(view: View) -> list[Steadiness]:
    """Agreement along every axis, clean and as the mean over each shift, of the candidates that figures show."""
    measures = known_first(view.stability["metric"].unique(), MEASURES)
    lines = []
    for protocol in view.protocols:
        for axis in axes_of(view):
            for shift in ["clean", *view.shifts]:
                split = view.split(shift) if shift != "clean" else "test"
                for candidate in view.drawn:
                    numbers = {
                        measure: Number(*view.mean_agreement(candidate, protocol, axis, shift, measure, split))
                        for measure in measures
                    }
                    numbers = {measure: number for measure, number in numbers.items() if math.isfinite(number.value)}
                    if numbers:
                        lines.append(Steadiness(candidate, protocol, axis, shift, numbers))
    return lines


def stability_sheet(view: View) -> Sheet | None:
    """Agreement between partitions, by axis; None where none was measured."""
    lines = steadiness(view)
    measures = known_first((measure for line in lines for measure in line.numbers), MEASURES)
    columns = [
        SheetColumn("Encoder"),
        SheetColumn("Agreement", key="axis"),
        SheetColumn("Images", key="shift", is_optional=True),
        SheetColumn("Clusters", key="protocol"),
    ]
    names = [metric_name(measure) for measure in measures]
    columns += [SheetColumn(name, "number", definition=TERMS.get(name, "")) for name in names]
    rows = []
    for line in lines:
        keys = {"axis": axis_name(line.axis), "shift": line.shift, "protocol": line.protocol}
        numbers = [number_cell(line.numbers.get(measure, Number(math.nan)), percent) for measure in measures]
        cells = [heading_cell(line.candidate), *word_cells(keys, columns), *numbers]
        rows.append(SheetRow(cells, keys, line.candidate))
    chosen = {"protocol": view.protocols[0]}
    return sheet_or_none(f"Agreement between partitions of {view.data}", columns, rows, chosen)


def longest(view: View) -> str:
    """Whose partition stays closest to that of the clean images, at the strongest severity; empty without severities."""
    for shift in view.graded:
        protocol = view.protocols[0]
        lines = [line for line in agreements_of(view, protocol, MOVED, shift) if np.isfinite(line.mean[-1])]
        if not lines:
            continue
        best, *others = sorted(lines, key=lambda line: -line.mean[-1])
        among = f"; next comes {others[0].label} with {percent(others[0].mean[-1])} %" if others else ""
        return (
            f"Under {shift.replace('_', ' ')} of severity {best.severities[-1]}, {protocol} clusters of {best.label} "
            f"agree to {percent(best.mean[-1])} % {metric_name(AGREEMENT)} with those of the clean images{among}."
        )
    return ""
