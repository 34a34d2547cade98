"""Figures of the shifts that have severities: how scores fall, where, and what fitting anew changes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shiftbench.reports import figures, points
from shiftbench.reports.candidates import Candidate
from shiftbench.reports.groups import Group, choices, file_name, filled, tenths
from shiftbench.reports.names import metric_name
from shiftbench.reports.view import Curve, View

WIDE = 390, 260


def mean_curves(view: View) -> list[Group]:
    """The mean over all corruptions by severity, frozen beside refit."""
    groups = []
    for shift in view.graded:
        corruptions = view.complete(shift)
        mean = f" over {len(corruptions)} corruptions" if len(corruptions) > 1 else ""
        for metric in view.headline:
            panels = []
            for protocol in view.protocols:
                lines = _score_curves(view, protocol, metric, shift, corruptions)
                if lines:
                    panels.append(
                        figures.curves(
                            file_name("severity", view, metric, protocol, shift),
                            f"{metric_name(metric)}, {protocol} clusters",
                            lines,
                            what=f"mean {metric_name(metric)}{mean}",
                            size=WIDE,
                            labelled=True,
                            chance=view.chance(protocol, metric, shift),
                            top=view.top,
                        )
                    )
            groups.append(Group(panels, metric, shift=_if_several(view, shift)))
    return filled(groups)


def corruption_curves(view: View) -> list[Group]:
    """One small panel per corruption."""
    return filled(
        Group(
            [
                figures.curves(
                    file_name("severity", view, metric, protocol, shift, corruption),
                    corruption.replace("_", " "),
                    lines,
                    what=f"{metric_name(metric)} with {protocol} clusters",
                    chance=view.chance(protocol, metric, shift),
                    top=view.top,
                )
                for corruption in view.corruptions(shift)
                if (lines := _score_curves(view, protocol, metric, shift, [corruption]))
            ],
            metric,
            protocol,
            _if_several(view, shift),
        )
        for shift in _detailed(view)
        for metric, protocol in choices(view)
    )


def frozen_against_refit(view: View) -> list[Group]:
    """Per encoder and corruption: what refitting the clusters changes."""
    groups = []
    for shift in _detailed(view) if {"frozen", "refit"} <= set(view.protocols) else ():
        rows = [corruption.replace("_", " ") for corruption in view.corruptions(shift)]
        for metric in view.headline:
            pairs = {
                candidate: [_mean_known(_grid(view, candidate, one, metric, shift)) for one in ("frozen", "refit")]
                for candidate in view.drawn
            }
            pairs = {candidate: pair for candidate, pair in pairs.items() if np.isfinite(pair[0] - pair[1]).any()}
            limits = tenths(np.array(list(pairs.values())))
            panels = [
                points.dumbbells(
                    file_name("refit", view, metric, shift, candidate.label),
                    candidate.label,
                    *pair,
                    what=metric_name(metric),
                    rows=rows,
                    limits=limits,
                    look=candidate.look,
                )
                for candidate, pair in pairs.items()
            ]
            groups.append(Group(panels, metric, shift=_if_several(view, shift)))
    return filled(groups)


def heatmaps(view: View) -> list[Group]:
    """Corruption x severity, one panel per encoder, the clean split in the first column."""
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
                if np.isfinite(grid := _grid(view, candidate, protocol, metric, shift)).any()
            ]
            groups.append(Group(panels, metric, protocol, _if_several(view, shift)))
    return filled(groups)


def _if_several(view: View, shift: str) -> str:
    return shift if len(view.graded) > 1 else ""


def _detailed(view: View) -> list[str]:
    """The shifts whose corruptions are worth a picture each."""
    return [shift for shift in view.graded if len(view.corruptions(shift)) > 1]


def _score_curves(view: View, protocol: str, metric: str, shift: str, corruptions: Sequence[str]) -> list[Curve]:
    lines = [view.score_curve(one, protocol, metric, shift, corruptions) for one in view.drawn]
    return [line for line in lines if line is not None and np.isfinite(line.mean).any()]


def _grid(view: View, candidate: Candidate, protocol: str, metric: str, shift: str) -> np.ndarray:
    """(corruptions, 1 + severities) means over runs, clean first; NaN where not measured."""
    runs, names, severities = view.runs(candidate, protocol, metric), view.corruptions(shift), view.severities(shift)
    if runs is None:
        return np.full((len(names), 1 + len(severities)), np.nan)
    wanted = [
        (shift, name, severity) if severity else view.clean(shift) for name in names for severity in (0, *severities)
    ]
    return runs.means(wanted)[0].reshape(len(names), -1)


def _mean_known(grid: np.ndarray) -> np.ndarray:
    """(corruptions,) means over the severities that were measured."""
    known = np.isfinite(grid[:, 1:])
    with np.errstate(invalid="ignore"):
        return np.where(known, grid[:, 1:], 0).sum(axis=1) / known.sum(axis=1)
