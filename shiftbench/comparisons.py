"""Every pair of encoders: how far apart they are, how sure that is, and whether it may be luck."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from shiftbench.metrics.robustness import holm, paired_tests
from shiftbench.results import COMPARISONS
from shiftbench.runs import CLEAN, Group, Runs, groups, intervals, of_split
from shiftbench.schema import typed

_NO_RESAMPLES = "one run, and no resamples of its images"
_NO_SPREAD = "all resamples are equal"


def compare(cells: pd.DataFrame, draws: pd.DataFrame | None = None) -> pd.DataFrame:
    """The ``comparisons`` table: encoder a less encoder b, on the clean split and under each shift.

    A pair is compared on the conditions that both have. Both are resampled together, the same images and seeds, so
    that what makes images hard for everybody does not blur their difference. Tests are two-sided
    (:func:`~shiftbench.metrics.robustness.paired_tests`) and corrected over all pairs within a shift, protocol and
    metric, by Holm and by the joint resamples.

    Args:
        cells: the ``cells`` table.
        draws: the ``draws`` table; without rows there, the resamples are those of the runs.

    Returns:
        One row per setting, shift and pair, in the order in which the encoders were given.
    """
    tables = [_compare(group, shift, split) for group in groups(cells, draws) for shift, split in group.shifts]
    tables = [table for table in tables if len(table)]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COMPARISONS)
    return typed(table[COMPARISONS])


def _compare(group: Group, shift: str, split: str) -> pd.DataFrame:
    conditions = [of_split(CLEAN, split)] if shift == CLEAN[0] else group.conditions(shift)
    entrants = {key: runs.means(conditions) for key, runs in group.entrants.items() if _has(runs, conditions)}
    size = min((len(means) for means in entrants.values()), default=1)
    # (encoders, resamples, conditions); NaN where a condition was not measured.
    means = np.array([one[:size] for one in entrants.values()])
    measured = np.isfinite(means[:, 0]) if len(means) else np.empty((0, 0), bool)
    pairs = list(combinations(range(len(entrants)), 2))
    common = np.array([(measured[a] & measured[b]).sum() for a, b in pairs], dtype=np.int64)
    pairs = [pair for pair, count in zip(pairs, common, strict=True) if count]
    if not pairs:
        return pd.DataFrame()
    own = [one[:, there].mean(axis=1) for one, there in zip(means, measured, strict=True)]
    differences = np.array(
        [
            own[a] - own[b] if (measured[a] == measured[b]).all() else _difference(means, measured, a, b)
            for a, b in pairs
        ]
    )
    numbers = intervals(differences)
    alone, together = paired_tests(differences.T)
    keys, shared = list(entrants), group.keys | {"split": split, "shift": shift}
    columns: dict[str, Any] = {name: [value] * len(pairs) for name, value in shared.items()}
    for side, members in zip("ab", zip(*pairs, strict=True), strict=True):
        for place, name in enumerate(("encoder", "feature", "selection")):
            columns[f"{name}_{side}"] = [keys[member][place] for member in members]
    columns |= {"difference": numbers[:, 0], "low": numbers[:, 1], "high": numbers[:, 2]}
    columns |= {"p": alone, "p_holm": holm(alone), "p_joint": together, "n_conditions": common[common > 0]}
    why = _NO_RESAMPLES if size == 1 else _NO_SPREAD
    return pd.DataFrame(columns | {"reason": np.where(np.isfinite(alone), "", why)})


def _has(runs: Runs, conditions: list[tuple[str, str, int]]) -> bool:
    return bool(len(runs)) and bool(np.isfinite(runs.means(conditions)[0]).any())


def _difference(means: np.ndarray, measured: np.ndarray, a: int, b: int) -> np.ndarray:
    """(resamples,) mean over the conditions that both have."""
    both = measured[a] & measured[b]
    return (means[a][:, both] - means[b][:, both]).mean(axis=1)
