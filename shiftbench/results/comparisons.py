"""Every pair of encoders: how far apart they are, how sure that is, and whether it may be luck."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from shiftbench.metrics.inference import holm, paired_tests
from shiftbench.results.runs import CLEAN_KEY, Group, Runs, groups, intervals, of_split
from shiftbench.results.schema import typed
from shiftbench.results.tables import COMPARISONS

_BLOCK = 500  # pairs subtracted at once: their resamples stay in the processor's cache
_NO_RESAMPLES = "one run, and no resamples of its images"
_NO_SPREAD = "all resamples are equal"


def compare(cells: pd.DataFrame, replicates: pd.DataFrame | None = None) -> pd.DataFrame:
    """The ``comparisons`` table: encoder a minus encoder b, on the clean split and under each shift.

    A pair is compared on the conditions that both have. Both are resampled with the same images and seeds,
    so that images that are hard for both do not blur the difference. Tests are two-sided
    (:func:`~shiftbench.metrics.robustness.paired_tests`) and corrected over all pairs within a shift, protocol and
    metric, by Holm and by the joint resamples.

    Args:
        cells: the ``cells`` table.
        replicates: the ``replicates`` table; where it has no rows, runs are resampled.

    Returns:
        One row per setting, shift and pair, in the order in which the encoders were given.
    """
    return comparisons_table([table for group in groups(cells, replicates) for table in compare_group(group)])


def comparisons_table(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The ``comparisons`` table, from what :func:`compare_group` returned for each group."""
    tables = [table for table in tables if len(table)]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COMPARISONS)
    return typed(table[COMPARISONS])


def compare_group(group: Group) -> list[pd.DataFrame]:
    """Every pair of encoders of a group: a table per shift."""
    return [_compare(group, shift, split) for shift, split in group.shifts]


def _compare(group: Group, shift: str, split: str) -> pd.DataFrame:
    conditions = [of_split(CLEAN_KEY, split)] if shift == CLEAN_KEY[0] else group.conditions(shift)
    candidates = {key: runs.means(conditions) for key, runs in group.candidates.items() if _has(runs, conditions)}
    size = min((len(means) for means in candidates.values()), default=1)
    means = [values[:size] for values in candidates.values()]  # (resamples, conditions); NaN where not measured
    measured = np.array([np.isfinite(values[0]) for values in means]).reshape(len(means), len(conditions))
    first, second = np.triu_indices(len(candidates), 1)
    common = (measured.astype(np.int64) @ measured.T)[first, second]
    first, second, common = (column[common > 0] for column in (first, second, common))
    if not len(common):
        return pd.DataFrame()
    differences = _differences(means, measured, first, second)
    numbers = intervals(differences)
    alone, together = paired_tests(differences.T)
    shared = group.keys | {"split": split, "shift": shift}
    columns: dict[str, Any] = {name: [value] * len(common) for name, value in shared.items()}
    for side, members in (("a", first), ("b", second)):
        for name, values in zip(("encoder", "feature", "selection"), zip(*candidates, strict=True), strict=True):
            columns[f"{name}_{side}"] = np.array(values, dtype=object)[members]
    columns |= {"difference": numbers[:, 0], "low": numbers[:, 1], "high": numbers[:, 2]}
    columns |= {"p": alone, "p_holm": holm(alone), "p_joint": together, "n_conditions": common}
    why = _NO_RESAMPLES if size == 1 else _NO_SPREAD
    return pd.DataFrame(columns | {"reason": np.where(np.isfinite(alone), "", why)})


def _has(runs: Runs, conditions: list[tuple[str, str, int]]) -> bool:
    return bool(len(runs)) and bool(np.isfinite(runs.means(conditions)[0]).any())


def _differences(
    means: Sequence[np.ndarray], measured: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """(pairs, resamples): each pair's difference in the mean over the conditions that both have."""
    sets, which = np.unique(measured, axis=0, return_inverse=True)  # mostly a single set: all conditions
    kinds, kind = np.unique(which.ravel()[first] * len(sets) + which.ravel()[second], return_inverse=True)
    scores = [np.where(np.isfinite(values), values, 0) for values in means]
    differences = np.empty((len(first), len(means[0])))
    for place, (left, right) in enumerate(zip(*np.divmod(kinds, len(sets)), strict=True)):
        both, pairs = sets[left] & sets[right], np.flatnonzero(kind == place)
        mean = np.array([score @ both for score in scores]) / both.sum()
        for start in range(0, len(pairs), _BLOCK):
            here = pairs[start : start + _BLOCK]
            differences[here] = mean[first[here]] - mean[second[here]]
    return differences
