"""How far partitions agree: along which axis, over severities, and whose hold longest."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from shiftbench.reports import figures, points
from shiftbench.reports.candidates import Candidate
from shiftbench.reports.glossary import AXES
from shiftbench.reports.groups import Group, choices, file_name, filled
from shiftbench.reports.names import metric_name, percent
from shiftbench.reports.overview import Number
from shiftbench.reports.points import Strip
from shiftbench.reports.severity import WIDE
from shiftbench.reports.view import AGREEMENT, Curve, View

MEASURES = ("ari", "ami", "matched_acc", "sample_consensus", "cluster_jaccard", "pac")


def seed_spread(view: View) -> list[Group]:
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
        groups.append(Group(panels, metric, protocol))
    return filled(groups)


def per_run(view: View, candidate: Candidate, protocol: str, metric: str, shift: str) -> np.ndarray:
    """The score of each run, mean over the conditions of the shift."""
    runs = view.runs(candidate, protocol, metric)
    if runs is None or not runs.conditions(shift):
        return np.empty(0)
    values = runs.table[runs.conditions(shift)].mean(axis=1).to_numpy(float)
    return values[np.isfinite(values)]


def agreement_curves(view: View) -> list[Group]:
    """Agreement over severity, along each axis."""
    groups = []
    for shift in view.graded:
        for protocol in view.protocols:
            panels = []
            for axis, title in AXES.items():
                lines = agreements_of(view, protocol, axis, shift)
                if lines and max(len(line.severities) for line in lines) > 1:
                    name = file_name("agreement", view, protocol, axis, shift)
                    panels.append(figures.curves(name, title, lines, what="agreement (ARI)", size=WIDE, labelled=True))
            groups.append(Group(panels, protocol=protocol, shift=shift if len(view.graded) > 1 else ""))
    return filled(groups)


def agreements_of(view: View, protocol: str, axis: str, shift: str) -> list[Curve]:
    """The curves of the encoders that figures show."""
    return [line for one in view.drawn if (line := view.agreement_curve(one, protocol, axis, shift))]


@dataclass(frozen=True)
class Steadiness:
    """One line of the table of agreements: an encoder along an axis, on the clean split or under a shift.

    Attributes:
        numbers: by metric; the mean over conditions of a shift has no interval.
    """

    candidate: Candidate
    protocol: str
    axis: str
    shift: str
    numbers: dict[str, Number]


def steadiness(view: View) -> list[Steadiness]:
    """Agreement along every axis, clean and as the mean over each shift, of the encoders that figures show."""
    found = []
    for protocol in view.protocols:
        for axis in AXES:
            for shift in ["clean", *view.shifts]:
                split = view.split(shift) if shift != "clean" else "test"
                for candidate in view.drawn:
                    numbers = {
                        metric: number
                        for metric in MEASURES
                        if math.isfinite(
                            (
                                number := Number(*view.mean_agreement(candidate, protocol, axis, shift, metric, split))
                            ).value
                        )
                    }
                    if numbers:
                        found.append(Steadiness(candidate, protocol, axis, shift, numbers))
    return found


def longest(view: View) -> str:
    """Whose partition stays closest to that of the clean images, at the strongest severity; empty without severities."""
    for shift in view.graded:
        protocol = view.protocols[0]
        lines = [line for line in agreements_of(view, protocol, "shift", shift) if np.isfinite(line.mean[-1])]
        if not lines:
            continue
        best, *others = sorted(lines, key=lambda line: -line.mean[-1])
        among = f"; next comes {others[0].label} with {percent(others[0].mean[-1])} %" if others else ""
        return (
            f"Under {shift.replace('_', ' ')} of severity {best.severities[-1]}, {protocol} clusters of {best.label} "
            f"agree to {percent(best.mean[-1])} % {metric_name(AGREEMENT)} with those of the clean images{among}."
        )
    return ""
