"""The overview: one row per encoder, protocol and metric; for the page, the terminal and a README."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from shiftbench.reports.glossary import QUANTITIES, Quantity
from shiftbench.reports.view import Entrant, View, condition_name, metric_name, percent, views
from shiftbench.results import Results
from shiftbench.summary import BASELINE, CONDITION

SHORT = ("clean", "shifted", "worst", "drop", "calibrated_drop", "mce", "stability", "agreement")
# Only these can be led: drops and relative mCE are small for whoever has little to lose.
RANKED = ("clean", "shifted", "worst", "mce", "stability")


@dataclass(frozen=True)
class Number:
    """A value and the bounds of its interval, NaN where there are none."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Row:
    """One line of the overview.

    Attributes:
        metric: empty where nothing was labelled; then only stability and agreement are known.
        numbers: by key of ``QUANTITIES``; what is not known is absent.
        worst_case: how people read the condition behind "worst".
        leads: the quantities in which this row is best and its interval overlaps no other's.
    """

    entrant: Entrant
    shift: str
    protocol: str
    metric: str
    numbers: dict[str, Number]
    worst_case: str = ""
    chance: float = math.nan
    n_runs: int = 0
    n_ok: int = 0
    n_cells: int = 0
    leads: set[str] = field(default_factory=set)

    def number(self, key: str) -> Number:
        """A quantity, NaN where it is not known."""
        return self.numbers.get(key, Number(math.nan))


def baseline_of(summary: pd.DataFrame) -> str:
    """The encoder that normalises mCE in a summary table: its name stands in the column."""
    names = [column for column in summary.columns if column.startswith("mce[baseline=")]
    return names[0].removeprefix("mce[baseline=").removesuffix("]") if names else BASELINE


def column_of(key: str, baseline: str) -> str:
    """The summary column of a quantity or one of its bounds."""
    return f"{key}[baseline={baseline}]" if key.startswith(("mce", "relative_mce")) else key


def overview(view: View) -> list[Row]:
    """Rows by shift, metric, protocol and encoder, in the order in which they are shown."""
    rows: list[Row] = []
    for shift in view.shifts or ["clean"]:
        for metric in view.metrics or [""]:
            for protocol in view.protocols:
                found = [_row(view, entrant, shift, protocol, metric) for entrant in view.entrants]
                _mark_leads(found)
                rows += found
    return rows


def quantities_of(rows: Sequence[Row]) -> list[Quantity]:
    """The quantities that some row has."""
    return [q for key, q in QUANTITIES.items() if any(math.isfinite(row.number(key).value) for row in rows)]


def terminal_table(results: Results) -> Table:
    """The short table that the terminal shows: ACC and ARI, each protocol, percent, ``±`` half the interval.

    Fits 100 columns; long names of encoders fold.
    """
    rows, quantities = _short(results)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("", min_width=12, overflow="fold")
    for quantity in quantities:
        left = quantity.key == "worst"
        table.add_column(quantity.short, justify="left" if left else "right", no_wrap=True, vertical="bottom")
    section = None
    for view, row in rows:
        if section != (section := (view.data, row.shift, row.metric, row.protocol)):
            if table.row_count:
                table.add_row()
            table.add_row(Text(_section(view, row), style="bold"))
        cells = [Text(_cell(row, quantity.key)) for quantity in quantities]
        table.add_row(Text(row.entrant.label, style="dim" if row.entrant.floor else ""), *cells)
    return table


def markdown_table(results: Results) -> str:
    """The same table in GitHub's Markdown."""
    rows, quantities = _short(results)
    heads = ["metric", "clusters", "encoder", *(quantity.short.replace("\n", " ") for quantity in quantities)]
    lines = [heads, ["---"] * 3 + ["---" if q.key == "worst" else "---:" for q in quantities]]
    lines += [
        [
            metric_name(row.metric) or "–",
            row.protocol,
            row.entrant.label,
            *(_cell(row, q.key) for q in quantities),
        ]
        for _, row in rows
    ]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


@dataclass(frozen=True)
class Failure:
    """Cells of one encoder that were not measured, for one reason."""

    encoder: str
    status: str
    reason: str
    conditions: list[str]


def failures(view: View) -> list[Failure]:
    """What was not measured and why, by encoder and reason."""
    columns = ["encoder", "status", "reason", *CONDITION]
    table = pd.concat([view.cells[columns], view.stability[columns]])
    table = table[(table["status"] != "ok") & (table["shift"] != "chance")].drop_duplicates()
    found: dict[tuple[str, str, str], list[str]] = {}
    for encoder, status, reason, shift, corruption, severity in table.itertuples(index=False, name=None):
        found.setdefault((encoder, status, reason), []).append(condition_name(corruption, severity, shift))
    return [Failure(*key, conditions) for key, conditions in found.items()]


def _row(view: View, entrant: Entrant, shift: str, protocol: str, metric: str) -> Row:
    same = view.summary[(view.summary["encoder"] == entrant.encoder) & (view.summary["feature"] == entrant.feature)]
    same = same[(same["selection"] == entrant.selection) & (same["shift"] == shift)]
    same = same[(same["protocol"] == protocol) & (same["metric"] == metric)]
    numbers = _agreements(view, entrant, shift, protocol)
    if same.empty:
        return Row(entrant, shift, protocol, metric, numbers)
    line = same.iloc[0].to_dict()
    baseline = baseline_of(view.summary)
    for key in QUANTITIES:
        value, low, high = (line.get(column_of(part, baseline), math.nan) for part in _parts(key))
        if pd.notna(value):
            numbers[key] = Number(float(value), float(low), float(high))
    name, _, severity = line["worst_case"].rpartition("-")
    return Row(
        entrant,
        shift,
        protocol,
        metric,
        numbers,
        worst_case=condition_name(name, int(severity)) if severity.isdigit() else line["worst_case"],
        chance=float(line["chance"]),
        n_runs=int(line["n_runs"]),
        n_ok=int(line["n_ok"]),
        n_cells=int(line["n_cells"]),
    )


def _parts(key: str) -> tuple[str, str, str]:
    return key, f"{key}_low", f"{key}_high"


def _agreements(view: View, entrant: Entrant, shift: str, protocol: str) -> dict[str, Number]:
    """Stability of the clean partition over random starts, and agreement of shifted partitions with it."""
    starts = view.agreement(entrant, protocol, "initialization")
    clean = starts[starts["shift"] == "clean"]
    moved = view.agreement(entrant, protocol, "shift")
    moved = moved[moved["shift"] == shift]
    found = {}
    if len(clean):
        found["stability"] = Number(*clean.iloc[0][["mean", "ci_low", "ci_high"]].astype(float))
    if len(moved):
        found["agreement"] = Number(float(moved["mean"].mean()))
    return found


def _mark_leads(rows: Sequence[Row]) -> None:
    for key in RANKED:
        numbers = [row.number(key) for row in rows]
        known = [number for number in numbers if np.isfinite([number.value, number.low, number.high]).all()]
        if len(known) < 2 or len(known) < sum(math.isfinite(number.value) for number in numbers):
            continue
        sign = 1 if QUANTITIES[key].higher_is_better else -1
        best = max(known, key=lambda number: sign * number.value)
        others = [number for number in known if number is not best]
        if all(best.low > one.high if sign > 0 else best.high < one.low for one in others):
            rows[numbers.index(best)].leads.add(key)


def _short(results: Results) -> tuple[list[tuple[View, Row]], list[Quantity]]:
    rows = [(view, row) for view in views(results) for row in overview(view) if row.metric in (view.headline or [""])]
    shown = quantities_of([row for _, row in rows])
    return rows, [quantity for quantity in shown if quantity.key in SHORT]


def _section(view: View, row: Row) -> str:
    parts = [metric_name(row.metric), row.protocol]
    parts += [row.shift] if len(view.shifts) > 1 else []
    return " · ".join(part for part in parts if part)


def _cell(row: Row, key: str) -> str:
    number = row.number(key)
    text = percent(number.value)
    if key == "worst" and row.worst_case:
        return f"{text} {row.worst_case}"
    if key in ("clean", "shifted") and math.isfinite(number.half):
        return f"{text}±{percent(number.half)}"
    return text
