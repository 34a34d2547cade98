"""From what an evaluation kept to its tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from shiftbench.evaluation.agreements import Agreements
from shiftbench.evaluation.candidates import Candidate
from shiftbench.evaluation.partitions import Partitions, Scores
from shiftbench.evaluation.plan import AXES_OF, PROBE, Plan
from shiftbench.evaluation.scoring import FEATURES, PROBE_METRICS
from shiftbench.records import Condition, Skipped
from shiftbench.registry import METRICS
from shiftbench.results.tables import cells_table, recall_table, replicates_table, stability_table
from shiftbench.runtime.parallel import parallel_map
from shiftbench.stability.axes import AXES, Measured, initialization, shift, training_seed

Rows = list[dict[str, Any]]
SKIPPED = "skipped"  # the key of what was never to be computed
MAKERS = {"cells": cells_table, "recall": recall_table, "stability": stability_table, "replicates": replicates_table}


def tabulate(plan: Plan, workers: int) -> dict[str, pd.DataFrame]:
    """The measured tables of everything that is kept in the plan's folder: cells, recall, stability and replicates.

    Args:
        plan: the evaluation.
        workers: candidates worked on at once.
    """
    found = parallel_map(lambda candidate: _Candidate(plan, candidate).rows(), plan.candidates, workers)
    rows = {name: [row for part in found for row in part[name]] for name in MAKERS}
    rows["stability"] += _training_seeds(plan)
    return {name: make(rows[name]) for name, make in MAKERS.items()}


class _Candidate:
    """What is kept of one candidate, put through every clusterer and probe, as rows."""

    def __init__(self, plan: Plan, candidate: Candidate) -> None:
        self.plan, self.candidate = plan, candidate

    def rows(self) -> dict[str, Rows]:
        """Rows by table."""
        found: dict[str, Rows] = {name: [] for name in MAKERS}
        for way in (*self.plan.ways(self.candidate), FEATURES):
            clean: dict[str, Partitions] = {}
            for condition in self.plan.samples:
                is_clean = condition.shift == "clean"
                if way == FEATURES and is_clean:
                    continue
                kept = _kept(self.plan, self.candidate, way, condition)
                found["cells"] += self._cells(way, condition, kept, kept.scores)
                if is_clean:
                    clean[condition.split] = kept
                    chance = Condition("chance", split=condition.split)
                    found["cells"] += self._cells(way, chance, kept, kept.chance, only_labels=True)
                found["recall"] += self._recalls(way, condition, kept)
                found["replicates"] += self._replicates(way, condition, kept)
                if way in self.plan.clusterings(self.candidate):
                    found["stability"] += self._stability(way, condition, kept, clean[condition.split])
        return found

    def _keys(self, way: str, condition: Condition, k: int) -> dict[str, Any]:
        encoder = self.candidate.encoder
        is_clustering = way in self.plan.clusterings(self.candidate)
        return {
            "encoder": encoder.name,
            "train_seed": encoder.train_seed,
            "data": self.plan.data.name,
            "split": condition.split,
            "shift": condition.shift,
            "corruption": condition.corruption,
            "severity": condition.severity,
            "table": condition.table,
            "feature": self.candidate.feature,
            "clusterer": way,
            "k": k,
            "k_source": self.plan.k_source if is_clustering else "true" if way != FEATURES else "",
            "selection": encoder.selection,
        }

    def _cells(
        self, way: str, condition: Condition, kept: Partitions, scores: Scores, only_labels: bool = False
    ) -> Rows:
        sample = self.plan.samples.get(condition.clean if condition.shift == "chance" else condition)
        labelled = isinstance(sample, Skipped) or (sample is not None and sample.labels is not None)
        labelled = labelled and self.plan.data.test.labels is not None
        n = 0 if isinstance(sample, Skipped) or sample is None else sample.n
        rows = []
        for p, (protocol, k, seeds) in enumerate(_layout(self.plan, way, kept)):
            shared = self._keys(way, condition, k) | {
                "protocol": protocol,
                "fit_split": {"frozen": "train", "refit": "test"}.get(protocol, ""),
                "n": n,
            }
            for metric in _metrics(way, condition, protocol, labelled, only_labels):
                for seed in range(seeds):
                    value = float(scores[metric][p, seed]) if kept.ok else np.nan
                    rows.append(
                        shared
                        | {
                            "seed": seed,
                            "metric": metric,
                            "value": value,
                            "higher_is_better": METRICS[metric].higher_is_better,
                        }
                        | _outcome(kept, value)
                    )
        return rows

    def _recalls(self, way: str, condition: Condition, kept: Partitions) -> Rows:
        if not kept.ok or not kept.recalls.size:
            return []
        labels = self.plan.sample(condition).labels
        counts = np.bincount(labels, minlength=kept.recalls.shape[2])  # type: ignore[arg-type]  # recalls need labels
        rows = []
        for p, (protocol, k, seeds) in enumerate(_layout(self.plan, way, kept)):
            for c in np.flatnonzero(counts):
                values = kept.recalls[p, :, c]
                rows.append(
                    self._keys(way, condition, k)
                    | {
                        "protocol": protocol,
                        "class": self.plan.data.classes[c],
                        "mean": values.mean(),
                        "sd": values.std(ddof=1) if seeds > 1 else np.nan,
                        "n_seeds": seeds,
                        "n": int(counts[c]),
                    }
                )
        return rows

    def _replicates(self, way: str, condition: Condition, kept: Partitions) -> Rows:
        return [
            self._keys(way, condition, k) | {"protocol": protocol, "metric": metric, "replicates": values[p]}
            for p, (protocol, k, _) in enumerate(_layout(self.plan, way, kept) if kept.ok else ())
            for metric, values in kept.replicates.items()
        ]

    def _stability(self, way: str, condition: Condition, kept: Partitions, clean: Partitions) -> Rows:
        """Agreement among the seeds' partitions, of each with its clean version, and what was kept beside them."""
        rows: Rows = []
        sample = self.plan.samples[condition]
        n = 0 if isinstance(sample, Skipped) else sample.n
        for p, (protocol, k, _) in enumerate(_layout(self.plan, way, kept)):
            shared = self._keys(way, condition, k) | {"protocol": protocol}
            if "initialization" in self.plan.axes:
                measured: Measured | None = None
                if kept.ok:
                    same = Skipped("one partition has no other to agree with")
                    measured = initialization(kept.labels[p], clusterer=way) if kept.labels.shape[1] > 1 else same
                rows += _axis_rows(shared | {"n": n}, "initialization", measured, kept)
            if "shift" in self.plan.axes and condition.shift != "clean":
                if not kept.ok or not clean.ok:
                    rows += _axis_rows(shared | {"n": n}, "shift", None, kept if not kept.ok else clean)
                elif (places := _pairs(self.plan, condition)) is not None:
                    pair = shift(clean.labels[p][:, places], kept.labels[p])
                    rows += _axis_rows(shared | {"n": n}, "shift", pair, kept)
        if self.plan.feature_axes and not isinstance(sample, Skipped) and not self.candidate.is_head:
            path = self.plan.path(self.candidate, AXES_OF + way, condition)
            beside = Agreements.load(path) or Agreements("", reason="not computed")
            shared = self._keys(way, condition, int(kept.ks[-1]) if kept.ok else self.plan.ks[0]) | {
                "protocol": "refit"
            }
            for axis, one in beside.axes.items():
                rows += _axis_rows(shared | {"n": one.n}, axis, one.measured, kept)
            if not beside.ok:
                failed = Partitions.failed("", beside.reason)
                for axis in self.plan.feature_axes:
                    rows += _axis_rows(shared | {"n": n}, axis, None, failed)
        return rows


def _kept(plan: Plan, candidate: Candidate, way: str, condition: Condition) -> Partitions:
    sample = plan.samples[condition]
    if isinstance(sample, Skipped):
        return Partitions.failed(SKIPPED, sample.reason)
    return Partitions.load(plan.path(candidate, way, condition)) or Partitions.failed("", "not computed")


def _outcome(kept: Partitions, value: float) -> dict[str, str]:
    if kept.key == SKIPPED and not kept.ok:
        return {"status": "skipped", "reason": kept.reason}
    if not kept.ok:
        return {"status": "failed", "reason": kept.reason}
    if np.isnan(value):
        return {"status": "skipped", "reason": "not defined for these partitions"}
    return {"status": "ok", "reason": kept.note}


def _layout(plan: Plan, way: str, kept: Partitions) -> list[tuple[str, int, int]]:
    """(protocol, k, number of seeds) of what is kept, or of what would have been."""
    if kept.ok:
        return [(p, int(k), kept.labels.shape[1]) for p, k in zip(kept.protocols, kept.ks, strict=True)]
    if way == FEATURES:
        return [("", 0, 1)]
    if way.startswith(PROBE):
        return [("frozen", len(plan.data.classes), 1)]
    return [(protocol, plan.ks[0], plan.starts(way)) for protocol in plan.protocols]


def _metrics(way: str, condition: Condition, protocol: str, labelled: bool, only_labels: bool) -> list[str]:
    """What is measured there."""
    if way == FEATURES:
        return ["frechet"]
    if way.startswith(PROBE):
        return list(PROBE_METRICS) if labelled else []
    inner = [] if only_labels else ["silhouette", "entropy", "collapsed"]
    if not only_labels and protocol == "frozen" and condition.shift != "clean":
        inner.append("drift")
    return (METRICS.names("labels") if labelled else []) + inner


def _pairs(plan: Plan, condition: Condition) -> np.ndarray | None:
    """Where the clean version of each image stands among the clean images of its split; None where it has none."""
    rows, clean = plan.sample(condition).rows, plan.sample(condition.clean).rows
    return None if rows is None else np.searchsorted(clean, rows)  # type: ignore[arg-type]  # clean images have rows


def _axis_rows(shared: Mapping[str, Any], axis: str, measured: Measured | None, kept: Partitions) -> Rows:
    """A row per metric; without a measurement the reason why."""
    nothing = {"mean": np.nan, "sd": np.nan, "ci_low": np.nan, "ci_high": np.nan, "n_pairs": 0}
    rows = []
    for metric in AXES[axis].metrics:
        if isinstance(measured, Skipped):
            outcome, values = {"status": "skipped", "reason": measured.reason}, nothing
        elif measured is None:
            outcome, values = _outcome(kept, np.nan), nothing
        else:
            outcome, values = {"status": "ok", "reason": kept.note}, asdict(measured[metric])
        rows.append({**shared, "axis": axis, "metric": metric, **values, **outcome})
    return rows


def _training_seeds(plan: Plan) -> Rows:
    """Agreement between encoders that differ in their training seed alone, under every condition."""
    if "training_seed" not in plan.axes:
        return []
    groups: dict[tuple[str, str], list[Candidate]] = {}
    for candidate in plan.candidates:
        if candidate.encoder.train_seed is not None:
            groups.setdefault((candidate.encoder.name, candidate.feature), []).append(candidate)
    rows: Rows = []
    for candidates in groups.values():
        first = _Candidate(plan, candidates[0])
        for way in plan.clusterings(candidates[0]):
            for condition, sample in plan.samples.items():
                kept = [_kept(plan, candidate, way, condition) for candidate in candidates]
                worst = next((one for one in kept if not one.ok), kept[0])
                for p, (protocol, k, _) in enumerate(_layout(plan, way, worst)):
                    measured = training_seed(np.stack([one.labels[p] for one in kept])) if worst.ok else None
                    n = 0 if isinstance(sample, Skipped) else sample.n
                    shared = first._keys(way, condition, k) | {"train_seed": None, "protocol": protocol, "n": n}
                    rows += _axis_rows(shared, "training_seed", measured, worst)
    return rows
