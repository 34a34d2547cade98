"""The section "Is the drop the features' or the clusters'?": clusters beside classifiers on the same features."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from shiftbench.reports import figures
from shiftbench.reports.candidates import ShownCandidate
from shiftbench.reports.headline import FROZEN, PROBED
from shiftbench.reports.names import percent, probe_name
from shiftbench.reports.panels import PanelGroup, file_name, filled, shift_choice
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
from shiftbench.reports.standings import Number, number_of
from shiftbench.reports.style import DASHES, MARKERS, SERIES, Look
from shiftbench.reports.terms import QUANTITIES
from shiftbench.reports.view import View

COLUMNS = ("clean", "shifted", "drop")


def content(chapter: Chapter) -> Content | None:
    """Curves by severity, and all numbers."""
    view = chapter.view
    table = probes_sheet(view)
    return {"groups": probe_curves(view), "readers": readers(view), "table": table} if table else None


SECTION = Section(
    "figures", TEMPLATES / "probes.html", content, needs=("probes",), anchor="probes", title="Probes"
)  # fmt: skip


@dataclass(frozen=True)
class Reader:
    """What reads an encoder's features: clusters of one protocol, or a probe."""

    label: str
    clusterer: str
    protocol: str
    look: Look


def readers(view: View) -> list[Reader]:
    """The protocols, then the probes; empty without probes."""
    probes = sorted(view.probes["clusterer"].unique())
    if not probes or PROBED not in view.metrics:
        return []
    named = [(f"{protocol} clusters", view.clusterer, protocol) for protocol in view.protocols]
    named += [(probe_name(probe), probe, FROZEN) for probe in probes]
    looks = [
        Look(SERIES[i % len(SERIES)], DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)]) for i in range(len(named))
    ]
    return [Reader(*names, look) for names, look in zip(named, looks, strict=True)]


def probe_curves(view: View) -> list[PanelGroup]:
    """Per candidate: accuracy of clusters and of classifiers on the same features, by severity."""
    groups = []
    for shift in view.graded if readers(view) else ():
        panels = []
        for candidate in view.drawn:
            lines = []
            for reader in readers(view):
                curve = view.score_curve(
                    candidate, reader.protocol, PROBED, shift, view.complete(shift), reader.clusterer
                )
                if curve is not None and np.isfinite(curve.mean).any():
                    lines.append(replace(curve, label=reader.label, look=reader.look))
            if len(lines) > len(view.protocols):
                name = file_name("probes", view, shift, candidate.label)
                panels.append(
                    figures.curves(name, candidate.label, lines, what="mean accuracy", size=(310, 210), top=view.top)
                )
        groups.append(PanelGroup(panels, shift=shift_choice(view, shift)))
    return filled(groups)


@dataclass(frozen=True)
class ProbeScore:
    """One line of the table: a candidate under a shift, as one reader sees it."""

    candidate: ShownCandidate
    reader: Reader
    shift: str
    numbers: dict[str, Number]


def probe_scores(view: View) -> list[ProbeScore]:
    """Clean, shifted and drop of each candidate that figures show, as clusters and as probes see it."""
    scores = []
    for shift in view.shifts:
        for candidate in view.drawn:
            for reader in readers(view):
                line = view.line(candidate, shift, reader.protocol, PROBED, reader.clusterer)
                if line is not None and math.isfinite(line["clean"]):
                    scores.append(ProbeScore(candidate, reader, shift, {key: number_of(line, key) for key in COLUMNS}))
    return scores


def probes_sheet(view: View) -> Sheet | None:
    """Clusters beside classifiers on the same features; None without probes."""
    columns = [
        SheetColumn("Encoder"),
        SheetColumn("Read by", key="reader", is_optional=True),
        SheetColumn("Shift", key="shift", is_optional=True),
        *(SheetColumn(QUANTITIES[key].heading, "number", definition=QUANTITIES[key].definition) for key in COLUMNS),
    ]
    rows = []
    for score in probe_scores(view):
        keys = {"reader": score.reader.label, "shift": score.shift}
        numbers = [number_cell(number, percent) for number in score.numbers.values()]
        cells = [heading_cell(score.candidate), *word_cells(keys, columns), *numbers]
        rows.append(SheetRow(cells, keys, score.candidate))
    caption = f"Accuracy of clusters and of classifiers on {view.data}"
    return sheet_or_none(caption, columns, rows, {"shift": (view.shifts or [""])[0]})
