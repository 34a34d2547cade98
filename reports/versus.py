"""The section "Does the clean score tell the shifted one?": one dot per candidate."""

from __future__ import annotations

import math
from dataclasses import replace

from shiftbench.reports import points
from shiftbench.reports.names import metric_name
from shiftbench.reports.panels import PanelGroup, choices, file_name, filled
from shiftbench.reports.points import Dot
from shiftbench.reports.section import TEMPLATES, Chapter, Content, Section
from shiftbench.reports.style import MUTED
from shiftbench.reports.view import View


def content(chapter: Chapter) -> Content | None:
    """One panel per shift, and the candidates that are named in it."""
    groups = clean_against_shifted(chapter.view)
    return {"groups": groups, "drawn": chapter.view.drawn} if groups else None


SECTION = Section("figures", TEMPLATES / "versus.html", content, needs=("shifts",), anchor="shifts", title="Shifts")


def clean_against_shifted(view: View) -> list[PanelGroup]:
    """Each candidate's shifted score over its clean one, and what the clean one predicts; two candidates at least."""
    groups, drawn = [], {candidate.key for candidate in view.drawn}
    for metric, protocol in choices(view):
        panels = []
        for shift in view.shifts:
            dots = []
            for candidate in view.candidates:
                line = view.line(candidate, shift, protocol, metric)
                if line is not None and math.isfinite(line["clean"] + line["shifted"]):
                    named = candidate.key in drawn
                    look = candidate.look if named else replace(candidate.look, colour=MUTED)
                    dots.append(Dot(candidate.label, look, named, line["clean"], line["shifted"]))
            if len(dots) > 1:
                name = file_name("versus", view, metric, protocol, shift)
                panels.append(points.versus(name, shift, dots, what=f"{metric_name(metric)} with {protocol} clusters"))
        groups.append(PanelGroup(panels, metric, protocol))
    return filled(groups)
