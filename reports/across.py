"""Figures that set encoders, or clusters and classifiers, side by side across shifts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from shiftbench.reports import figures, points
from shiftbench.reports.candidates import Candidate
from shiftbench.reports.groups import Group, choices, file_name, filled
from shiftbench.reports.names import metric_name, probe_name
from shiftbench.reports.overview import Number, number_of
from shiftbench.reports.points import Dot, Pair
from shiftbench.reports.style import DASHES, MARKERS, MUTED, SERIES, Look
from shiftbench.reports.view import View

PROBE_METRIC = "acc"


def clean_pairs(view: View) -> list[Group]:
    """Shifts without severities: each encoder on the clean images of the same classes, and on the shifted ones."""
    groups = []
    for metric, protocol in choices(view):
        panels = []
        for shift in view.shifts:
            rows = [] if view.severities(shift) else list(_pairs(view, shift, protocol, metric))
            if rows:
                name = file_name("pairs", view, metric, protocol, shift)
                panels.append(points.pairs(name, shift, rows, what=f"{metric_name(metric)} with {protocol} clusters"))
        groups.append(Group(panels, metric, protocol))
    return filled(groups)


def clean_against_shifted(view: View) -> list[Group]:
    """Each encoder's shifted score over its clean one, and what the clean one predicts; two encoders at least."""
    groups, drawn = [], {one.key for one in view.drawn}
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
        groups.append(Group(panels, metric, protocol))
    return filled(groups)


@dataclass(frozen=True)
class Reader:
    """What reads an encoder's features: clusters of one protocol, or a probe."""

    name: str
    clusterer: str
    protocol: str
    look: Look


def readers(view: View) -> list[Reader]:
    """The protocols, then the probes; empty without probes."""
    probes = sorted(view.probes["clusterer"].unique())
    if not probes or PROBE_METRIC not in view.metrics:
        return []
    named = [(f"{protocol} clusters", view.clusterer, protocol) for protocol in view.protocols]
    named += [(probe_name(probe), probe, "frozen") for probe in probes]
    looks = [
        Look(SERIES[i % len(SERIES)], DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)]) for i in range(len(named))
    ]
    return [Reader(*names, look) for names, look in zip(named, looks, strict=True)]


def probe_curves(view: View) -> list[Group]:
    """Per encoder: accuracy of clusters and of classifiers on the same features, by severity."""
    groups = []
    for shift in view.graded if readers(view) else ():
        panels = []
        for candidate in view.drawn:
            lines = []
            for reader in readers(view):
                curve = view.score_curve(
                    candidate, reader.protocol, PROBE_METRIC, shift, view.complete(shift), reader.clusterer
                )
                if curve is not None and np.isfinite(curve.mean).any():
                    lines.append(replace(curve, label=reader.name, look=reader.look))
            if len(lines) > len(view.protocols):
                name = file_name("probes", view, shift, candidate.label)
                panels.append(
                    figures.curves(name, candidate.label, lines, what="mean accuracy", size=(310, 210), top=view.top)
                )
        groups.append(Group(panels, shift=shift if len(view.graded) > 1 else ""))
    return filled(groups)


@dataclass(frozen=True)
class Reading:
    """One line of the table of probes."""

    candidate: Candidate
    reader: Reader
    shift: str
    numbers: dict[str, Number]


def readings(view: View) -> list[Reading]:
    """Clean, shifted and drop of each encoder that figures show, as clusters and as probes see it."""
    found = []
    for shift in view.shifts:
        for candidate in view.drawn:
            for reader in readers(view):
                line = view.line(candidate, shift, reader.protocol, PROBE_METRIC, reader.clusterer)
                if line is not None and math.isfinite(line["clean"]):
                    numbers = {key: number_of(line, key) for key in ("clean", "shifted", "drop")}
                    found.append(Reading(candidate, reader, shift, numbers))
    return found


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
