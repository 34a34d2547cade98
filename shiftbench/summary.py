"""From cells to one row per encoder and shift: how much was lost, against what, and how sure that is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from shiftbench.metrics.robustness import effective_robustness, mce, relative_mce
from shiftbench.results import SUMMARY_KEYS, ok

BASELINE = "pixels"
RESAMPLES, LEVEL = 1000, 0.95
MIN_ENCODERS = 5
NOT_SHIFTED = ("clean", "chance")

Errors = dict[str, np.ndarray]  # corruption -> clustering error by severity


def summarize(cells: pd.DataFrame, baseline: str = BASELINE) -> pd.DataFrame:
    """The ``summary`` table of the cells of one or several evaluations.

    A run is one clustering of one trained encoder: (train_seed, seed). Each quantity is the mean over runs; its
    ``_low`` and ``_high`` are the 95 % percentile bootstrap over runs, the same resamples for every condition, so
    that drops stay paired. One run has no interval (NaN).

    Args:
        cells: the ``cells`` table; rows whose status is not ok count in ``n_cells`` and enter nothing else.
        baseline: the encoder whose errors normalise mCE (Hendrycks & Dietterich 2019, section 4.2, with clustering
            error 1 - value in place of the classification error); its name stands in the column.
    """
    group = [key for key in SUMMARY_KEYS if key not in ("encoder", "shift", "feature", "selection")]
    rows: list[dict[str, Any]] = []
    for values, comparable in cells.groupby(group, sort=False):
        shared = dict(zip(group, values, strict=True))
        rows += _summarize_comparable(comparable, shared, baseline)
    table = pd.DataFrame(rows, columns=_columns(baseline))
    rank = {name: i for i, name in enumerate(cells["encoder"].unique())}
    order = [key for key in SUMMARY_KEYS if key != "encoder"]
    table = table.assign(_rank=table["encoder"].map(rank)).sort_values(["_rank", *order], ignore_index=True)
    return table.drop(columns="_rank")


def _columns(baseline: str) -> list[str]:
    bounded = ["clean", "shifted", "drop", "calibrated_drop", "worst"]
    columns = [*SUMMARY_KEYS, "n_runs", "chance"]
    for name in [*bounded, *(f"{kind}[baseline={baseline}]" for kind in ("mce", "relative_mce"))]:
        columns += [name, *_bounds(name)]
    columns.insert(columns.index("worst_high") + 1, "worst_case")
    return [*columns, "effective_robustness", "effective_robustness_reason", "n_ok", "n_cells"]


def _bounds(name: str) -> tuple[str, str]:
    stem, bracket, rest = name.partition("[")
    return f"{stem}_low{bracket}{rest}", f"{stem}_high{bracket}{rest}"


def _summarize_comparable(cells: pd.DataFrame, shared: dict[str, Any], baseline: str) -> list[dict[str, Any]]:
    """Rows for the encoders that share data, clusterer, k, protocol and metric."""
    measured = {key: _Measured(rows) for key, rows in cells.groupby(["encoder", "feature", "selection"], sort=False)}
    reference = next((one for (name, *_), one in measured.items() if name == baseline), None)
    rows = []
    for shift in cells["shift"].unique():
        if shift == "chance":
            continue
        of_shift = [
            {**shared, "encoder": encoder, "shift": shift, "feature": feature, "selection": selection}
            | one.quantities(shift, reference, baseline)
            for (encoder, feature, selection), one in measured.items()
        ]
        if shift != "clean":
            _add_effective_robustness(of_shift)
        rows += of_shift
    return rows


def _add_effective_robustness(rows: list[dict[str, Any]]) -> None:
    clean = np.array([row["clean"] for row in rows])
    shifted = np.array([row["shifted"] for row in rows])
    both = np.isfinite(clean) & np.isfinite(shifted)
    residual = np.full(len(rows), np.nan)
    if both.sum() >= MIN_ENCODERS:
        residual[both] = effective_robustness(clean[both], shifted[both])
    reason = "" if both.sum() >= MIN_ENCODERS else f"needs {MIN_ENCODERS} encoders, has {both.sum()}"
    for row, value in zip(rows, residual, strict=True):
        row |= {"effective_robustness": value, "effective_robustness_reason": reason}


class _Measured:
    """The values of one encoder, one feature, one protocol, one metric: runs x conditions, and their resamples."""

    def __init__(self, cells: pd.DataFrame) -> None:
        self.cells = cells
        table = ok(cells).pivot_table(
            index=["train_seed", "seed"], columns=["shift", "corruption", "severity"], values="value", dropna=False
        )
        self.table = table.dropna(axis=0, how="all")
        runs = len(self.table)
        # The first row is the plain mean; each further one is the mean of a bootstrap resample of the runs.
        draws = np.random.default_rng(0).multinomial(runs, np.full(runs, 1 / max(runs, 1)), RESAMPLES if runs > 1 else 0)
        self.weights = np.vstack([np.full((1, runs), 1 / max(runs, 1)), draws / max(runs, 1)])

    def means(self, shift: str) -> pd.DataFrame:
        """(1 + resamples, conditions) mean over runs; a run that lacks a condition is left out of that mean."""
        columns = [column for column in self.table.columns if column[0] == shift]
        values = self.table[columns].to_numpy(float)
        known = np.isfinite(values)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = self.weights @ np.where(known, values, 0) / (self.weights @ known)
        return pd.DataFrame(means, columns=pd.MultiIndex.from_tuples(columns) if columns else pd.Index([]))

    def errors(self, shift: str, row: int | slice) -> Errors:
        """Clustering error by corruption, (severities,) for one resample or (resamples, severities)."""
        means = self.means(shift)
        return {
            name: 1 - means.iloc[row, [i for i, column in enumerate(means.columns) if column[1] == name]].to_numpy()
            for name in dict.fromkeys(column[1] for column in means.columns)
        }

    def quantities(self, shift: str, reference: _Measured | None, baseline: str) -> dict[str, Any]:
        clean, chance = self._scalar("clean"), self._scalar("chance")
        rows = self.cells[self.cells["shift"] == shift]
        found: dict[str, Any] = {"n_runs": len(self.table), "chance": chance[0]}
        found |= {"n_ok": len(ok(rows)), "n_cells": len(rows)} | _bounded("clean", clean)
        if shift == "clean":
            return found
        means = self.means(shift)
        shifted = means.mean(axis=1).to_numpy() if len(means.columns) else np.full(len(clean), np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            calibrated = np.where(clean > chance, (clean - shifted) / (clean - chance), np.nan)
        found |= _bounded("shifted", shifted) | _bounded("drop", clean - shifted)
        found |= _bounded("calibrated_drop", calibrated)
        if len(means.columns) and means.iloc[0].notna().any():
            worst = means.iloc[0].idxmin()
            found |= _bounded("worst", means[worst].to_numpy())
            found["worst_case"] = f"{worst[1]}-{worst[2]}" if worst[1] else worst[0]
        return found | self._against(reference, shift, clean, baseline)

    def _scalar(self, shift: str) -> np.ndarray:
        means = self.means(shift)
        return means.iloc[:, 0].to_numpy() if len(means.columns) else np.full(len(self.weights), np.nan)

    def _against(self, reference: _Measured | None, shift: str, clean: np.ndarray, baseline: str) -> dict[str, Any]:
        """mCE and relative mCE; the baseline's own mean errors are the yardstick, taken as given."""
        names = f"mce[baseline={baseline}]", f"relative_mce[baseline={baseline}]"
        if reference is None:
            return {}
        yardstick, yard_clean = reference.errors(shift, 0), 1 - reference._scalar("clean")[0]
        ours = self.errors(shift, slice(None))
        resamples = [{name: values[i] for name, values in ours.items()} for i in range(len(clean))]
        plain = np.array([mce(errors, yardstick) for errors in resamples])
        relative = np.array(
            [relative_mce(errors, 1 - c, yardstick, yard_clean) for errors, c in zip(resamples, clean, strict=True)]
        )
        return _bounded(names[0], plain) | _bounded(names[1], relative)


def _bounded(name: str, values: np.ndarray) -> dict[str, float]:
    """The plain value and its percentile bounds, from (1 + resamples,)."""
    low, high = _bounds(name)
    resamples = values[1:]
    if not len(resamples) or np.isnan(resamples).all():
        return {name: float(values[0]), low: float("nan"), high: float("nan")}
    tails = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    bounds = np.nanquantile(resamples, tails)
    return {name: float(values[0]), low: float(bounds[0]), high: float(bounds[1])}
