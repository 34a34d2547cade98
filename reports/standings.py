"""How each candidate stands under one shift, protocol and metric, and who leads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from shiftbench.reports.candidates import ShownCandidate
from shiftbench.reports.headline import MOVED, STARTS
from shiftbench.reports.names import is_higher_better, label_in_words
from shiftbench.reports.terms import QUANTITIES, Quantity
from shiftbench.reports.view import View
from shiftbench.results.runs import CANDIDATE
from shiftbench.results.summary import BASELINE

SIGNIFICANCE = 0.05  # of the paired test, corrected for all pairs
TESTED = ("clean", "shifted")  # what the comparisons test, and so all that can be led
NORMALISED = ("mce", "relative_mce")  # by a baseline, whose name their columns bear


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
class Standing:
    """One line of the overview.

    Attributes:
        metric: empty where nothing was labelled; then only stability and agreement are known.
        numbers: by key of ``QUANTITIES``; what is not known is absent.
        worst_case: how people read the condition behind "worst".
        leads: the quantities in which the paired tests put this candidate before every other.
    """

    candidate: ShownCandidate
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

    def has(self, key: str) -> bool:
        """Whether a quantity is known."""
        return math.isfinite(self.number(key).value)


def baseline_of(summary: pd.DataFrame) -> str:
    """The encoder that normalises mCE in a summary table: its name stands in the column."""
    names = [column for column in summary.columns if column.startswith("mce[baseline=")]
    return names[0].removeprefix("mce[baseline=").removesuffix("]") if names else BASELINE


def column_of(key: str, baseline: str) -> str:
    """The summary column of a quantity or one of its bounds."""
    return f"{key}[baseline={baseline}]" if key.startswith(NORMALISED) else key


def number_of(line: Mapping[str, Any] | None, key: str, baseline: str = BASELINE) -> Number:
    """A quantity of a row of the summary, NaN where it is not known."""
    parts = (key, f"{key}_low", f"{key}_high")
    return Number(*(float((line or {}).get(column_of(part, baseline), math.nan)) for part in parts))


def standings(view: View, metrics: Sequence[str] | None = None) -> list[Standing]:
    """By shift, metric, protocol and candidate, in the order in which they are shown; by default of all metrics."""
    baseline = baseline_of(view.summary)
    rows: list[Standing] = []
    for shift in view.shifts or ["clean"]:
        agreements = {
            (candidate, protocol): _agreements(view, candidate, shift, protocol)
            for candidate in view.candidates
            for protocol in view.protocols
        }
        for metric in (view.metrics if metrics is None else metrics) or [""]:
            for protocol in view.protocols:
                rivals = [
                    _standing(view, candidate, shift, protocol, metric, baseline, agreements[candidate, protocol])
                    for candidate in view.candidates
                ]
                rivals = [row for row in rivals if row.n_cells or row.numbers or not view.metrics]
                if metric:
                    _mark_leads(view, rivals)
                rows += rivals
    return rows


def quantities_of(rows: Sequence[Standing]) -> list[Quantity]:
    """The quantities that some row has."""
    return [quantity for key, quantity in QUANTITIES.items() if any(row.has(key) for row in rows)]


def difference(view: View, row: Standing, other: Standing, shift: str) -> tuple[Number, float]:
    """How far one candidate is above another, and the p-value of their paired test; NaN where there is no test."""
    table = view.comparisons_of(shift, row.protocol, row.metric)
    for a, b, sign in ((row, other, 1), (other, row, -1)):
        pair = table[_is(table, "a", a.candidate) & _is(table, "b", b.candidate)]
        if len(pair):
            p = corrected(pair).fillna(math.inf).to_numpy()
            weakest = int(p.argmax())  # of several k
            number = Number(*pair.iloc[weakest][["difference", "low", "high"]].astype(float))
            return (number if sign > 0 else -number), p[weakest] if np.isfinite(p[weakest]) else math.nan
    return Number(math.nan), math.nan


def corrected(comparisons: pd.DataFrame) -> pd.Series:
    """The p-values, corrected for all pairs: jointly, or by Holm's method where there is no joint one."""
    p_values: pd.Series = comparisons["p_joint"].fillna(comparisons["p_holm"])
    return p_values


def _is(comparisons: pd.DataFrame, side: str, candidate: ShownCandidate) -> np.ndarray:
    """Bool (rows,): those that have a candidate on one side, "a" or "b"."""
    names = zip(CANDIDATE, candidate.key, strict=True)
    matches: np.ndarray = np.logical_and.reduce([comparisons[f"{name}_{side}"] == value for name, value in names])
    return matches


def _mark_leads(view: View, rows: Sequence[Standing]) -> None:
    """The best of a column leads it if every other candidate is worse by a test that counts all pairs."""
    for key in TESTED:
        known = [row for row in rows if row.has(key)]
        shift = "clean" if key == "clean" else rows[0].shift
        if len(known) < 2:
            continue
        upwards = 1 if is_higher_better(rows[0].metric) else -1
        best = max(known, key=lambda row: upwards * row.number(key).value)
        table = view.comparisons_of(shift, best.protocol, best.metric)
        if key == "clean":  # of the same images
            table = table[table["split"] == view.split(rows[0].shift)]
        won: dict[tuple[str, ...], bool] = {}  # where k is estimated, a pair has a test for each k that both have
        for side, other, sign in (("a", "b", upwards), ("b", "a", -upwards)):
            against = table[_is(table, side, best.candidate)]
            rivals = against[[f"{name}_{other}" for name in CANDIDATE]].itertuples(index=False, name=None)
            for rival, gap, p in zip(rivals, sign * against["difference"], corrected(against), strict=True):
                won[rival] = won.get(rival, True) and bool(gap > 0 and p <= SIGNIFICANCE)
        if all(won.get(row.candidate.key, False) for row in rows if row is not best):
            best.leads.add(key)


def _standing(
    view: View,
    candidate: ShownCandidate,
    shift: str,
    protocol: str,
    metric: str,
    baseline: str,
    agreements: dict[str, Number],
) -> Standing:
    numbers = dict(agreements)
    line = view.line(candidate, shift, protocol, metric)
    if line is None:
        return Standing(candidate, view.clusterer, shift, protocol, metric, numbers)
    for key in QUANTITIES:
        number = number_of(line, key, baseline)
        if math.isfinite(number.value):
            numbers[key] = number
    return Standing(
        candidate,
        view.clusterer,
        shift,
        protocol,
        metric,
        numbers,
        worst_case=label_in_words(line["worst_case"]),
        n_runs=int(line["n_runs"]),
        n_ok=int(line["n_ok"]),
        n_cells=int(line["n_cells"]),
    )


def _agreements(view: View, candidate: ShownCandidate, shift: str, protocol: str) -> dict[str, Number]:
    """Stability of the clean partition over random starts, and agreement of shifted partitions with it."""
    split = view.split(shift)
    numbers = {
        "stability": Number(*view.mean_agreement(candidate, protocol, STARTS, "clean", split=split)),
        "agreement": Number(*view.mean_agreement(candidate, protocol, MOVED, shift, split=split)),
    }
    return {key: number for key, number in numbers.items() if math.isfinite(number.value)}
