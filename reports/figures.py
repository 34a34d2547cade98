"""The kinds of figures, each one small panel. Values are fractions; axes show percent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import offset_copy

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
    headed,
    panel,
)
from shiftbench.reports.view import Curve, percent

ROW = 19  # pixels per line of text beside an axis

Style = dict[str, Any]


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
        what: the quantity, for the alternative text ("ACC").
        size: in pixels.
        labelled: write the encoders' names and last values at the ends of their lines.
        chance: a dotted level, what luck gives.
    """
    with drawing():
        names = [_short(line.entrant.label) for line in lines] if labelled else []
        figure = panel(*size, right=_room(names, 54) if labelled else 10, bottom=40 if labelled else 22)
        axes = headed(figure, title)
        if np.isfinite(chance):
            axes.axhline(chance, color=MUTED, linewidth=1, dashes=(1, 2))
            beside = axes.get_yaxis_transform()
            axes.text(0.02, chance + 0.015, "chance", color=MUTED, fontsize=8, transform=beside)
        for line in reversed(lines):  # the first encoder lies on top
            look = line.entrant.look
            axes.fill_between(line.severities, line.low, line.high, color=look.colour, alpha=0.2, linewidth=0)
            axes.plot(line.severities, line.mean, **look.line, marker=look.marker, markersize=3.4)
        ticks = sorted({severity for line in lines for severity in line.severities})
        axes.set_xticks(ticks, [_severity(tick) for tick in ticks])
        _percent_ticks(axes, "y", (0, 1))
        if labelled:
            axes.set_xlabel("severity")
            _label_ends(figure, axes, lines)
    return Drawing(name, _curves_in_words(title, what, lines), figure)


def heatmap(
    name: str,
    title: str,
    values: np.ndarray,
    *,
    what: str,
    rows: Sequence[str],
    columns: Sequence[str],
    low: float,
) -> Drawing:
    """A grid of numbers (rows, columns) coloured from ``low`` to 1; what was not measured stays empty."""
    with drawing():
        figure = panel(330, 62 + ROW * len(rows), left=_room(rows), bottom=36)
        axes = headed(figure, title)
        axes.pcolormesh(values[::-1], vmin=low, vmax=1, cmap=HEAT, edgecolors=PAPER, linewidth=1.2)
        dark = low + 0.62 * (1 - low)
        for (row, column), value in np.ndenumerate(values[::-1]):
            colour = MUTED if np.isnan(value) else "#ffffff" if value < dark else "#0b0405"
            text = "–" if np.isnan(value) else f"{100 * value:.0f}"
            place = column + 0.5, row + 0.5
            axes.text(*place, text, fontsize=8.5, color=colour, ha="center", va="center_baseline")
        axes.set_xticks(np.arange(len(columns)) + 0.5, columns)
        axes.set_yticks(np.arange(len(rows)) + 0.5, rows[::-1])
        axes.set_xlabel("severity")
        _bare(axes)
    least_row, least_column = divmod(int(np.nanargmin(values)), len(columns))
    alt = (
        f"Heat map, {title}: {what} in percent for {len(rows)} corruptions by severity. Lowest, "
        f"{percent(values[least_row, least_column])}, for {rows[least_row]}, severity {columns[least_column]}."
    )
    return Drawing(name, alt, figure)


def dumbbells(
    name: str,
    title: str,
    frozen: np.ndarray,
    refit: np.ndarray,
    *,
    what: str,
    rows: Sequence[str],
    limits: tuple[float, float],
    look: Look,
) -> Drawing:
    """Two values per row, joined: a filled dot for frozen clusters and a ring for refitted ones."""
    with drawing():
        figure = panel(330, 52 + ROW * len(rows), left=_room(rows))
        axes = headed(figure, title)
        places = np.arange(len(rows))[::-1]
        ring: Style = {"markerfacecolor": PAPER, "markeredgecolor": look.colour, "markeredgewidth": 1.6}
        axes.hlines(places, frozen, refit, color=look.colour, alpha=0.45, linewidth=2.2)
        axes.plot(frozen, places, "o", color=look.colour, markersize=6)
        axes.plot(refit, places, "o", markersize=6, **ring)
        axes.set_yticks(places, rows)
        _bare(axes)
        axes.grid(visible=True, axis="x")
        _percent_ticks(axes, "x", limits)
    gains = refit - frozen
    alt = (
        f"Dot plot, {title}: {what} by corruption, frozen against refitted clusters. Refitting changes it by "
        f"{percent(np.nanmean(gains))} points on average, from {percent(np.nanmin(gains))} to "
        f"{percent(np.nanmax(gains))}."
    )
    return Drawing(name, alt, figure)


@dataclass(frozen=True)
class Strip:
    """The values of one encoder's runs."""

    label: str
    look: Look
    values: np.ndarray


def strips(name: str, title: str, groups: Sequence[Strip], *, what: str) -> Drawing:
    """One mark per run, one row per encoder, a bar at the mean."""
    labels = [_short(group.label) for group in groups]
    with drawing():
        figure = panel(330, 54 + 34 * len(groups), left=_room(labels))
        axes = headed(figure, title)
        for place, group in enumerate(reversed(groups)):
            apart = np.resize([0.0, 0.14, -0.14, 0.07, -0.07], len(group.values))
            style: Style = {"color": group.look.colour, "alpha": 0.6, "markersize": 4.5, "markeredgewidth": 0}
            axes.plot(group.values, place + apart, group.look.marker, **style)
            mean = group.values.mean()
            axes.vlines(mean, place - 0.3, place + 0.3, color=group.look.colour, linewidth=2)
        axes.set_yticks(range(len(groups)), labels[::-1])
        axes.set_ylim(-0.6, len(groups) - 0.4)
        _bare(axes)
        axes.grid(visible=True, axis="x")
        axes.locator_params(axis="x", nbins=6)
        axes.xaxis.set_major_formatter(_percent_label)
    parts = [
        f"{group.label} {percent(group.values.mean())} "
        f"(from {percent(group.values.min())} to {percent(group.values.max())})"
        for group in groups
    ]
    return Drawing(name, f"Strip plot, {title}: {what} of each run. Means: {'; '.join(parts)}.", figure)


def scatter(
    name: str, title: str, x: np.ndarray, y: np.ndarray, *, limits: tuple[float, float], look: Look, rho: float
) -> Drawing:
    """Drop against agreement, one mark per condition, with Spearman's rank correlation."""
    with drawing():
        figure = panel(300, 230, left=44, bottom=40)
        axes = headed(figure, title)
        axes.plot(x, y, look.marker, color=look.colour, alpha=0.55, markersize=4.5, markeredgewidth=0)
        axes.grid(visible=True, axis="both")
        corner: Style = {"transform": axes.transAxes, "ha": "right", "va": "top"}
        axes.text(0.98, 0.96, f"ρ = {rho:.2f}".replace("-", "−"), color=INK, **corner)
        axes.set_xlabel("agreement with the clean partition")
        axes.set_ylabel("drop")
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(*limits)
        axes.xaxis.set_major_formatter(_percent_label)
        axes.yaxis.set_major_formatter(_percent_label)
    alt = (
        f"Scatter plot, {title}: drop against label-free agreement over {len(x)} conditions, Spearman's rho {rho:.2f}."
    )
    return Drawing(name, alt, figure)


def embedding(
    name: str, title: str, points: np.ndarray, *, who: str, clusters: np.ndarray, limits: np.ndarray
) -> Drawing:
    """Features on two axes, (n, 2), coloured by cluster; points beyond ``limits`` (2, 2) stand on the edge."""
    with drawing():
        figure = panel(300, 318, left=4, right=4, bottom=4)
        axes = headed(figure, title)
        inside = np.clip(points, limits[0], limits[1])
        for cluster in np.unique(clusters):
            turn, place = divmod(int(cluster), len(CLUSTERS))
            style: Style = {"color": CLUSTERS[place], "marker": MARKERS[turn % len(MARKERS)], "s": 13}
            here = inside[clusters == cluster]
            axes.scatter(*here.T, linewidths=0.4, edgecolors="#ffffff", rasterized=True, **style)
        margin = 0.05 * (limits[1] - limits[0])
        axes.set_xlim(limits[0, 0] - margin[0], limits[1, 0] + margin[0])
        axes.set_ylim(limits[0, 1] - margin[1], limits[1, 1] + margin[1])
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.spines[:].set(visible=True, color=LINE)
    count = len(np.unique(clusters))
    alt = f"Map, {who}, {title}: features of {len(points)} images on two axes, coloured by {count} clusters."
    return Drawing(name, alt, figure)


def _percent_label(value: float, _: float) -> str:
    return f"{100 * value + 0.0:g}".replace("-", "−")


def _percent_ticks(axes: Axes, which: str, limits: tuple[float, float]) -> None:
    low, high = limits
    step = 0.25 if high - low > 0.5 else 0.1
    ticks = [tick for tick in step * np.arange(-10, 11) if low - 1e-9 <= tick <= high + 1e-9]
    labels = [_percent_label(round(tick, 2), 0) for tick in ticks]
    axes.set(**{f"{which}lim": (low - 0.01 * (which == "x"), high + 0.03)})
    axes.set(**{f"{which}ticks": ticks, f"{which}ticklabels": labels})


def _bare(axes: Axes) -> None:
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _room(names: Sequence[str], more: float = 12) -> float:
    """Pixels that names beside an axis take; only the reader's browser knows how wide its letters are."""
    return more + 5.6 * max(map(len, names), default=0)


def _short(label: str) -> str:
    return label if len(label) <= 24 else f"{label[:11]}…{label[-12:]}"


def _severity(severity: int) -> str:
    return str(severity) if severity else "clean"


def _label_ends(figure: Figure, axes: Axes, lines: Sequence[Curve], gap: float = 0.065) -> None:
    """Names at the right ends, moved apart where lines end close together."""
    ordered = sorted((line for line in lines if np.isfinite(line.mean[-1])), key=lambda line: line.mean[-1])
    heights = [line.mean[-1] for line in ordered]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    above = max(max(heights, default=0) - 1, 0)
    for line, height in zip(ordered, heights, strict=True):
        look, place = line.entrant.look, (line.severities[-1], height - above)
        beside: Style = {"xytext": (19, 0), "textcoords": "offset points", "va": "center", "annotation_clip": False}
        mark = offset_copy(axes.transData, figure, x=12, units="points")
        axes.plot(*place, look.marker, color=look.colour, markersize=4.5, transform=mark, clip_on=False)
        text = f"{_short(line.entrant.label)} {percent(line.mean[-1])}"
        axes.annotate(text, place, color=INK, **beside)


def _curves_in_words(title: str, what: str, lines: Sequence[Curve]) -> str:
    parts = [
        f"{line.entrant.label} goes from {percent(line.mean[0])} ({_severity(line.severities[0])}) to "
        f"{percent(line.mean[-1])} ({_severity(line.severities[-1])})"
        for line in lines
        if np.isfinite(line.mean).any()
    ]
    return f"Line chart, {title}: {what} in percent by severity. {'; '.join(parts)}."
