"""What every column of every table may hold. docs/results.md says what it means.

Ours, and not pandera's: ranges come from the registry row by row, and the first bad row is told by its keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shiftbench.errors import InputError, unknown
from shiftbench.registry import METRICS

FEATURES = "features"
"""The clusterer of rows that describe features alone."""
PROBE = "probe:"
"""The clusterer of a probe's rows begins so."""

_CLUSTERING = ["feature", "clusterer", "k", "k_source"]
_CONDITION = ["data", "split", "shift", "corruption", "severity", "table", *_CLUSTERING]
_SETTING = ["data", "split", "shift", "clusterer", "k", "k_source", "protocol", "metric"]

CELL_KEYS = ["encoder", "train_seed", *_CONDITION, "seed", "protocol", "fit_split", "selection", "metric"]
CELLS = [*CELL_KEYS, "value", "higher_is_better", "n", "status", "reason"]

STABILITY_KEYS = ["encoder", "train_seed", *_CONDITION, "protocol", "axis", "metric"]
STABILITY = [*STABILITY_KEYS, "mean", "sd", "ci_low", "ci_high", "n_pairs", "n", "status", "reason"]

RECALL_KEYS = ["encoder", "train_seed", *_CONDITION, "protocol", "selection", "class"]
RECALL = [*RECALL_KEYS, "mean", "sd", "n_seeds", "n"]

REPLICATE_KEYS = ["encoder", "train_seed", *_CONDITION, "protocol", "selection", "metric"]

SUMMARY_KEYS = ["encoder", "data", "split", "shift", *_CLUSTERING, "protocol", "selection", "metric"]

_PAIR = [f"{part}_{side}" for side in "ab" for part in ("encoder", "feature", "selection")]
COMPARISON_KEYS = [*_SETTING, *_PAIR]
COMPARISONS = [*COMPARISON_KEYS, "difference", "low", "high", "p", "p_holm", "p_joint", "n_conditions", "reason"]

PROXY_KEYS = ["encoder", "data", "shift", *_CLUSTERING, "protocol", "selection", "metric", "proxy"]
_CORRELATIONS = ["spearman", "spearman_low", "spearman_high", "kendall", "kendall_low", "kendall_high"]
PROXIES = [*PROXY_KEYS, *_CORRELATIONS, "n", "reason"]


@dataclass(frozen=True)
class Columns:
    """What a public table holds.

    Attributes:
        columns: those it must have.
        keys: those that tell its rows apart.
    """

    columns: Sequence[str]
    keys: Sequence[str]


TABLES: Mapping[str, Columns] = {
    "cells": Columns(CELLS, CELL_KEYS),
    "stability": Columns(STABILITY, STABILITY_KEYS),
    "summary": Columns(SUMMARY_KEYS, SUMMARY_KEYS),
    "recall": Columns(RECALL, RECALL_KEYS),
    "comparisons": Columns(COMPARISONS, COMPARISON_KEYS),
    "proxies": Columns(PROXIES, PROXY_KEYS),
    "replicates": Columns(REPLICATE_KEYS, REPLICATE_KEYS),
}

_WORDS = {
    *_CONDITION, *_PAIR, "encoder", "protocol", "fit_split", "selection", "metric", "axis", "proxy", "class", "status",
    "reason", "worst_case", "effective_robustness_reason",
} - {"severity", "k"}  # fmt: skip
_WHOLE = {
    "severity", "k", "seed", "n", "n_pairs", "n_seeds", "n_conditions", "n_runs", "n_ok", "n_cells",
}  # fmt: skip
_KINDS = {
    **dict.fromkeys([*_WHOLE, "train_seed"], ("iu", "a whole number")), "higher_is_better": ("b", "true or false"),
}  # fmt: skip
_STATUS = ("ok", "failed", "skipped")
_RANGES: dict[str, tuple[float, float]] = {
    "p": (0, 1), "p_holm": (0, 1), "p_joint": (0, 1), "sd": (0, np.inf),
    **dict.fromkeys(_CORRELATIONS, (-1, 1)), **dict.fromkeys(_WHOLE, (0, np.inf)),
}  # fmt: skip
_ROUNDING = 1e-6  # of float32 replicates; a fraction in percent is far outside


def is_probe(clusterer: str) -> bool:
    """Whether rows of this clusterer are of a classifier on the features, and not of clusters."""
    return clusterer.startswith(PROBE)


def probe_of(clusterer: str) -> str:
    """The name of the classifier behind a probe's rows: ``knn`` for ``probe:knn``."""
    return clusterer.removeprefix(PROBE)


def is_clustering(clusterer: str) -> bool:
    """Whether rows of this clusterer are of clusters: not of a probe, nor of the features alone."""
    return clusterer != FEATURES and not is_probe(clusterer)


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the types of its columns; columns that are not known by name hold float64 or replicates."""
    types: dict[str, str] = {}
    for column in table.columns:
        if column == "train_seed":
            types[column] = "Int64"
        elif column in _WHOLE:
            types[column] = "int64"
        elif column == "higher_is_better":
            types[column] = "bool"
        elif column not in _WORDS and table[column].dtype.kind != "f":
            types[column] = "float64"
    return table.astype(types)


def validate(name: str, table: pd.DataFrame) -> None:
    """Check a table before it is written.

    Args:
        name: one of ``TABLES``.
        table: its rows.

    Raises:
        InputError: a column is missing or of another type, a number is out of range, a key occurs twice, a status
            is none of ok, failed and skipped, or what was not measured has no reason. The first bad row is shown.
    """
    if name not in TABLES:
        raise unknown("table", name, TABLES)
    schema = TABLES[name]
    if missing := [column for column in schema.columns if column not in table]:
        raise InputError(f"{name}: there is no column {missing[0]!r}.")
    _check_types(name, table)
    twice = table.duplicated(list(schema.keys))
    _refuse(name, table, ", ".join(schema.keys), twice, "the same keys as a row before")
    for column, bounds in _RANGES.items():
        if column in table:
            _check_range(name, table, [column], bounds)
    if name == "recall":
        _check_range(name, table, ["mean"], (0, 1))
    if "status" in table:
        _check_status(name, table)
    if name in ("cells", "replicates"):
        numbers = (
            ["value"] if name == "cells" else [column for column in map(str, table) if column not in REPLICATE_KEYS]
        )
        for metric, rows in table.groupby("metric", sort=False):
            known = METRICS.get(str(metric))  # one that was a plugin's may hold any number
            _check_range(name, rows, numbers, known.range if known else (-np.inf, np.inf))


def _check_types(name: str, table: pd.DataFrame) -> None:
    for column in table.columns:
        values = table[column]
        if column in _WORDS:
            whole = values.dtype != object  # text has a type of its own from pandas 3
            good = values.notna() if whole else values.map(lambda value: isinstance(value, str)).astype(bool)
            good, what = good & (not whole or pd.api.types.is_string_dtype(values)), "text"
        else:
            kinds, what = _KINDS.get(column, ("f", "a floating point number"))
            good = pd.Series(values.dtype.kind in kinds, index=table.index)
        _refuse(name, table, column, ~good, f"{what} is needed")


def _check_range(name: str, rows: pd.DataFrame, columns: list[str], bounds: tuple[float, float]) -> None:
    values, (low, high) = rows[columns].to_numpy(float), bounds
    outside = (values < low - _ROUNDING) | (values > high + _ROUNDING) | np.isinf(values)
    for place in np.flatnonzero(outside.any(axis=0)).tolist():
        bad = pd.Series(outside[:, place], index=rows.index)
        _refuse(name, rows, columns[place], bad, f"{low:g} to {high:g} is allowed")


def _check_status(name: str, table: pd.DataFrame) -> None:
    measured = table["status"] == "ok"
    _refuse(name, table, "status", ~table["status"].isin(_STATUS), f"one of {', '.join(_STATUS)} is needed")
    _refuse(name, table, "reason", ~measured & (table["reason"] == ""), "what was not measured needs a reason")
    if name == "cells":
        unknown_value = table["value"].isna()
        _refuse(name, table, "value", measured & unknown_value, "what was measured needs a value")
        _refuse(name, table, "value", ~measured & ~unknown_value, "what was not measured must have none")


def _refuse(name: str, table: pd.DataFrame, column: str, bad: pd.Series, why: str) -> None:
    if not bad.any():
        return
    place = int(np.argmax(bad.to_numpy(bool)))
    row = table.iloc[place]
    keys = [key for key in ("encoder", "shift", "corruption", "severity", "seed", "metric") if key in table]
    value = row[column] if column in table else None
    shown = f"{column} is {getattr(value, 'item', lambda: value)()!r}; " if column in table else ""
    where = ", ".join(f"{key}={row[key]}" for key in keys)
    raise InputError(f"{name}, row {table.index[place]} ({where}): {shown}{why}.")
