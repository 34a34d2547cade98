"""One task: from features to partitions with all their scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shiftbench.clustering.base import Partition
from shiftbench.errors import InputError
from shiftbench.evaluation.context import Task
from shiftbench.evaluation.fitting import Fitted, Mappings, cluster
from shiftbench.evaluation.partitions import Partitions, Scores
from shiftbench.evaluation.readouts import Clustered, Described, Own, Probed
from shiftbench.metrics.counts import contingency
from shiftbench.metrics.external import recalls, scores
from shiftbench.metrics.robustness import chance_level
from shiftbench.records import CLEAN
from shiftbench.registry import METRICS
from shiftbench.results.resample import image_replicates, mean_over_seeds
from shiftbench.runtime.clock import Clock


@dataclass(frozen=True)
class Made:
    """Partitions before they are scored.

    Attributes:
        protocols: names of the P protocols.
        ks: int64 (P,), number of clusters of each.
        labels: int64 (P, S, N), the cluster of each image.
        mappings: for each protocol, int64 (k,) per seed, the class of each cluster; None for the best mapping.
        note: what a reader of the scores must know.
    """

    protocols: tuple[str, ...]
    ks: np.ndarray
    labels: np.ndarray
    mappings: Sequence[Mappings]
    note: str = ""

    def each(self, score: Callable[[np.ndarray, np.ndarray | None], Any]) -> list[list[Any]]:
        """The score of each partition (N,) and its mapping, protocol by protocol and seed by seed."""
        return [
            [score(partition, mapping) for partition, mapping in zip(*pair, strict=True)]
            for pair in zip(self.labels, self.mappings, strict=True)
        ]


def measure(task: Task, fitted: Fitted, features: np.ndarray, clock: Clock) -> Partitions:
    """Apply a readout to prepared features, float32 (N, D), and score the result. A failure is kept with its reason."""
    try:
        if isinstance(task.readout, Described):
            return _describe(task, fitted, features, clock)
        if isinstance(task.readout, Probed):
            return _probe(task, task.readout, fitted, features, clock)
        assert isinstance(task.readout, Clustered)
        return _partition(task, task.readout, fitted, features, clock)
    except InputError as error:
        return Partitions.failed(task.key, str(error))


def reason(error: Exception | None) -> str:
    """One line for the tables."""
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def _describe(task: Task, fitted: Fitted, features: np.ndarray, clock: Clock) -> Partitions:
    known = {"features": features, "labels": task.sample.labels, "seed": task.plan.seed}
    with clock("measure"):
        names = task.plan.metrics(task.readout, task.condition, "")
        values = {name: np.array([[_value(name, known, task, fitted)]]) for name in names}
    nothing = np.empty((1, 1, 0), np.int16)
    return Partitions(task.key, ("",), np.zeros(1, np.int64), nothing, values, note=_note(task, ""))


def _probe(task: Task, readout: Probed, fitted: Fitted, features: np.ndarray, clock: Clock) -> Partitions:
    probe = fitted.probes[readout]
    if isinstance(probe, Exception):
        return Partitions.failed(task.key, f"on the clean training split: {reason(probe)}")
    with clock("probe"):
        labels = probe.predict(features)[None, None]
    classes = np.arange(len(task.plan.data.classes))
    return _scored(task, Made(("frozen",), np.array([len(classes)]), labels, [[classes]]), {}, clock)


def _partition(task: Task, readout: Clustered, fitted: Fitted, features: np.ndarray, clock: Clock) -> Partitions:
    """Apply the frozen clusters, and cluster anew."""
    clusterings, plan = fitted.clusterings[readout], task.plan
    if isinstance(clusterings, Exception):
        return Partitions.failed(task.key, f"on the clean training split: {reason(clusterings)}")
    ks = {"frozen": fitted.k, "refit": fitted.k}
    if not isinstance(readout, Own):
        ks["refit"] = plan.clusters(task.condition, fitted.k)
    labels: dict[str, list[np.ndarray]] = {}
    notes: list[str] = []
    with clock("cluster"):
        if "frozen" in plan.protocols:
            labels["frozen"] = [partition.predict(features) for partition in clusterings]
            notes += [partition.note for partition in clusterings]
        if "refit" in plan.protocols:
            anew = cluster(plan, readout, features, ks["refit"])
            labels["refit"] = [partition.labels for partition in anew]
            notes += [partition.note for partition in anew]
    # The frozen protocol scores with the map from clusters to classes that was fitted on the clean training split.
    best: Mappings = [None] * len(clusterings)
    mappings = {"frozen": fitted.mappings.get(readout, best), "refit": best}
    made = Made(
        plan.protocols,
        np.array([ks[protocol] for protocol in plan.protocols]),
        np.array([labels[protocol] for protocol in plan.protocols]),
        [mappings[protocol] for protocol in plan.protocols],
        "; ".join(dict.fromkeys(filter(None, notes))),
    )
    with clock("measure"):
        inner = _inner(task, made, fitted, features, clusterings)
    return _scored(task, made, inner, clock)


def _inner(
    task: Task, made: Made, fitted: Fitted, features: np.ndarray, clusterings: Sequence[Partition]
) -> dict[str, np.ndarray]:
    """Metrics that need more than a table of classes and clusters: float64 (P, S) each, NaN where not measured."""
    names = {protocol: task.plan.metrics(task.readout, task.condition, protocol) for protocol in made.protocols}
    truth = task.sample.labels
    known = {"features": features, "labels": truth, "seed": task.plan.seed}
    values: dict[str, np.ndarray] = {}
    for name in dict.fromkeys(name for measured in names.values() for name in measured):
        metric = METRICS[name]
        if metric.of_table:
            continue
        if metric.batched:
            values[name] = _value(name, known | {"partition": made.labels}, task, fitted)
            continue
        values[name] = np.full(made.labels.shape[:2], np.nan)
        for p, protocol in enumerate(made.protocols):
            for s, partition in enumerate(made.labels[p] if name in names[protocol] else ()):
                own = {"partition": partition, "k": int(made.ks[p]), "centers": clusterings[s].centers}
                if truth is not None:
                    own |= {"table": contingency(truth, partition), "mapping": made.mappings[p][s]}
                values[name][p, s] = _value(name, known | own, task, fitted)
    return values


def _value(name: str, known: Mapping[str, Any], task: Task, fitted: Fitted) -> Any:
    """A metric's value.

    Raises:
        InputError: the metric failed.
    """
    needs = METRICS[name].needs
    try:
        if needs[0] == "clean_features":
            compare = fitted.references[task.condition.split][name]
            return compare(*(known[need] for need in needs[1:]))
        return METRICS.load(name)(*(known[need] for need in needs))
    except InputError:
        raise
    except Exception as error:  # it may be a stranger's code
        raise InputError(f"the metric {name} failed: {type(error).__name__}: {error}") from error


def _scored(task: Task, made: Made, inner: Scores, clock: Clock) -> Partitions:
    """Partitions with the scores that labels allow."""
    truth = task.sample.labels
    if truth is None:
        return Partitions(task.key, made.protocols, made.ks, made.labels, inner, note=_note(task, made.note))
    takes = task.readout.takes
    names = [name for name, metric in METRICS.items() if takes(metric) and metric.of_table]

    def table_scores(partition: np.ndarray, mapping: np.ndarray | None) -> dict[str, float]:
        return scores(contingency(truth, partition), mapping)

    def by_name(cells: list[list[dict[str, float]]]) -> dict[str, np.ndarray]:
        return {name: np.array([[cell[name] for cell in row] for row in cells]) for name in names}

    def chance_levels(partition: np.ndarray, mapping: np.ndarray | None) -> dict[str, float]:
        return {name: chance_level(truth, partition, mapping, name) for name in names}

    with clock("score"):
        outer = by_name(made.each(table_scores))
        by_class = made.each(lambda partition, mapping: recalls(contingency(truth, partition), mapping))
        chance = by_name(made.each(chance_levels)) if task.condition.shift == CLEAN.shift else {}
    with clock("resample"):
        resampled = [
            mean_over_seeds(image_replicates(truth, *pair, seed=task.plan.seed, **_places(task)))
            for pair in zip(made.labels, made.mappings, strict=True)
        ]
        replicates = {name: np.stack([means[name] for means in resampled]) for name in names}
    return Partitions(
        key=task.key,
        protocols=made.protocols,
        ks=made.ks,
        labels=made.labels,
        scores=outer | dict(inner),
        chance=chance,
        replicates=replicates,
        recalls=np.array(by_class),
        note=_note(task, made.note),
    )


def _note(task: Task, note: str) -> str:
    return "; ".join(filter(None, [note, task.candidate.encoder.caution]))


def _places(task: Task) -> dict[str, Any]:
    """Which clean image each image is a version of, so that both are resampled together; empty for other pictures."""
    rows, clean = task.sample.rows, task.plan.sample(CLEAN).rows
    if rows is None:
        return {}
    assert clean is not None
    return {"rows": np.searchsorted(clean, rows), "population": len(clean)}
