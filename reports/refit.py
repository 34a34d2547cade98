"""The section "Frozen or refitted clusters": what fitting them anew changes."""

from __future__ import annotations

import numpy as np

from shiftbench.reports import points
from shiftbench.reports.headline import FROZEN, REFIT
from shiftbench.reports.names import metric_name
from shiftbench.reports.panels import PanelGroup, file_name, filled, shift_choice, tenths
from shiftbench.reports.section import TEMPLATES, Chapter, Content, Section
from shiftbench.reports.view import View


def content(chapter: Chapter) -> Content | None:
    """One panel per candidate."""
    groups = frozen_against_refit(chapter.view)
    return {"groups": groups} if groups else None


SECTION = Section("figures", TEMPLATES / "refit.html", content, needs=("detailed",))


def frozen_against_refit(view: View) -> list[PanelGroup]:
    """Both protocols per candidate and corruption; nothing where one of them was not used."""
    groups = []
    for shift in view.detailed if {FROZEN, REFIT} <= set(view.protocols) else ():
        rows = [corruption.replace("_", " ") for corruption in view.corruptions(shift)]
        for metric in view.headline:
            pairs = {
                candidate: tuple(
                    _mean_over_severities(view.grid(candidate, protocol, metric, shift)) for protocol in (FROZEN, REFIT)
                )
                for candidate in view.drawn
            }
            pairs = {
                candidate: (frozen, refit)
                for candidate, (frozen, refit) in pairs.items()
                if np.isfinite(frozen - refit).any()
            }
            limits = tenths(np.array(list(pairs.values())))
            panels = [
                points.dumbbells(
                    file_name("refit", view, metric, shift, candidate.label),
                    candidate.label,
                    frozen,
                    refit,
                    what=metric_name(metric),
                    rows=rows,
                    limits=limits,
                    look=candidate.look,
                )
                for candidate, (frozen, refit) in pairs.items()
            ]
            groups.append(PanelGroup(panels, metric, shift=shift_choice(view, shift)))
    return filled(groups)


def _mean_over_severities(grid: np.ndarray) -> np.ndarray:
    """Float (corruptions,) means over the severities that were measured."""
    known = np.isfinite(grid[:, 1:])
    with np.errstate(invalid="ignore"):
        means: np.ndarray = np.where(known, grid[:, 1:], 0).sum(axis=1) / known.sum(axis=1)
    return means
