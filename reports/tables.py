"""The overview: one row per encoder, shift, protocol and metric, and who leads it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from shiftbench.reports.glossary import QUANTITIES, Quantity
from shiftbench.reports.names import condition_name
from shiftbench.reports.view import Entrant, View
from shiftbench.summary import BASELINE, CONDITION

LEVEL = 0.05  # of the paired test, corrected for all pairs
TESTED = ("clean", "shifted")  # what the comparisons test, and so all that can be led


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

    def __neg__(self) -> Number:
        return Number(-self.value, -self.high, -self.low)


@dataclass(frozen=True)
class Row:
    """One line of the overview.

    Attributes:
        metric: empty where nothing was labelled; then only stability and agreement are known.
        numbers: by key of ``QUANTITIES``; what is not known is absent.
        worst_case: how people read the condition behind "worst".
        leads: the quantities in which the paired tests put this row before every other.
    """

    entrant: Entrant
    clusterer: str
    shift: str
    protocol: str
    metric: str
    numbers: dict[str, Number]
    worst_case: str = ""
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


def number_of(line: Mapping[str, Any] | None, key: str, baseline: str = BASELINE) -> Number:
    """A quantity of a row of the summary, NaN where it is not known."""
    parts = (key, f"{key}_low", f"{key}_high")
    return Number(*(float((line or {}).get(column_of(part, baseline), math.nan)) for part in parts))


def overview(view: View, metrics: Sequence[str] | None = None) -> list[Row]:
    """Rows by shift, metric, protocol and encoder, in the order in which they are shown; by default of all metrics."""
    baseline = baseline_of(view.summary)
    rows: list[Row] = []
    for shift in view.shifts or ["clean"]:
        for metric in (view.metrics if metrics is None else metrics) or [""]:
            for protocol in view.protocols:
                found = [_row(view, entrant, shift, protocol, metric, baseline) for entrant in view.entrants]
                found = [row for row in found if row.n_cells or row.numbers or not view.metrics]
                if metric:
                    _mark_leads(view, found)
                rows += found
    return rows


def quantities_of(rows: Sequence[Row]) -> list[Quantity]:
    """The quantities that some row has."""
    return [q for key, q in QUANTITIES.items() if any(math.isfinite(row.number(key).value) for row in rows)]


def difference(view: View, one: Row, other: Row, shift: str) -> tuple[Number, float]:
    """How far one encoder is above another, and the corrected p-value of their paired test; NaN without a test."""
    table = _Tests.of(view).get((shift, one.protocol, one.metric))
    for a, b, sign in ((one, other, 1), (other, one, -1)):
        found = {} if table is None else table.get((a.entrant.key, b.entrant.key), {})
        if found:
            number = Number(*(found[name] for name in ("difference", "low", "high")))
            return number if sign > 0 else -number, found["p"]
    return Number(math.nan), math.nan


class _Tests:
    """The comparisons of a view by shift, protocol and metric, then by pair."""

    @staticmethod
    def of(view: View) -> dict[Any, dict[Any, dict[str, float]]]:
        """Read once per view."""
        if not hasattr(view, "_tests"):
            view._tests = _Tests._read(view)  # type: ignore[attr-defined]
        return view._tests  # type: ignore[attr-defined,no-any-return]
