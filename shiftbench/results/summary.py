"""From cells to one row per encoder and shift: how much was lost, against what, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from shiftbench.metrics.robustness import (
    MIN_ENCODERS,
    calibrated_drop,
    effective_robustness,
    mce,
    relative_mce,
    severity_area,
)
from shiftbench.registry import METRICS
from shiftbench.results.runs import (
    CHANCE_KEY,
    CLEAN_KEY,
    CONDITION,
    LEVEL,
    RESAMPLES,
    ConditionKey,
    Group,
    Runs,
    groups,
    interval,
    intervals,
    of_split,
)
from shiftbench.results.tables import SUMMARY_KEYS, in_order

__all__ = [
    "BASELINE", "CHANCE_KEY", "CLEAN_KEY", "CONDITION", "LEVEL", "RESAMPLES", "ConditionKey", "Runs", "interval", "summarize",
]  # fmt: skip

BASELINE = "pixels"

Resampled = Mapping[str, np.ndarray]  # by quantity, (1 + resamples,)


def summarize(cells: pd.DataFrame, baseline: str = BASELINE, replicates: pd.DataFrame | None = None) -> pd.DataFrame:
    """The ``summary`` table of the cells of one or several evaluations.

    Each quantity is the mean over runs (:class:`~shiftbench.results.runs.Runs`); its ``_low`` and ``_high`` bound the 95 %
    percentile bootstrap interval. A quantity is NaN if something that it needs was not measured.

    Args:
        cells: the ``cells`` table; rows whose status is not ok count in ``n_cells`` and enter nothing else.
        baseline: the encoder whose errors normalise mCE (Hendrycks & Dietterich 2019, section 4.2, with
            clustering error 1 - value in place of the classification error); its name is part of the column's.
            Its own errors are taken as exact: the interval covers those of the other encoder.
        replicates: the ``replicates`` table: intervals then cover images and seeds. Where it has no rows they cover runs
            alone, and one run has none (NaN).
    """
    counts = count_cells(cells)
    return summary_table(
        [row for group in groups(cells, replicates) for row in summarize_group(group, baseline, counts)], baseline
    )


def summary_table(rows: Sequence[dict[str, Any]], baseline: str = BASELINE) -> pd.DataFrame:
    """The ``summary`` table, from what :func:`summarize_group` returned for each group, in canonical order."""
    return in_order(pd.DataFrame(rows, columns=_columns(baseline)), SUMMARY_KEYS)


def _columns(baseline: str) -> list[str]:
    columns = [*SUMMARY_KEYS, "n_runs", "chance"]
    for name in ["clean", "shifted", "drop", "calibrated_drop", "worst", "area", *_normalised(baseline)]:
        columns += [name, *_bounds(name)]
    columns.insert(columns.index("worst_high") + 1, "worst_case")
    columns += ["effective_robustness", *_bounds("effective_robustness"), "effective_robustness_reason"]
    for name in ["rank_clean", "rank_shifted", "rank_change"]:
        columns += [name, *_bounds(name)]
    return [*columns, "n_ok", "n_cells"]


def _normalised(baseline: str) -> tuple[str, str]:
    return f"mce[baseline={baseline}]", f"relative_mce[baseline={baseline}]"


def _bounds(name: str) -> tuple[str, str]:
    stem, bracket, rest = name.partition("[")
    return f"{stem}_low{bracket}{rest}", f"{stem}_high{bracket}{rest}"


def count_cells(cells: pd.DataFrame) -> dict[Any, tuple[int, int]]:
    """By summary keys, how many cells were measured, and how many there are."""
    measured = (cells["status"] == "ok").groupby([cells[key] for key in SUMMARY_KEYS], sort=False)
    table = measured.agg(["sum", "size"])
    return {key: (int(ok), int(size)) for key, ok, size in zip(table.index, table["sum"], table["size"], strict=True)}


def summarize_group(group: Group, baseline: str, counts: Mapping[Any, tuple[int, int]]) -> list[dict[str, Any]]:
    """Rows for the encoders of a group; ``counts`` is what :func:`count_cells` returned for all cells."""
    reference = next((runs for (name, *_), runs in group.candidates.items() if name == baseline), None)
    summary = []
    for shift, split in group.shifts:
        clean, chance = of_split(CLEAN_KEY, split), of_split(CHANCE_KEY, split)
        conditions = group.conditions(shift)
        scored = _has_labels(group) and shift != "clean"
        yardstick = _Yardstick(reference, conditions, clean) if scored and reference is not None else None
        rows: list[dict[str, Any]] = []
        quantities: list[dict[str, np.ndarray]] = []
        for key, runs in group.candidates.items():
            names = dict(zip(("encoder", "feature", "selection"), key, strict=True))
            row = group.keys | names | {"split": split, "shift": shift}
            n_ok, n_cells = counts.get(tuple(row[name] for name in SUMMARY_KEYS), (0, 0))
            if not n_cells:
                continue
            row |= {"n_runs": len(runs), "n_ok": n_ok, "n_cells": n_cells, "worst_case": ""}
            row |= {"chance": float(runs.means([chance])[0, 0]), "effective_robustness_reason": ""}
            values = {"clean": runs.means([clean])[:, 0]}
            if shift != "clean":
                values |= _losses(group, runs, shift, clean, chance)
                values |= _areas(group, runs, conditions, clean)
                row["worst_case"] = _worst_case(group, runs, shift)
            if yardstick is not None:
                values |= yardstick.measure(runs, baseline)
            rows.append(row)
            quantities.append(values)
        _add_ranks(group, quantities)
        if scored:
            _add_effective_robustness(rows, quantities)
        summary += [row | _bounded(values) for row, values in zip(rows, quantities, strict=True)]
    return summary


def _has_labels(group: Group) -> bool:
    """Whether the metric is a score against labels, of which 1 - value is an error."""
    metric = group.keys["metric"]
    return group.sign > 0 and (metric not in METRICS or METRICS[metric].group in ("", "labels"))


def _losses(group: Group, runs: Runs, shift: str, clean: ConditionKey, chance: ConditionKey) -> Resampled:
    """Mean over the shift's measured conditions, what was lost, and the worst condition."""
    conditions = runs.conditions(shift)
    if not conditions:
        return {}
    before, means = runs.means([clean])[:, 0], runs.means(conditions)
    shifted = means.mean(axis=1)
    return {
        "shifted": shifted,
        "drop": group.sign * (before - shifted),
        "calibrated_drop": calibrated_drop(before, shifted, runs.means([chance])[:, 0]),
        "worst": means[:, int((group.sign * means[0]).argmin())],
    }


def _worst_case(group: Group, runs: Runs, shift: str) -> str:
    conditions = runs.conditions(shift)
    if not conditions:
        return ""
    _, name, severity = conditions[int((group.sign * runs.means(conditions)[0]).argmin())]
    return f"{name or shift}-{severity}" if severity else shift


def _areas(group: Group, runs: Runs, conditions: Sequence[ConditionKey], clean: ConditionKey) -> Resampled:
    """Mean over corruptions of the area between the clean score and the severity curve; NaN if a point is missing."""
    curves: dict[str, list[ConditionKey]] = {}
    for condition in sorted(conditions):
        if condition[2]:
            curves.setdefault(condition[1], []).append(condition)
    if not curves:
        return {}
    alike: dict[tuple[int, ...], list[ConditionKey]] = {}  # the curves with the same severities, joined
    for curve in curves.values():
        alike.setdefault(tuple(degree for *_, degree in curve), []).extend(curve)
    before = runs.means([clean])
    areas = [
        severity_area(before, runs.means(points).reshape(len(before), -1, len(degrees)), degrees)
        for degrees, points in alike.items()
    ]
    return {"area": group.sign * np.concatenate(areas, axis=1).mean(axis=1)}


class _Yardstick:
    """mCE and relative mCE against a baseline, for many resamples at once.

    Both are linear in the errors, clean and shifted, so that their values on unit vectors are their
    coefficients, and a matrix product does the rest.
    """

    def __init__(self, reference: Runs, conditions: Sequence[ConditionKey], clean: ConditionKey) -> None:
        self.conditions, self.clean = conditions, clean
        errors, clean_error = 1 - reference.means(conditions)[0], 1 - float(reference.means([clean])[0, 0])
        units, none = np.eye(len(conditions)), np.zeros(len(conditions))
        baseline = self._by_corruption(errors)
        self.plain = mce(self._by_corruption(units), baseline)
        self.relative = relative_mce(self._by_corruption(units), 0, baseline, clean_error)
        self.relative_clean = relative_mce(self._by_corruption(none), 1, baseline, clean_error)

    def _by_corruption(self, errors: np.ndarray) -> dict[str, np.ndarray]:
        names = np.array([name for _, name, _ in self.conditions])
        return {name: errors[..., names == name] for name in dict.fromkeys(names.tolist())}

    def measure(self, runs: Runs, baseline: str) -> Resampled:
        """Both errors; NaN where a condition is missing."""
        errors, clean = 1 - runs.means(self.conditions), 1 - runs.means([self.clean])[:, 0]
        plain, relative = _normalised(baseline)
        return {plain: errors @ self.plain, relative: errors @ self.relative + clean * self.relative_clean}


def _shared(quantities: Sequence[Resampled], name: str) -> np.ndarray:
    """(1 + B, E): a quantity of all encoders, with the resamples that all of them have; NaN where an encoder lacks it."""
    rows = min((len(values["clean"]) for values in quantities), default=1)
    unknown = np.full(rows, np.nan)
    return np.array([values.get(name, unknown)[:rows] for values in quantities]).T


def _add_ranks(group: Group, quantities: Sequence[dict[str, np.ndarray]]) -> None:
    """Add each encoder's rank by this score, 1 the best, ties shared; and how many ranks the shift costs."""
    names = [name for name in ("clean", "shifted") if any(name in values for values in quantities)]
    tables = {name: _shared(quantities, name) for name in names}
    known = np.logical_and.reduce([np.isfinite(table).all(axis=0) for table in tables.values()])
    if not known.any():
        return
    ranks = {name: rankdata(-group.sign * table[:, known], axis=1) for name, table in tables.items()}
    if "shifted" in ranks:
        ranks["change"] = ranks["shifted"] - ranks["clean"]
    for place, column in enumerate(np.flatnonzero(known).tolist()):
        quantities[column].update({f"rank_{name}": table[:, place] for name, table in ranks.items()})


def _add_effective_robustness(rows: Sequence[dict[str, Any]], quantities: Sequence[dict[str, np.ndarray]]) -> None:
    clean, shifted = _shared(quantities, "clean"), _shared(quantities, "shifted")
    inside = ((clean > 0) & (clean < 1) & (shifted > 0) & (shifted < 1))[0]
    residuals = effective_robustness(clean, shifted)
    for place, (row, values) in enumerate(zip(rows, quantities, strict=True)):
        values["effective_robustness"] = residuals[:, place]
        if not np.isfinite(residuals[0, place]):
            needed = f"needs {MIN_ENCODERS} encoders with scores between 0 and 1, has {inside.sum()}"
            row["effective_robustness_reason"] = needed


def _bounded(quantities: Resampled) -> dict[str, float]:
    """Columns of the quantities and their bounds."""
    columns: dict[str, float] = {}
    for length in {len(values) for values in quantities.values()}:
        names = [name for name, values in quantities.items() if len(values) == length]
        for name, numbers in zip(names, intervals(np.array([quantities[name] for name in names])), strict=True):
            columns |= dict(zip((name, *_bounds(name)), numbers.tolist(), strict=True))
    return columns
