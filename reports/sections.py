"""Which figures a report has, section by section."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from shiftbench.reports import figures
from shiftbench.reports.figures import Strip
from shiftbench.reports.gallery import Arrays
from shiftbench.reports.style import Drawing
from shiftbench.reports.view import Curve, Entrant, View, condition_name, metric_name

DRAWN = 12  # encoders in figures; the table has all
WIDE = 390, 260
MIN_SCATTER = 5  # conditions; a rank correlation over fewer says nothing


@dataclass(frozen=True)
class Group:
    """Panels that belong together, shown when their metric and protocol are chosen; empty means always."""

    panels: list[Drawing]
    metric: str = ""
    protocol: str = ""

    @property
    def label(self) -> str:
        """What is shown, for readers who see all groups."""
        return " · ".join(part for part in (metric_name(self.metric), self.protocol) if part)


def drawn(view: View) -> list[Entrant]:
    """The encoders that figures show: all, or the best few and the floors."""
    if len(view.entrants) <= DRAWN or not view.headline:
        return view.entrants[:DRAWN]
    best = view.summary[view.summary["metric"] == view.headline[0]].groupby("encoder")["shifted"].max().fillna(-np.inf)
    floors = [one for one in view.entrants if one.floor]
    others = sorted((one for one in view.entrants if not one.floor), key=lambda one: -best.get(one.encoder, -np.inf))
    kept = {one.label for one in others[: max(DRAWN - len(floors), 1)]} | {one.label for one in floors}
    return [one for one in view.entrants if one.label in kept][:DRAWN]


def mean_curves(view: View) -> list[Group]:
    """The mean over all corruptions by severity, frozen beside refit."""
    groups = []
    for metric in view.headline:
        panels = []
        for protocol in view.protocols:
            lines = _score_curves(view, protocol, metric, view.corruptions)
            if lines:
                panels.append(
                    figures.curves(
                        _name("severity", view, metric, protocol),
                        f"{metric_name(metric)}, {protocol} clusters",
                        lines,
                        what=f"mean {metric_name(metric)} over {len(view.corruptions)} corruptions",
                        size=WIDE,
                        labelled=True,
                        chance=view.chance(protocol, metric),
                    )
                )
        groups.append(Group(panels, metric))
    return _filled(groups)


def corruption_curves(view: View) -> list[Group]:
    """One small panel per corruption."""
    return _filled(
        Group(
            [
                figures.curves(
                    _name("severity", view, metric, protocol, corruption),
                    corruption.replace("_", " "),
                    lines,
                    what=f"{metric_name(metric)} with {protocol} clusters",
                    chance=view.chance(protocol, metric),
                )
                for corruption in view.corruptions
                if (lines := _score_curves(view, protocol, metric, [corruption]))
            ],
            metric,
            protocol,
        )
        for metric, protocol in _choices(view)
    )


def frozen_against_refit(view: View) -> list[Group]:
    """Per encoder and corruption: what refitting the clusters changes."""
    if not {"frozen", "refit"} <= set(view.protocols) or not view.corruptions:
        return []
    rows = [corruption.replace("_", " ") for corruption in view.corruptions]
    groups = []
    for metric in view.headline:
        pairs = {
            entrant: [_grid(view, entrant, one, metric)[:, 1:].mean(axis=1) for one in ("frozen", "refit")]
            for entrant in drawn(view)
        }
        pairs = {entrant: pair for entrant, pair in pairs.items() if np.isfinite(pair[0] - pair[1]).any()}
        limits = _limits(np.array(list(pairs.values())))
        panels = [
            figures.dumbbells(
                _name("refit", view, metric, entrant.label),
                entrant.label,
                *pair,
                what=metric_name(metric),
                rows=rows,
                limits=limits,
                look=entrant.look,
            )
            for entrant, pair in pairs.items()
        ]
        groups.append(Group(panels, metric))
    return _filled(groups)


def heatmaps(view: View) -> list[Group]:
    """Corruption x severity, one panel per encoder, the clean split in the first column."""
    if not view.corruptions:
        return []
    rows = [corruption.replace("_", " ") for corruption in view.corruptions]
    groups = []
    for metric, protocol in _choices(view):
        chance = view.chance(protocol, metric)
        panels = [
            figures.heatmap(
                _name("heat", view, metric, protocol, entrant.label),
                entrant.label,
                grid,
                what=f"{metric_name(metric)}, {protocol} clusters,",
                rows=rows,
                columns=["clean", *map(str, view.severities)],
                low=float(np.clip(chance, 0, 0.9)) if np.isfinite(chance) else 0.0,
            )
            for entrant in drawn(view)
            if np.isfinite(grid := _grid(view, entrant, protocol, metric)).any()
        ]
        groups.append(Group(panels, metric, protocol))
    return _filled(groups)


def seed_spread(view: View) -> list[Group]:
    """Each run's score, clean and mean shifted."""
    groups = []
    for metric, protocol in _choices(view):
        panels = []
        for shift in ["clean", *view.shifts]:
            strips = [
                Strip(entrant.label, entrant.look, values)
                for entrant in drawn(view)
                if len(values := _per_run(view, entrant, protocol, metric, shift))
            ]
            if strips:
                title = {"clean": "clean", "corruption": "mean of all corruptions"}.get(shift, shift)
                panels.append(
                    figures.strips(
                        _name("runs", view, metric, protocol, shift), title, strips, what=metric_name(metric)
                    )
                )
        groups.append(Group(panels, metric, protocol))
    return _filled(groups)


def agreement_curves(view: View) -> list[Group]:
    """Agreement over severity: among random starts, and with the clean partition."""
    titles = {"initialization": "between random starts", "shift": "with the clean partition"}
    groups = []
    for protocol in view.protocols:
        panels = []
        for axis, title in titles.items():
            lines = [line for one in drawn(view) if (line := view.agreement_curve(one, protocol, axis))]
            if lines and max(len(line.severities) for line in lines) > 1:
                name = _name("agreement", view, protocol, axis)
                panels.append(figures.curves(name, title, lines, what="agreement (ARI)", size=WIDE, labelled=True))
        groups.append(Group(panels, protocol=protocol))
    return _filled(groups)


def drop_against_agreement(view: View) -> list[Group]:
    """Does agreement, which needs no labels, follow the drop, which does? One mark per condition."""
    groups = []
    for metric, protocol in _choices(view):
        points = {entrant: _drops(view, entrant, protocol, metric) for entrant in drawn(view)}
        points = {one: xy for one, xy in points.items() if len(xy) >= MIN_SCATTER and xy.nunique().min() > 1}
        low, high = _limits(np.concatenate([xy["drop"].to_numpy() for xy in points.values()] or [np.empty(0)]))
        panels = [
            figures.scatter(
                _name("label-free", view, metric, protocol, entrant.label),
                entrant.label,
                xy["mean"].to_numpy(),
                xy["drop"].to_numpy(),
                limits=(low - 0.02, high),
                look=entrant.look,
                rho=float(spearmanr(xy["mean"], xy["drop"]).statistic),
            )
            for entrant, xy in points.items()
        ]
        groups.append(Group(panels, metric, protocol))
    return _filled(groups)


def maps(view: View, label: str, arrays: Arrays) -> list[Drawing]:
    """The features of one encoder on two axes, clean and under the shift that moves them most."""
    if not {"map_clean", "map_shifted", "map_cluster"} <= set(arrays):
        return []
    clean, shifted, clusters = (arrays[name] for name in ("map_clean", "map_shifted", "map_cluster"))
    name, _, severity = str(arrays["map_condition"]).rpartition("-")
    titles = {"clean": clean}
    if name:
        titles[condition_name(name, int(severity))] = shifted
    limits = np.array([clean.min(axis=0), clean.max(axis=0)])
    return [
        figures.embedding(_name("map", view, label, title), title, points, who=label, clusters=clusters, limits=limits)
        for title, points in titles.items()
    ]


def _choices(view: View) -> Iterator[tuple[str, str]]:
    for metric in view.headline:
        for protocol in view.protocols:
            yield metric, protocol


def _filled(groups: Sequence[Group] | Iterator[Group]) -> list[Group]:
    return [group for group in groups if group.panels]


def _name(*parts: str | View) -> str:
    """A file's name of letters, digits, dots and dashes."""
    words = [part.data if isinstance(part, View) else part for part in parts]
    return "-".join("".join(c if c.isalnum() or c in "._" else "-" for c in word) for word in words)


def _limits(values: np.ndarray) -> tuple[float, float]:
    """The tenths around all values: what panels of one group share."""
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0, 1.0
    return float(np.floor(known.min() * 10) / 10), float(np.ceil(known.max() * 10) / 10)


def _score_curves(view: View, protocol: str, metric: str, corruptions: Sequence[str]) -> list[Curve]:
    if not corruptions:
        return []
    lines = [view.score_curve(one, protocol, metric, corruptions) for one in drawn(view)]
    return [line for line in lines if line is not None and np.isfinite(line.mean).any()]


def _grid(view: View, entrant: Entrant, protocol: str, metric: str) -> np.ndarray:
    """(corruptions, 1 + severities) means over runs, clean first; NaN where not measured."""
    runs = view.runs(entrant, protocol, metric)
    shape = len(view.corruptions), 1 + len(view.severities)
    if runs is None or not view.corruptions:
        return np.full(shape, np.nan)
    wanted = [view.condition(name, severity) for name in view.corruptions for severity in (0, *view.severities)]
    return runs.means(wanted)[0].reshape(shape)


def _per_run(view: View, entrant: Entrant, protocol: str, metric: str, shift: str) -> np.ndarray:
    runs = view.runs(entrant, protocol, metric)
    if runs is None:
        return np.empty(0)
    values = runs.table[runs.conditions(shift)].mean(axis=1).to_numpy(float)
    return values[np.isfinite(values)]


def _drops(view: View, entrant: Entrant, protocol: str, metric: str) -> pd.DataFrame:
    """Columns mean (agreement) and drop, one row per shifted condition."""
    runs = view.runs(entrant, protocol, metric)
    table = view.agreement(entrant, protocol, "shift")
    if runs is None or table.empty:
        return pd.DataFrame({"mean": [], "drop": []})
    conditions = list(table[["shift", "corruption", "severity"]].itertuples(index=False, name=None))
    drops = runs.clean[0] - runs.means(conditions)[0]
    return table.assign(drop=drops)[["mean", "drop"]].dropna()
