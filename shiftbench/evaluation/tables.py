"""From the files that an evaluation kept to its tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from shiftbench.evaluation.candidates import Candidate
from shiftbench.evaluation.partitions import Agreements, Partitions, Scores
from shiftbench.evaluation.plan import Plan
from shiftbench.evaluation.readouts import Clustered, Layout, Readout, Stable
from shiftbench.records import CLEAN, Condition, Skipped
from shiftbench.registry import METRICS
from shiftbench.results.tables import cells_table, recall_table, replicates_table, stability_table
from shiftbench.runtime.parallel import parallel_map
from shiftbench.stability.axes import AXES, initialization, shift, training_seed
from shiftbench.stability.pairs import Measured

Rows = list[dict[str, Any]]
SKIPPED = "skipped"  # the key of conditions that cannot be scored
CHANCE = "chance"  # the shift of scores with permuted labels
MAKERS = {
    "cells": cells_table,
    "recall": recall_table,
    "stability": stability_table,
    "replicates": replicates_table,
}
_NOTHING = {"mean": np.nan, "sd": np.nan, "ci_low": np.nan, "ci_high": np.nan, "n_pairs": 0}


def tabulate(plan: Plan, workers: int) -> dict[str, pd.DataFrame]:
    """The measured tables of everything that is kept in the plan's folder: cells, recall, stability and replicates.

    Args:
        plan: the evaluation.
        workers: candidates worked on at once.
    """
    parts = parallel_map(lambda candidate: _rows_of(plan, candidate), plan.candidates, workers)
    rows = {name: [row for part in parts for row in part[name]] for name in MAKERS}
    rows["stability"] += _training_seeds(plan)
    return {name: make(rows[name]) for name, make in MAKERS.items()}


def _rows_of(plan: Plan, candidate: Candidate) -> dict[str, Rows]:
    """Rows by table, of everything that is kept of one candidate."""
    rows: dict[str, Rows] = {name: [] for name in MAKERS}
    for readout in plan.readouts(candidate):
        clean: dict[str, _Kept] = {}
        for condition in plan.samples:
            kept = _Kept.of(plan, candidate, readout, condition)
            rows["cells"] += kept.cells(condition, kept.partitions.scores)
            if condition.shift == CLEAN.shift:
                clean[condition.split] = kept
                chance = Condition(CHANCE, split=condition.split)
                rows["cells"] += kept.cells(chance, kept.partitions.chance)
            rows["recall"] += kept.recalls()
            rows["replicates"] += kept.replicates()
            if readout.is_clustering:
                rows["stability"] += kept.stability(clean[condition.split])
    return rows


@dataclass(frozen=True)
class _Kept:
    """What is kept of one candidate with one readout under one condition."""

    plan: Plan
    candidate: Candidate
    readout: Readout
    condition: Condition
    partitions: Partitions

    @classmethod
    def of(cls, plan: Plan, candidate: Candidate, readout: Readout, condition: Condition) -> _Kept:
        """As it is in the plan's folder."""
        sample = plan.samples[condition]
        if isinstance(sample, Skipped):
            partitions = Partitions.failed(SKIPPED, sample.reason)
        else:
            kept = Partitions.load(plan.path(candidate, readout, condition))
            ours = kept is not None and kept.key == plan.key(candidate, readout, condition)
            partitions = kept if kept is not None and ours else Partitions.failed("", "not computed")
        return cls(plan, candidate, readout, condition, partitions)

    @property
    def n(self) -> int:
        """The number of images."""
        sample = self.plan.samples[self.condition]
        return 0 if isinstance(sample, Skipped) else sample.n

    @property
    def layout(self) -> Layout:
        """The layout of what is kept; after a failure, the planned layout."""
        kept = self.partitions
        if not kept.ok:
            return self.plan.layout(self.readout)
        return [(name, int(k), kept.labels.shape[1]) for name, k in zip(kept.protocols, kept.ks, strict=True)]

    def keys(self, k: int, condition: Condition | None = None) -> dict[str, Any]:
        """The columns that say what a row is about."""
        encoder, place = self.candidate.encoder, condition or self.condition
        return {
            "encoder": encoder.name,
            "train_seed": encoder.train_seed,
            "data": self.plan.data.name,
            "split": place.split,
            "shift": place.shift,
            "corruption": place.corruption,
            "severity": place.severity,
            "table": place.table,
            "feature": self.candidate.feature,
            "clusterer": self.readout.name,
            "k": k,
            "k_source": self.readout.k_source(self.plan.k_source),
            "selection": encoder.selection,
        }

    def cells(self, condition: Condition, scores: Scores) -> Rows:
        """A row per protocol, metric and seed.

        Args:
            condition: its own, or that of chance.
            scores: by metric (P, S).
        """
        rows = []
        for p, (protocol, k, seeds) in enumerate(self.layout):
            shared = self.keys(k, condition) | {
                "protocol": protocol,
                "fit_split": {"frozen": "train", "refit": "test"}.get(protocol, ""),
                "n": self.n,
            }
            for name in self.plan.metrics(self.readout, self.condition, protocol):
                metric = METRICS[name]
                if condition.shift == CHANCE and not metric.of_table:
                    continue
                for seed in range(seeds):
                    value = float(scores[name][p, seed]) if self.partitions.ok else np.nan
                    own = {"seed": seed, "metric": name, "value": value, "higher_is_better": metric.higher_is_better}
                    rows.append(shared | own | self.outcome(value))
        return rows

    def recalls(self) -> Rows:
        """A row per protocol and class that occurs."""
        kept = self.partitions
        if not kept.ok or not kept.recalls.size:
            return []
        labels = self.plan.sample(self.condition).labels
        counts = np.bincount(labels, minlength=kept.recalls.shape[2])  # type: ignore[arg-type]  # recalls need labels
        rows = []
        for p, (protocol, k, seeds) in enumerate(self.layout):
            for c in np.flatnonzero(counts):
                values = kept.recalls[p, :, c]
                rows.append(
                    self.keys(k)
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

    def replicates(self) -> Rows:
        """A row per protocol and metric."""
        return [
            self.keys(k) | {"protocol": protocol, "metric": metric, "replicates": values[p]}
            for p, (protocol, k, _) in enumerate(self.layout if self.partitions.ok else ())
            for metric, values in self.partitions.replicates.items()
        ]

    def stability(self, clean: _Kept) -> Rows:
        """Agreement among the seeds' partitions, of each with its clean version, and along the axes that need features."""
        rows: Rows = []
        for p, (protocol, k, _) in enumerate(self.layout):
            shared = self.keys(k) | {"protocol": protocol, "n": self.n}
            if "initialization" in self.plan.axes:
                rows += self.axis(shared, "initialization", self._among_seeds(p))
            if "shift" in self.plan.axes and self.condition.shift != CLEAN.shift:
                rows += self._with_clean(shared, p, clean)
        skipped = isinstance(self.plan.samples[self.condition], Skipped)
        if self.plan.feature_axes and not self.candidate.is_head and not skipped:
            rows += list(self._along_features())
        return rows

    def axis(self, shared: Mapping[str, Any], axis: str, measured: Measured | None) -> Rows:
        """A row per metric of an axis; without a measurement the reason why."""
        rows = []
        for metric in AXES[axis].metrics:
            outcome, values = self.outcome(np.nan), _NOTHING
            if isinstance(measured, Skipped):
                outcome = {"status": "skipped", "reason": measured.reason}
            elif measured is not None:
                outcome, values = {"status": "ok", "reason": self.partitions.note}, asdict(measured[metric])
            rows.append({**shared, "axis": axis, "metric": metric, **values, **outcome})
        return rows

    def outcome(self, value: float) -> dict[str, str]:
        """Status and reason of a value."""
        kept = self.partitions
        if kept.key == SKIPPED and not kept.ok:
            return {"status": "skipped", "reason": kept.reason}
        if not kept.ok:
            return {"status": "failed", "reason": kept.reason}
        if np.isnan(value):
            return {"status": "skipped", "reason": "not defined for these partitions"}
        return {"status": "ok", "reason": kept.note}

    def _among_seeds(self, p: int) -> Measured | None:
        if not self.partitions.ok:
            return None
        labels = self.partitions.labels[p]
        if len(labels) < 2:
            return Skipped("one partition has no other to agree with")
        return initialization(labels, clusterer=self.readout.name)

    def _with_clean(self, shared: Mapping[str, Any], p: int, clean: _Kept) -> Rows:
        if not self.partitions.ok or not clean.partitions.ok:
            failed = clean if self.partitions.ok else self
            return failed.axis(shared, "shift", None)
        rows = self.plan.sample(self.condition).rows
        if rows is None:  # other pictures: no image has a clean version
            return []
        places = np.searchsorted(self.plan.sample(self.condition.clean).rows, rows)  # type: ignore[arg-type]
        pairs = shift(clean.partitions.labels[p][:, places], self.partitions.labels[p])
        return self.axis(shared, "shift", pairs)

    def _along_features(self) -> Iterator[dict[str, Any]]:
        assert isinstance(self.readout, Clustered)
        path = self.plan.path(self.candidate, Stable(self.readout.clusterer), self.condition)
        kept = Agreements.load(path) or Agreements("", reason="not computed")
        k = int(self.partitions.ks[-1]) if self.partitions.ok else self.plan.ks[0]
        shared = self.keys(k) | {"protocol": "refit"}
        for name, axis in kept.axes.items():
            yield from self.axis(shared | {"n": axis.n}, name, axis.measured)
        if not kept.ok:
            failed = replace(self, partitions=Partitions.failed("", kept.reason))
            for name in self.plan.feature_axes:
                yield from failed.axis(shared | {"n": self.n}, name, None)


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
        for readout in plan.clusterings(candidates[0]):
            for condition in plan.samples:
                kept = [_Kept.of(plan, candidate, readout, condition) for candidate in candidates]
                worst = next((trained for trained in kept if not trained.partitions.ok), kept[0])
                for p, (protocol, k, _) in enumerate(worst.layout):
                    shared = kept[0].keys(k) | {"train_seed": None, "protocol": protocol, "n": worst.n}
                    measured = None
                    if worst.partitions.ok:
                        measured = training_seed(np.stack([trained.partitions.labels[p] for trained in kept]))
                    rows += worst.axis(shared, "training_seed", measured)
    return rows
