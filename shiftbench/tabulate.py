"""From the kept partitions of an evaluation to its tables."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from shiftbench.metrics.agreement import AGREEMENTS, paired, pairwise
from shiftbench.metrics.robustness import bootstrap_agreement, bootstrap_mean
from shiftbench.parallel import parallel_map
from shiftbench.partitions import Partitions
from shiftbench.plan import Plan
from shiftbench.records import CLEAN, Condition
from shiftbench.registry import METRICS
from shiftbench.results import cells_table, stability_table

NOT_TRIED = Partitions.failed("", "not computed")


def tabulate(plan: Plan, workers: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The ``cells`` and ``stability`` tables of everything that is kept in the plan's folder.

    Cells need class labels; without them the first table is empty.

    Args:
        plan: the evaluation.
        workers: conditions worked on at once.
    """
    cells: list[dict[str, Any]] = []
    stability: list[dict[str, Any]] = []
    for slug in plan.encoders:
        kept = {one: Partitions.load(plan.path(slug, one)) or NOT_TRIED for one in plan.conditions}
        clean = kept[CLEAN]
        cells += _cells(plan, slug, Condition("chance"), clean, clean.chance)
        for condition, partitions in kept.items():
            cells += _cells(plan, slug, condition, partitions, partitions.scores)
        agreements = parallel_map(lambda item: _stability(plan, slug, *item, clean), kept.items(), workers)  # noqa: B023
        stability += chain.from_iterable(agreements)
    return cells_table(cells), stability_table(stability)


def _keys(plan: Plan, slug: str, condition: Condition) -> dict[str, Any]:
    encoder = plan.encoders[slug]
    return {
        "encoder": encoder.name,
        "train_seed": encoder.train_seed,
        "data": plan.data.name,
        "split": "test",
        "shift": condition.shift,
        "corruption": condition.corruption,
        "severity": condition.severity,
        "table": condition.table,
        "feature": encoder.feature_name(plan.feature),
        "clusterer": plan.clusterer,
        "k": plan.k,
        "k_source": plan.k_source,
    }


def _outcome(partitions: Partitions) -> dict[str, Any]:
    return {"status": "ok" if partitions.ok else "failed", "reason": partitions.reason}


def _cells(
    plan: Plan, slug: str, condition: Condition, partitions: Partitions, scores: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    if plan.data.test.labels is None:
        return []
    shared = _keys(plan, slug, condition) | _outcome(partitions) | {"selection": plan.encoders[slug].selection}
    return [
        shared
        | {
            "seed": seed,
            "protocol": protocol,
            "fit_split": "train" if protocol == "frozen" else "test",
            "metric": metric,
            "value": scores[metric][p, seed] if partitions.ok else np.nan,
            "higher_is_better": True,
            "n": len(plan.data.test),
        }
        for p, protocol in enumerate(plan.protocols)
        for seed in range(plan.seeds)
        for metric in METRICS
    ]


def _stability(
    plan: Plan, slug: str, condition: Condition, partitions: Partitions, clean: Partitions
) -> list[dict[str, Any]]:
    shared = _keys(plan, slug, condition) | {"n": len(plan.data.test)}
    rows = []
    for p, protocol in enumerate(plan.protocols):
        axes = {"initialization": partitions}
        if condition != CLEAN:
            axes["shift"] = partitions if clean.ok else clean
        for axis, decisive in axes.items():
            outcome = _outcome(decisive)
            measured = _agreement(axis, p, partitions, clean) if decisive.ok and partitions.ok else _unmeasured()
            if plan.seeds < 2 and axis == "initialization" and decisive.ok:
                outcome = {"status": "skipped", "reason": "one seed has no other to agree with"}
            for metric in AGREEMENTS:
                rows.append(
                    shared | {"protocol": protocol, "axis": axis, "metric": metric} | outcome | measured[metric]
                )
    return rows


def _unmeasured() -> dict[str, dict[str, Any]]:
    nothing = {"mean": np.nan, "sd": np.nan, "ci_low": np.nan, "ci_high": np.nan, "n_pairs": 0}
    return dict.fromkeys(AGREEMENTS, nothing)


def _agreement(axis: str, p: int, partitions: Partitions, clean: Partitions) -> dict[str, dict[str, Any]]:
    """Agreement among the seeds' partitions, or of each with the same seed's partition of the clean split."""
    found = {}
    if axis == "initialization":
        for metric, matrix in pairwise(partitions.labels[p]).items():
            mean, sd, low, high = bootstrap_agreement(matrix)
            pairs = len(matrix) * (len(matrix) - 1) // 2
            found[metric] = {"mean": mean, "sd": sd, "ci_low": low, "ci_high": high, "n_pairs": pairs}
        return found
    for metric, values in paired(clean.labels[p], partitions.labels[p]).items():
        mean, low, high = bootstrap_mean(values)
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else np.nan
        found[metric] = {"mean": mean, "sd": sd, "ci_low": low, "ci_high": high, "n_pairs": len(values)}
    return found
