"""Dots: pairs of values, runs, conditions, encoders, features. Values are fractions; axes show percent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logit

from shiftbench.metrics.robustness import MIN_ENCODERS
from shiftbench.reports.names import percent
from shiftbench.reports.style import (
    CLUSTERS,
    INK,
    LINE,
    MARKERS,
    MUTED,
    PAPER,
    ROW_HEIGHT,
    Drawing,
    Look,
    Style,
    bare,
    drawing,
    headed,
    panel,
    percent_label,
    percent_ticks,
    room,
    short,
)


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
        figure = panel(330, 52 + ROW_HEIGHT * len(rows), left=room(rows))
        axes = headed(figure, title)
        places = np.arange(len(rows))[::-1]
        ring: Style = {"markerfacecolor": PAPER, "markeredgecolor": look.colour, "markeredgewidth": 1.6}
        axes.hlines(places, frozen, refit, color=look.colour, alpha=0.45, linewidth=2.2)
        axes.plot(frozen, places, "o", color=look.colour, markersize=6)
        axes.plot(refit, places, "o", markersize=6, **ring)
        axes.set_yticks(places, rows)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        bare(axes)
        axes.grid(visible=True, axis="x")
        percent_ticks(axes, "x", limits)
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
    labels = [short(group.label) for group in groups]
    with drawing():
        figure = panel(330, 54 + 34 * len(groups), left=room(labels))
        axes = headed(figure, title)
        for place, group in enumerate(reversed(groups)):
            apart = np.resize([0.0, 0.14, -0.14, 0.07, -0.07], len(group.values))
            style: Style = {"color": group.look.colour, "alpha": 0.6, "markersize": 4.5, "markeredgewidth": 0}
            axes.plot(group.values, place + apart, group.look.marker, **style)
            mean = group.values.mean()
            axes.vlines(mean, place - 0.3, place + 0.3, color=group.look.colour, linewidth=2)
        axes.set_yticks(range(len(groups)), labels[::-1])
        axes.set_ylim(-0.6, len(groups) - 0.4)
        bare(axes)
        axes.grid(visible=True, axis="x")
        axes.locator_params(axis="x", nbins=6)
        axes.xaxis.set_major_formatter(percent_label)
    parts = [
        f"{group.label} {percent(group.values.mean())} "
        f"(from {percent(group.values.min())} to {percent(group.values.max())})"
        for group in groups
    ]
    return Drawing(name, f"Strip plot, {title}: {what} of each run. Means: {'; '.join(parts)}.", figure)


def scatter(name: str, title: str, x: np.ndarray, y: np.ndarray, *, look: Look, note: str, **limits: Any) -> Drawing:
    """Drop against agreement, one mark per condition.

    Args:
        note: what the corner and the alternative text say of their correlation.
        limits: ``xlim`` and ``ylim``.
    """
    with drawing():
        figure = panel(300, 230, left=44, bottom=40)
        axes = headed(figure, title)
        axes.plot(x, y, look.marker, color=look.colour, alpha=0.55, markersize=4.5, markeredgewidth=0)
        axes.grid(visible=True, axis="both")
        corner: Style = {"transform": axes.transAxes, "ha": "right", "va": "top"}
        axes.text(0.98, 0.97, note, color=INK, **corner)
        axes.set_xlabel("agreement with the clean partition")
        axes.set_ylabel("drop")
        axes.set(**limits)
        axes.xaxis.set_major_formatter(percent_label)
        axes.yaxis.set_major_formatter(percent_label)
    alt = f"Scatter plot, {title}: drop against label-free agreement over {len(x)} conditions, {note}."
    return Drawing(name, alt, figure)


@dataclass(frozen=True)
class Pair:
    """One encoder's score on clean images and on shifted ones, (value, low, high) each."""

    label: str
    look: Look
    clean: tuple[float, float, float]
    shifted: tuple[float, float, float]


def pairs(name: str, title: str, rows: Sequence[Pair], *, what: str) -> Drawing:
    """One row per encoder: a ring for the clean images, a filled dot for the shifted ones, with their intervals."""
    labels = [short(row.label) for row in rows]
    with drawing():
        figure = panel(330, 54 + 26 * len(rows), left=room(labels))
        axes = headed(figure, title)
        for place, row in enumerate(reversed(rows)):
            colour = row.look.colour
            axes.hlines(place, row.clean[0], row.shifted[0], color=colour, alpha=0.45, linewidth=2.2)
            for _, low, high in (row.clean, row.shifted):
                axes.hlines(place, low, high, color=colour, linewidth=0.9)
                axes.vlines([low, high], place - 0.13, place + 0.13, color=colour, linewidth=0.9)
            axes.plot(row.shifted[0], place, "o", color=colour, markersize=6)
            ring: Style = {"markerfacecolor": PAPER, "markeredgecolor": colour, "markeredgewidth": 1.6}
            axes.plot(row.clean[0], place, "o", markersize=6, **ring)
        axes.set_yticks(range(len(rows)), labels[::-1])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        bare(axes)
        axes.grid(visible=True, axis="x")
        axes.locator_params(axis="x", nbins=6)
        axes.xaxis.set_major_formatter(percent_label)
    parts = [f"{row.label} from {percent(row.clean[0])} to {percent(row.shifted[0])}" for row in rows]
    return Drawing(name, f"Dot plot, {title}: {what}, clean and shifted. {'; '.join(parts)}.", figure)


@dataclass(frozen=True)
class Dot:
    """One encoder, by its clean and its shifted score."""

    label: str
    look: Look
    named: bool
    clean: float
    shifted: float


def versus(name: str, title: str, dots: Sequence[Dot], *, what: str) -> Drawing:
    """Shifted against clean score, one dot per encoder, and what the clean score predicts.

    The line is the one that effective robustness is measured from: straight on logit scale, by least squares, through
    at least ``MIN_ENCODERS`` encoders. The dotted diagonal is no loss at all.
    """
    clean, shifted = np.array([(dot.clean, dot.shifted) for dot in dots]).T
    values = np.concatenate([clean, shifted])
    low, high = float(min(values.min(), 0.9)), float(max(values.max(), 0.1))
    low, high = low - 0.06 * (high - low + 0.1), high + 0.06 * (high - low + 0.1)
    inside = (clean > 0) & (clean < 1) & (shifted > 0) & (shifted < 1)
    predicted = bool(inside.sum() >= MIN_ENCODERS and np.ptp(clean[inside]) > 0)
    with drawing():
        figure = panel(330, 300, left=44, bottom=40)
        axes = headed(figure, title)
        axes.grid(visible=True, axis="both")
        axes.plot([low, high], [low, high], color=MUTED, linewidth=1, dashes=(1, 2), zorder=1)
        if predicted:
            slope, level = np.polyfit(logit(clean[inside]), logit(shifted[inside]), 1)
            x = np.linspace(max(low, 0.002), min(high, 0.998), 60)
            axes.plot(x, expit(level + slope * logit(x)), color=MUTED, linewidth=1.4)
        for dot in dots:
            axes.plot(
                dot.clean, dot.shifted, dot.look.marker, color=dot.look.colour, markersize=6 if dot.named else 3.5
            )
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
        axes.set_xlabel("clean")
        axes.set_ylabel("mean shifted")
        axes.xaxis.set_major_formatter(percent_label)
        axes.yaxis.set_major_formatter(percent_label)
    parts = [f"{dot.label} {percent(dot.clean)} and {percent(dot.shifted)}" for dot in dots if dot.named]
    line = f" A line through all {inside.sum()} encoders shows what the clean score predicts." if predicted else ""
    return Drawing(name, f"Scatter plot, {title}: {what}, clean and mean shifted: {'; '.join(parts)}.{line}", figure)


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
