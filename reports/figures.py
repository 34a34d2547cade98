"""Curves and grids, each one small panel. Values are fractions; axes show percent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import offset_copy

from shiftbench.reports.names import percent
from shiftbench.reports.style import (
    HEAT,
    INK,
    MUTED,
    PAPER,
    ROW_HEIGHT,
    Drawing,
    Style,
    apart,
    bare,
    drawing,
    headed,
    panel,
    percent_ticks,
    room,
    severity_name,
    short,
)
from shiftbench.reports.view import Curve


def curves(
    name: str,
    title: str,
    lines: Sequence[Curve],
    *,
    what: str,
    size: tuple[float, float] = (270, 190),
    labelled: bool = False,
    chance: float = float("nan"),
    top: float = 1.0,
) -> Drawing:
    """Lines over severity with their bands.

    Args:
        what: the quantity, for the alternative text ("ACC").
        size: in pixels.
        labelled: write the encoders' names and last values at the ends of their lines.
        chance: a dotted level, what luck gives; named where the lines are.
        top: where the axis ends.
    """
    with drawing():
        names = [short(line.label) for line in lines] if labelled else []
        figure = panel(*size, right=room(names, 54) if labelled else 10, bottom=40 if labelled else 22)
        axes = headed(figure, title)
        if np.isfinite(chance):
            axes.axhline(chance, color=MUTED, linewidth=1, dashes=(1, 2))
        for line in reversed(lines):  # the first encoder lies on top
            look = line.look
            axes.fill_between(line.severities, line.low, line.high, color=look.colour, alpha=0.2, linewidth=0)
            axes.plot(line.severities, line.mean, **look.line, marker=look.marker, markersize=3.4)
        ticks = sorted({severity for line in lines for severity in line.severities})
        axes.set_xticks(ticks, [severity_name(tick) for tick in ticks])
        percent_ticks(axes, "y", (0, top))
        if labelled:
            axes.set_xlabel("severity")
            _label_ends(figure, axes, lines, chance, top)
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
    high: float,
) -> Drawing:
    """A grid of numbers (rows, columns) coloured from ``low`` to ``high``; what was not measured stays empty."""
    with drawing():
        figure = panel(330, 62 + ROW_HEIGHT * len(rows), left=room(rows), bottom=36)
        axes = headed(figure, title)
        axes.pcolormesh(values[::-1], vmin=low, vmax=high, cmap=HEAT, edgecolors=PAPER, linewidth=1.2)
        dark = low + 0.62 * (high - low)
        for (row, column), value in np.ndenumerate(values[::-1]):
            colour = MUTED if np.isnan(value) else "#ffffff" if value < dark else "#0b0405"
            text = "–" if np.isnan(value) else f"{100 * value:.0f}"
            place = column + 0.5, row + 0.5
            axes.text(*place, text, fontsize=8.5, color=colour, ha="center", va="center_baseline")
        axes.set_xticks(np.arange(len(columns)) + 0.5, columns)
        axes.set_yticks(np.arange(len(rows)) + 0.5, rows[::-1])
        axes.set_xlabel("severity")
        bare(axes)
    least_row, least_column = divmod(int(np.nanargmin(values)), len(columns))
    alt = (
        f"Heat map, {title}: {what} in percent for {len(rows)} corruptions by severity. Lowest, "
        f"{percent(values[least_row, least_column])}, for {rows[least_row]}, severity {columns[least_column]}."
    )
    return Drawing(name, alt, figure)


def _label_ends(figure: Figure, axes: Axes, lines: Sequence[Curve], chance: float, top: float) -> None:
    """Names at the right ends of an axis up to ``top``, moved apart where lines end close together."""
    ends = [
        (line.mean[-1], f"{short(line.label)} {percent(line.mean[-1])}", INK, line.look.marker, line.look.colour)
        for line in lines
    ]
    ends = sorted(end for end in [*ends, (chance, "chance", MUTED, "_", MUTED)] if np.isfinite(end[0]))
    heights = apart([end[0] for end in ends], 0.065 * top, top)
    mark = offset_copy(axes.transData, figure, x=12, units="points")
    beside: Style = {"xytext": (19, 0), "textcoords": "offset points", "va": "center", "annotation_clip": False}
    for (_, text, ink, marker, colour), height in zip(ends, heights, strict=True):
        place = max(axes.get_xticks()), height
        axes.plot(*place, marker, color=colour, markersize=4.5, transform=mark, clip_on=False)
        axes.annotate(text, place, color=ink, **beside)


def _curves_in_words(title: str, what: str, lines: Sequence[Curve]) -> str:
    parts = [
        f"{line.label} goes from {percent(line.mean[0])} ({severity_name(line.severities[0])}) to "
        f"{percent(line.mean[-1])} ({severity_name(line.severities[-1])})"
        for line in lines
        if np.isfinite(line.mean).any()
    ]
    return f"Line chart, {title}: {what} in percent by severity. {'; '.join(parts)}."
