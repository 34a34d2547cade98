"""From cells to one row per encoder and shift: how much was lost, against what, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from shiftbench.metrics.robustness import MIN_ENCODERS, calibrated_drop, effective_robustness, mce, relative_mce
from shiftbench.results import SUMMARY_KEYS, ok

BASELINE = "pixels"
RESAMPLES, LEVEL = 1000, 0.95
CONDITION = ["shift", "corruption", "severity"]
CLEAN, CHANCE = ("clean", "", 0), ("chance", "", 0)

ConditionKey = tuple[str, str, int]


def summarize(cells: pd.DataFrame, baseline: str = BASELINE) -> pd.DataFrame:
    """The ``summary`` table of the cells of one or several evaluations.

    Each quantity is the mean over runs (:class:`Runs`); its ``_low`` and ``_high`` bound the 95 % percentile
    bootstrap interval. One run has no interval (NaN). A quantity that needs what was not measured is NaN.

    Args:
        cells: the ``cells`` table; rows whose status is not ok count in ``n_cells`` and enter nothing else.
        baseline: the encoder whose errors normalise mCE (Hendrycks & Dietterich 2019, section 4.2, with
            clustering error 1 - value in place of the classification error); its name stands in the column.
            Its own errors are taken as given: the interval is that of the other encoder's.
    """
    shared = [key for key in SUMMARY_KEYS if key not in ("encoder", "shift", "feature", "selection")]
    rows: list[dict[str, Any]] = []
    for values, comparable in cells.groupby(shared, sort=False):
        keys = dict(zip(shared, values, strict=True))
        rows += [keys | row for row in _summarize_comparable(comparable, baseline)]
    table = pd.DataFrame(rows, columns=_columns(baseline))
    rank = {name: i for i, name in enumerate(cells["encoder"].unique())}
    order = [key for key in SUMMARY_KEYS if key != "encoder"]
    table = table.assign(_rank=table["encoder"].map(rank)).sort_values(["_rank", *order], ignore_index=True)
    return table.drop(columns="_rank")


class Runs:
    """The values of one encoder, feature, protocol and metric, and how sure their means over runs are.

    A run is one clustering of one trained encoder: (train_seed, seed). Resamples are a two-stage bootstrap:
    trained encoders are drawn with replacement, then clusterings within each, since many clusterings of one
    encoder say nothing about its training. The same draws serve every condition, so that differences of
    conditions stay paired.

    Attributes:
        table: runs x (shift, corruption, severity); NaN where a run was not measured.
        weights: float64 (1 + resamples, runs), how often each run counts; the first row is the plain mean.
    """

    def __init__(self, cells: pd.DataFrame) -> None:
        measured = ok(cells)
        measured = measured.assign(train_seed=measured["train_seed"].fillna(-1).astype("int64"))
        self.table = measured.groupby(["train_seed", "seed", *CONDITION])["value"].mean().unstack(CONDITION)
        trained = self.table.index.get_level_values("train_seed").to_numpy()
        self.weights = np.vstack([np.ones(len(trained)), _draws(trained)])
        self._place: dict[ConditionKey, int] = {(*condition,): i for i, condition in enumerate(self.table.columns)}

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def clean(self) -> np.ndarray:
        """float64 (1 + resamples,) means of the clean split."""
        return self.means([CLEAN])[:, 0]

    def conditions(self, shift: str) -> list[ConditionKey]:
        """The conditions of a shift that some run has."""
        return [condition for condition in self._place if condition[0] == shift]

    def means(self, conditions: Sequence[ConditionKey]) -> np.ndarray:
        """float64 (1 + resamples, conditions) means over the runs that have it, NaN without any."""
        known = [i for i, condition in enumerate(conditions) if condition in self._place]
        found = np.full((len(self.weights), len(conditions)), np.nan)
        found[:, known] = self._means[:, [self._place[conditions[i]] for i in known]]
        return found

    @cached_property
    def _means(self) -> np.ndarray:
        values = self.table.to_numpy(float)
        known = np.isfinite(values)
        with np.errstate(invalid="ignore"):
            return (self.weights @ np.where(known, values, 0)) / (self.weights @ known)


def interval(resampled: np.ndarray) -> tuple[float, float, float]:
    """Plain value and percentile bounds of a (1 + resamples,) quantity; NaN bounds without resamples."""
    plain, resamples = float(resampled[0]), resampled[1:]
    if not len(resamples) or np.isnan(resamples).all():
        return plain, float("nan"), float("nan")
    low, high = np.nanquantile(resamples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return plain, float(low), float(high)


def _draws(trained: np.ndarray) -> np.ndarray:
    """float64 (RESAMPLES, runs) counts of the two-stage bootstrap; no rows where there is a single run."""
    if len(trained) < 2:
        return np.empty((0, len(trained)))
    generator = np.random.default_rng(0)
    encoders = np.unique(trained)
    drawn = generator.multinomial(len(encoders), np.full(len(encoders), 1 / len(encoders)), RESAMPLES)
    counts = np.empty((RESAMPLES, len(trained)))
    for encoder, times in zip(encoders, drawn.T, strict=True):
        runs = trained == encoder
        counts[:, runs] = generator.multinomial(times * runs.sum(), np.full(runs.sum(), 1 / runs.sum()))
    return counts


def _columns(baseline: str) -> list[str]:
    columns = [*SUMMARY_KEYS, "n_runs", "chance"]
    for name in ["clean", "shifted", "drop", "calibrated_drop", "worst", *_normalised(baseline)]:
        columns += [name, *_bounds(name)]
    columns.insert(columns.index("worst_high") + 1, "worst_case")
    return [*columns, "effective_robustness", "effective_robustness_reason", "n_ok", "n_cells"]


def _normalised(baseline: str) -> tuple[str, str]:
    return f"mce[baseline={baseline}]", f"relative_mce[baseline={baseline}]"


def _bounds(name: str) -> tuple[str, str]:
    stem, bracket, rest = name.partition("[")
    return f"{stem}_low{bracket}{rest}", f"{stem}_high{bracket}{rest}"


def _bounded(name: str, resampled: np.ndarray) -> dict[str, float]:
    return dict(zip((name, *_bounds(name)), interval(resampled), strict=True))


def _summarize_comparable(cells: pd.DataFrame, baseline: str) -> list[dict[str, Any]]:
    """Rows for the encoders that share data, clusterer, k, protocol and metric."""
    entrant = ["encoder", "feature", "selection"]
    measured = {key: (Runs(rows), rows) for key, rows in cells.groupby(entrant, sort=False)}
    reference = next((runs for (name, *_), (runs, _) in measured.items() if name == baseline), None)
    found = []
    for shift in cells["shift"].unique():
        if shift == "chance":
            continue
        tried = cells.loc[cells["shift"] == shift, CONDITION].drop_duplicates()
        conditions = list(tried.itertuples(index=False, name=None))
        yardstick = None if shift == "clean" or reference is None else _Yardstick(reference, conditions)
        rows = []
        for key, (runs, of_encoder) in measured.items():
            if shift not in set(of_encoder["shift"]):
                continue
            row = dict(zip(entrant, key, strict=True)) | {"shift": shift} | _counts(runs, of_encoder, shift)
            if shift != "clean":
                row |= _losses(runs, shift)
            if yardstick is not None:
                row |= yardstick.measure(runs, baseline)
            rows.append(row)
        if shift != "clean":
            _add_effective_robustness(rows)
        found += rows
    return found


def _counts(runs: Runs, cells: pd.DataFrame, shift: str) -> dict[str, Any]:
    of_shift = cells[cells["shift"] == shift]
    return {
        "n_runs": len(runs),
        "n_ok": len(ok(of_shift)),
        "n_cells": len(of_shift),
        "chance": float(runs.means([CHANCE])[0, 0]),
        "worst_case": "",
        "effective_robustness_reason": "",
        **_bounded("clean", runs.clean),
    }


def _losses(runs: Runs, shift: str) -> dict[str, Any]:
    """Mean over the shift's conditions, what was lost, and the condition with the lowest mean."""
    conditions = runs.conditions(shift)
    if not conditions:
        return {}
    means = runs.means(conditions)
    shifted, chance = means.mean(axis=1), runs.means([CHANCE])[:, 0]
    worst = int(means[0].argmin())
    name, severity = conditions[worst][1:]
    return {
        **_bounded("shifted", shifted),
        **_bounded("drop", runs.clean - shifted),
        **_bounded("calibrated_drop", calibrated_drop(runs.clean, shifted, chance)),
        **_bounded("worst", means[:, worst]),
        "worst_case": f"{name}-{severity}" if name else shift,
    }


class _Yardstick:
    """mCE and relative mCE against a baseline, for many resamples at once.

    Both are linear in the errors, clean and shifted, so that their values on unit vectors are their
    coefficients, and a matrix product does the rest.
    """

    def __init__(self, reference: Runs, conditions: Sequence[ConditionKey]) -> None:
        self.conditions = conditions
        errors, clean = 1 - reference.means(conditions)[0], 1 - float(reference.clean[0])
        units, none = np.eye(len(conditions)), np.zeros(len(conditions))
        baseline = self._by_corruption(errors)
        self.plain = np.array([mce(self._by_corruption(unit), baseline) for unit in units])
        self.relative = np.array([relative_mce(self._by_corruption(unit), 0, baseline, clean) for unit in units])
        self.relative_clean = relative_mce(self._by_corruption(none), 1, baseline, clean)

    def _by_corruption(self, errors: np.ndarray) -> dict[str, np.ndarray]:
        names = np.array([name for _, name, _ in self.conditions])
        return {name: errors[names == name] for name in dict.fromkeys(names.tolist())}

    def measure(self, runs: Runs, baseline: str) -> dict[str, float]:
        """Both, with their intervals; NaN where a condition is missing."""
        errors, clean = 1 - runs.means(self.conditions), 1 - runs.clean
        plain, relative = _normalised(baseline)
        return {
            **_bounded(plain, errors @ self.plain),
            **_bounded(relative, errors @ self.relative + clean * self.relative_clean),
        }


def _add_effective_robustness(rows: list[dict[str, Any]]) -> None:
    clean, shifted = (np.array([row.get(key, np.nan) for row in rows]) for key in ("clean", "shifted"))
    inside = (clean > 0) & (clean < 1) & (shifted > 0) & (shifted < 1)
    for row, value in zip(rows, effective_robustness(clean, shifted), strict=True):
        needed = f"needs {MIN_ENCODERS} encoders with scores between 0 and 1, has {inside.sum()}"
        row |= {
            "effective_robustness": value,
            "effective_robustness_reason": "" if np.isfinite(value) else needed,
        }
