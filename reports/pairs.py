"""The section "Other pictures of the same classes": shifts without severities."""

from __future__ import annotations

import math
from collections.abc import Iterator

from shiftbench.reports import points
from shiftbench.reports.names import metric_name
from shiftbench.reports.panels import PanelGroup, choices, file_name, filled
from shiftbench.reports.points import Pair
from shiftbench.reports.section import TEMPLATES, Chapter, Content, Section
from shiftbench.reports.standings import number_of
from shiftbench.reports.view import View


def content(chapter: Chapter) -> Content | None:
    """One panel per shift."""
    groups = clean_pairs(chapter.view)
    return {"groups": groups} if groups else None


SECTION = Section("figures", TEMPLATES / "pairs.html", content, needs=("shifts",), anchor="shifts", title="Shifts")


def clean_pairs(view: View) -> list[PanelGroup]:
    """Each candidate on the clean images of the same classes, and on the shifted ones."""
    groups = []
    for metric, protocol in choices(view):
        panels = []
        for shift in view.shifts:
            rows = [] if view.severities(shift) else list(_pairs(view, shift, protocol, metric))
            if rows:
                name = file_name("pairs", view, metric, protocol, shift)
                panels.append(points.pairs(name, shift, rows, what=f"{metric_name(metric)} with {protocol} clusters"))
        groups.append(PanelGroup(panels, metric, protocol))
    return filled(groups)


def _pairs(view: View, shift: str, protocol: str, metric: str) -> Iterator[Pair]:
    for candidate in view.drawn:
        line = view.line(candidate, shift, protocol, metric)
        if line is not None and math.isfinite(line["clean"] + line["shifted"]):
            clean, shifted = (number_of(line, key) for key in ("clean", "shifted"))
            yield Pair(
                candidate.label,
                candidate.look,
                (clean.value, clean.low, clean.high),
                (shifted.value, shifted.low, shifted.high),
            )
