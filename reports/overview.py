"""The overview: one row per encoder, shift, protocol and metric, and who leads it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from shiftbench.reports.candidates import Candidate
from shiftbench.reports.glossary import QUANTITIES, Quantity
from shiftbench.reports.names import condition_name
from shiftbench.reports.view import View
from shiftbench.results.runs import CANDIDATE
from shiftbench.results.summary import BASELINE, CONDITION

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

    candidate: Candidate
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

    @property
    def is_complete(self) -> bool:
        """Whether every cell was measured."""
        return self.n_ok == self.n_cells

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
        agreements = {
            (candidate, protocol): _agreements(view, candidate, shift, protocol)
            for candidate in view.candidates
            for protocol in view.protocols
        }
        for metric in (view.metrics if metrics is None else metrics) or [""]:
            for protocol in view.protocols:
                found = [
                    _row(view, candidate, shift, protocol, metric, baseline, agreements[candidate, protocol])
                    for candidate in view.candidates
                ]
                found = [row for row in found if row.n_cells or row.numbers or not view.metrics]
                if metric:
                    _mark_leads(view, found)
                rows += found
    return rows


def quantities_of(rows: Sequence[Row]) -> list[Quantity]:
    """The quantities that some row has."""
    return [q for key, q in QUANTITIES.items() if any(math.isfinite(row.number(key).value) for row in rows)]


def difference(view: View, one: Row, other: Row, shift: str) -> tuple[Number, float]:
    """How far one encoder is above another, and the p-value of their paired test; NaN where there is no test."""
    table = view.comparisons_of(shift, one.protocol, one.metric)
    for a, b, sign in ((one, other, 1), (other, one, -1)):
        found = table[_is(table, "a", a.candidate) & _is(table, "b", b.candidate)]
        if len(found):
            p = corrected(found).fillna(math.inf).to_numpy()
            weakest = int(p.argmax())  # of several k
            number = Number(*found.iloc[weakest][["difference", "low", "high"]].astype(float))
            return (number if sign > 0 else -number), p[weakest] if np.isfinite(p[weakest]) else math.nan
    return Number(math.nan), math.nan


def corrected(comparisons: pd.DataFrame) -> pd.Series:
    """The p-values, corrected for all pairs: jointly, or by Holm's method where there is no joint one."""
    return comparisons["p_joint"].fillna(comparisons["p_holm"])


def _is(comparisons: pd.DataFrame, side: str, candidate: Candidate) -> pd.Series:
    names = zip(("encoder", "feature", "selection"), candidate.key, strict=True)
    return np.logical_and.reduce([comparisons[f"{name}_{side}"] == value for name, value in names])


def _mark_leads(view: View, rows: Sequence[Row]) -> None:
    """The best of a column leads it if every other encoder is below it by a test that counts all pairs."""
    for key in TESTED:
        known = [row for row in rows if math.isfinite(row.number(key).value)]
        shift = "clean" if key == "clean" else rows[0].shift
        if len(known) < 2:
            continue
        best = max(known, key=lambda row: row.number(key).value)
        table = view.comparisons_of(shift, best.protocol, best.metric)
        if key == "clean":  # of the same images
            table = table[table["split"] == view.split(rows[0].shift)]
        won: dict[tuple[str, ...], bool] = {}  # where k is estimated, a pair has a test for each k that both have
        for side, other, sign in (("a", "b", 1), ("b", "a", -1)):
            against = table[_is(table, side, best.candidate)]
            rivals = against[[f"{name}_{other}" for name in CANDIDATE]].itertuples(index=False, name=None)
            for rival, gap, p in zip(rivals, sign * against["difference"], corrected(against), strict=True):
                won[rival] = won.get(rival, True) and bool(gap > 0 and p <= LEVEL)
        if all(won.get(row.candidate.key, False) for row in rows if row is not best):
            best.leads.add(key)


def _row(
    view: View,
    candidate: Candidate,
    shift: str,
    protocol: str,
    metric: str,
    baseline: str,
    agreements: dict[str, Number],
) -> Row:
    numbers = dict(agreements)
    line = view.line(candidate, shift, protocol, metric)
    if line is None:
        return Row(candidate, view.clusterer, shift, protocol, metric, numbers)
    for key in QUANTITIES:
        number = number_of(line, key, baseline)
        if math.isfinite(number.value):
            numbers[key] = number
    name, _, severity = line["worst_case"].rpartition("-")
    return Row(
        candidate,
        view.clusterer,
        shift,
        protocol,
        metric,
        numbers,
        worst_case=condition_name(name, int(severity)) if severity.isdigit() else line["worst_case"],
        n_runs=int(line["n_runs"]),
        n_ok=int(line["n_ok"]),
        n_cells=int(line["n_cells"]),
    )


def _agreements(view: View, candidate: Candidate, shift: str, protocol: str) -> dict[str, Number]:
    """Stability of the clean partition over random starts, and agreement of shifted partitions with it."""
    split = view.split(shift)
    found = {
        "stability": Number(*view.mean_agreement(candidate, protocol, "initialization", "clean", split=split)),
        "agreement": Number(*view.mean_agreement(candidate, protocol, "shift", shift, split=split)),
    }
    return {key: number for key, number in found.items() if math.isfinite(number.value)}


@dataclass(frozen=True)
class Failure:
    """Cells of one encoder that were not measured, for one reason."""

    encoder: str
    what: str
    status: str
    reason: str
    conditions: list[str]


def failures(cells: Sequence[pd.DataFrame], stability: Sequence[pd.DataFrame]) -> list[Failure]:
    """What was not measured and why, by encoder, status and reason.

    ``what`` is the metric that is not defined, or the axis of stability; empty for all scores of a condition.
    """
    columns = ["encoder", "what", "status", "reason", *CONDITION]
    tables = []
    for table in cells:
        missing = table[(table["status"] != "ok") & (table["shift"] != "chance")]
        single = missing["reason"].str.startswith("not defined")
        tables.append(missing.assign(what=missing["metric"].where(single, "")))
    for table in stability:
        tables.append(table[table["status"] != "ok"].rename(columns={"axis": "what"}))
    table = pd.concat([one[columns].drop_duplicates() for one in tables])
    found: dict[tuple[str, str, str], dict[str, dict[str, None]]] = {}
    for encoder, what, status, reason, shift, corruption, severity in table.itertuples(index=False, name=None):
        of_reason = found.setdefault((encoder, status, reason), {})
        of_reason.setdefault(what, {})[condition_name(corruption, severity, shift)] = None
    rows = []
    for (encoder, status, reason), by_what in found.items():
        for what, conditions in by_what.items():
            if not (what and conditions.keys() <= by_what.get("", {}).keys()):  # no scores, so no agreement either
                rows.append(Failure(encoder, what, status, reason, list(conditions)))
    return rows
