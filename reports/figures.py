"""The kinds of figures, each one small panel with a few encoders in it. Values are fractions, axes show percent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from shiftbench.reports.style import (
    CLUSTERS,
    HEAT,
    INK,
    LINE,
    MARKERS,
    MUTED,
    PAPER,
    Drawing,
    Look,
    drawing,
    panel,
)
from shiftbench.reports.view import Curve

SEVERITY_NAMES = {0: "clean"}


def percent(value: float) -> str:
    """A fraction as people read it: ``89.1``; a dash where there is none."""
    if not np.isfinite(value):
        return "–"
    text = f"{100 * value:.1f}"
    return "0.0" if text == "-0.0" else text.replace("-", "−")


def curves(
    name: str,
    title: str,
    lines: Sequence[Curve],
    *,
    what: str,
    size: tuple[float, float] = (270, 190),
    labelled: bool = False,
    chance: float = float("nan"),
) -> Drawing:
    """Lines over severity with their bands.

    Args:
        what: the quantity, for the alternative text ("Accuracy").
        labelled: write the encoders' names at the ends of their lines.
        chance: a dotted level, what luck gives.
    """
    with drawing():
        names = [_short(line.entrant.label) for line in lines] if labelled else []
        figure = panel(*size, right=_room(names, 40) if labelled else 10, bottom=40 if labelled else 22)
        axes = figure.add_subplot()
        axes.set_title(title)
        if np.isfinite(chance):
            axes.axhline(chance, color=MUTED, linewidth=1, dashes=(1, 2))
            axes.text(
                0.02, chance + 0.015, "chance", color=MUTED, fontsize=8, transform=axes.get_yaxis_transform()
            )
        for line in reversed(lines):  # the first encoder lies on top
            look = line.entrant.look
            axes.fill_between(
                line.severities, line.low, line.high, color=look.colour, alpha=0.18, linewidth=0
            )
            axes.plot(line.severities, line.mean, **look.line, marker=look.marker, markersize=3.4)
        ticks = sorted({severity for line in lines for severity in line.severities})
        axes.set_xticks(ticks, [SEVERITY_NAMES.get(tick, str(tick)) for tick in ticks])
        _percent_axis(axes)
        if labelled:
            axes.set_xlabel("severity")
            _label_ends(axes, lines)
    return Drawing(name, _curves_in_words(title, what, lines), figure)


def heatmap(
    name: str,
    title: str,
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    low: float,
    what: str,
) -> Drawing:
    """A grid of numbers on a colour scale from ``low`` to 1; what was not measured stays empty."""
    with drawing():
        figure = panel(330, 62 + 19 * len(rows), left=_room(rows), bottom=36)
        axes = figure.add_subplot()
        axes.pcolormesh(values[::-1], vmin=low, vmax=1, cmap=HEAT, edgecolors=PAPER, linewidth=1.2)
        dark = low + 0.62 * (1 - low)
        for (row, column), value in np.ndenumerate(values[::-1]):
            colour = MUTED if np.isnan(value) else "#ffffff" if value < dark else "#0b0405"
            text = "–" if np.isnan(value) else f"{100 * value:.0f}"
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center_baseline", fontsize=8.5, color=colour)
        axes.set_xticks(np.arange(len(columns)) + 0.5, columns)
        axes.set_yticks(np.arange(len(rows)) + 0.5, rows[::-1])
        _bare(axes)
        axes.set_title(title)
        axes.set_xlabel("severity")
    low_row, low_column = np.unravel_index(np.nanargmin(values), values.shape)
    alt = (
        f"Heat map, {title}: {what} in percent for {len(rows)} corruptions by severity. Lowest, "
        f"{percent(values[low_row, low_column])}, for {rows[low_row]} at severity {columns[low_column]}."
    )
    return Drawing(name, alt, figure)


def dumbbells(
    name: str, title: str, rows: Sequence[str], frozen: np.ndarray, refit: np.ndarray, look: Look, what: str
) -> Drawing:
    """Two values per row, joined: a filled dot for frozen clusters and a ring for refitted ones."""
    with drawing():
        figure = panel(330, 52 + 19 * len(rows), left=_room(rows))
        axes = figure.add_subplot()
        places = np.arange(len(rows))[::-1]
        axes.hlines(places, frozen, refit, color=look.colour, alpha=0.45, linewidth=2.2)
        axes.plot(frozen, places, "o", color=look.colour, markersize=6)
        axes.plot(
            refit,
            places,
            "o",
            markerfacecolor=PAPER,
            markeredgecolor=look.colour,
            markeredgewidth=1.6,
            markersize=6,
        )
        axes.set_yticks(places, rows)
        _bare(axes)
        axes.grid(visible=True, axis="x")
        axes.set_title(title)
        _percent_axis(axes, "x")
    gains = refit - frozen
    alt = (
        f"Dot plot, {title}: {what} by corruption, frozen against refitted clusters. Refitting changes it by "
        f"{percent(np.nanmean(gains))} points on average, from {percent(np.nanmin(gains))} to {percent(np.nanmax(gains))}."
    )
    return Drawing(name, alt, figure)


@dataclass(frozen=True)
class Strip:
    """The values of one encoder's runs."""

    label: str
    look: Look
    values: np.ndarray


def strips(name: str, title: str, groups: Sequence[Strip], what: str) -> Drawing:
    """One dot per run, one row per encoder, a bar at the mean."""
    with drawing():
        figure = panel(330, 54 + 34 * len(groups), left=_room([_short(group.label) for group in groups]))
        axes = figure.add_subplot()
        for place, group in enumerate(reversed(groups)):
            offsets = np.resize([0.0, 0.14, -0.14, 0.07, -0.07], len(group.values))
            axes.plot(
                group.values, place + offsets, group.look.marker, color=group.look.colour, alpha=0.6, markersize=4.5,
                markeredgewidth=0,
            )  # fmt: skip
            axes.vlines(group.values.mean(), place - 0.3, place + 0.3, color=group.look.colour, linewidth=2)
        axes.set_yticks(range(len(groups)), [_short(group.label) for group in reversed(groups)])
        axes.set_ylim(-0.6, len(groups) - 0.4)
        _bare(axes)
        axes.grid(visible=True, axis="x")
        axes.set_title(title)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}")
        axes.locator_params(axis="x", nbins=6)
    parts = [
        f"{g.label} {percent(g.values.mean())} (from {percent(g.values.min())} to {percent(g.values.max())})"
        for g in groups
    ]
    return Drawing(name, f"{title}: {what} of each run. Means: {'; '.join(parts)}.", figure)


def scatter(name: str, title: str, x: np.ndarray, y: np.ndarray, look: Look, rho: float) -> Drawing:
    """Drop against agreement, one dot per condition, with Spearman's rank correlation."""
    with drawing():
        figure = panel(300, 230, left=44, bottom=40)
        axes = figure.add_subplot()
        axes.plot(x, y, look.marker, color=look.colour, alpha=0.55, markersize=4.5, markeredgewidth=0)
        axes.grid(visible=True, axis="both")
        axes.set_title(title)
        axes.text(
            0.98,
            0.95,
            f"ρ = {rho:.2f}".replace("-", "−"),
            transform=axes.transAxes,
            ha="right",
            va="top",
            color=INK,
        )
        axes.set_xlabel("agreement with the clean partition")
        axes.set_ylabel("drop")
        axes.set_xlim(-0.03, 1.03)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}")
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}".replace("-", "−"))
    alt = f"Scatter, {title}: drop against label-free agreement over {len(x)} conditions, Spearman rho {rho:.2f}."
    return Drawing(name, alt, figure)


def embedding(name: str, title: str, points: np.ndarray, clusters: np.ndarray, limits: np.ndarray) -> Drawing:
    """Features on two axes, (n, 2), coloured by cluster; points outside ``limits`` (2, 2) are drawn on its edge."""
    with drawing():
        figure = panel(300, 318, left=4, right=4, bottom=4)
        axes = figure.add_subplot()
        inside = np.clip(points, limits[0], limits[1])
        for cluster in np.unique(clusters):
            here = inside[clusters == cluster]
            turn, place = divmod(int(cluster), len(CLUSTERS))
            style: dict[str, Any] = {"color": CLUSTERS[place], "marker": MARKERS[turn % len(MARKERS)]}
            axes.scatter(*here.T, s=13, linewidths=0.4, edgecolors="#ffffff", rasterized=True, **style)
        margin = 0.04 * (limits[1] - limits[0])
        axes.set_xlim(limits[0, 0] - margin[0], limits[1, 0] + margin[0])
        axes.set_ylim(limits[0, 1] - margin[1], limits[1, 1] + margin[1])
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set(visible=True, color=LINE)
        axes.set_title(title)
    alt = f"Map of the features of {len(points)} images, {title}, coloured by their {len(np.unique(clusters))} clusters."
    return Drawing(name, alt, figure)


def _room(names: Sequence[str], more: float = 12) -> float:
    """Pixels that names on an axis take; widths of letters are only known to the reader's browser."""
    return more + 5.6 * max(map(len, names), default=0)


def _short(label: str) -> str:
    return label if len(label) <= 24 else f"{label[:11]}…{label[-12:]}"


def _bare(axes: Axes) -> None:
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _percent_axis(axes: Axes, which: str = "y") -> None:
    ticks = [0, 0.25, 0.5, 0.75, 1]
    labels = [f"{100 * tick:.0f}" for tick in ticks]
    if which == "y":
        axes.set_ylim(0, 1.03)
        axes.set_yticks(ticks, labels)
    else:
        axes.set_xlim(-0.02, 1.03)
        axes.set_xticks(ticks, labels)


def _label_ends(axes: Axes, lines: Sequence[Curve], gap: float = 0.065) -> None:
    """Names at the right ends, moved apart where lines end close together."""
    known = [line for line in lines if np.isfinite(line.mean[-1])]
    if not known:
        return
    ordered = sorted(known, key=lambda line: line.mean[-1])
    heights = np.array([line.mean[-1] for line in ordered])
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    heights -= max(heights[-1] - 1.0, 0)
    for line, height in zip(ordered, heights, strict=True):
        axes.annotate(
            f"{_short(line.entrant.label)} {percent(line.mean[-1])}", (line.severities[-1], height), xytext=(8, 0),
            textcoords="offset points", va="center", color=line.entrant.look.colour, fontsize=9.5, annotation_clip=False,
        )  # fmt: skip


def _curves_in_words(title: str, what: str, lines: Sequence[Curve]) -> str:
    parts = [
        f"{line.entrant.label} goes from {percent(line.mean[0])} to {percent(line.mean[-1])}"
        for line in lines
        if np.isfinite(line.mean).any()
    ]
    ends = {(line.severities[0], line.severities[-1]) for line in lines}
    first, last = min(ends) if ends else (0, 0)
    span = f"from {SEVERITY_NAMES.get(first, f'severity {first}')} to severity {last}"
    return f"Line chart, {title}: {what} in percent {span}. {'; '.join(parts)}."
