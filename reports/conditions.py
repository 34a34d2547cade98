"""The section "Every condition": corruption by severity in a grid."""

from __future__ import annotations

import numpy as np

from shiftbench.reports import figures
from shiftbench.reports.names import metric_name
from shiftbench.reports.panels import PanelGroup, choices, file_name, filled, shift_choice
from shiftbench.reports.section import TEMPLATES, Chapter, Content, Section
from shiftbench.reports.view import View


def content(chapter: Chapter) -> Content | None:
    """One grid per candidate, and where their common scale ends."""
    groups = heatmaps(chapter.view)
    return {"groups": groups, "top": chapter.view.top} if groups else None


SECTION = Section("figures", TEMPLATES / "conditions.html", content, needs=("graded",))


def heatmaps(view: View) -> list[PanelGroup]:
    """Corruption x severity, one panel per candidate, the clean split in the first column."""
    groups = []
    for shift in view.graded:
        rows = [corruption.replace("_", " ") or shift for corruption in view.corruptions(shift)]
        for metric, protocol in choices(view):
            chance = view.chance(protocol, metric, shift)
            panels = [
                figures.heatmap(
                    file_name("heat", view, metric, protocol, shift, candidate.label),
                    candidate.label,
                    grid,
                    what=f"{metric_name(metric)}, {protocol} clusters,",
                    rows=rows,
                    columns=["clean", *map(str, view.severities(shift))],
                    low=float(np.clip(chance, 0, 0.9 * view.top)) if np.isfinite(chance) else 0.0,
                    high=view.top,
                )
                for candidate in view.drawn
                if np.isfinite(grid := view.grid(candidate, protocol, metric, shift)).any()
            ]
            groups.append(PanelGroup(panels, metric, protocol, shift_choice(view, shift)))
    return filled(groups)
