"""One candidate under one condition: features in, partitions by every clusterer and probe out, with their scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from shiftbench.clustering.base import Partition
from shiftbench.errors import InputError
from shiftbench.evaluation.candidates import Candidate
from shiftbench.evaluation.partitions import Partitions, Scores
from shiftbench.evaluation.plan import ARGMAX, PROBE, Plan, clusterer_of
from shiftbench.metrics.external import contingency, match, recalls, scores
from shiftbench.metrics.internal import FrechetReference, collapsed, drift, entropy, silhouette
from shiftbench.metrics.probes import PROBES
from shiftbench.metrics.robustness import chance_level
from shiftbench.records import CLEAN, Condition
from shiftbench.results.resample import image_replicates, mean_over_seeds
from shiftbench.runtime.clock import Clock
from shiftbench.stability.choose_k import Choice, choose_k

FEATURES = "features"  # the pseudo-clusterer of what describes features alone
PROBE_METRICS = ("acc", "mean_recall", "worst_class")
SILHOUETTE_IMAGES = 1000

Mappings = Sequence[np.ndarray | None]
Prepare = Callable[[np.ndarray], np.ndarray]


@dataclass
class Fitted:
    """All that was fitted on the clean training split of one candidate.

    Attributes:
        prepare: raw features to those that are clustered.
        k: number of clusters.
        choice: how k was estimated, None where it was not.
        clusterings: by clusterer, one per seed, or why there are none.
        mappings: by clusterer, int64 (k,) per seed, the class of each cluster; None without labels.
        probes: by name, fitted, or why not.
        references: by split, the clean features as Frechet's distance needs them.
    """

    prepare: Prepare
    k: int
    choice: Choice | None = None
    clusterings: dict[str, Sequence[Partition] | Exception] = field(default_factory=dict)
    mappings: dict[str, Mappings] = field(default_factory=dict)
    probes: dict[str, Any] = field(default_factory=dict)
    references: dict[str, FrechetReference] = field(default_factory=dict)


def fit(plan: Plan, candidate: Candidate, raw: np.ndarray, clock: Clock) -> Fitted:
    """Fit everything on the clean training split's features, float32 (N, D).

    Raises:
        InputError: the features cannot be prepared, or k cannot be estimated.
    """
    prepare = _preparation(candidate.steps, raw)
    features, truth = prepare(raw), plan.data.train.labels
    k, choice = plan.ks[0], None
    if plan.k_source == "estimated":
        with clock("choose k"):
            choice = choose_k(features, plan.ks, clusterer=plan.clusterers[0], seed=plan.seed)
        chosen = choice.chosen[plan.k_by]
        if chosen is None:
            raise InputError(f"no k from {plan.ks[0]} to {plan.ks[-1]} satisfies the criterion {plan.k_by}")
        k = chosen
    fitted = Fitted(prepare, k, choice)
    for name in plan.clusterings(candidate):
        with clock("cluster"):
            fitted.clusterings[name] = found = _attempt(partial(_cluster, plan, name, features, k))
        if truth is not None and not isinstance(found, Exception):
            fitted.mappings[name] = [_classes_of_clusters(truth, one.labels, k) for one in found]
    for name in plan.probes if not candidate.is_head else ():
        with clock("probe"):
            fitted.probes[name] = _attempt(partial(PROBES[name]().fit, features, truth))
    return fitted


def measure(
    plan: Plan, candidate: Candidate, condition: Condition, way: str, fitted: Fitted, features: np.ndarray, clock: Clock
) -> Partitions:
    """The partitions of prepared features by one clusterer or probe, with all their scores."""
    key = plan.key(candidate, way, condition)
    try:
        if way == FEATURES:
            with clock("measure"):
                return _describe(key, condition, fitted, features)
        made = _probe if way.startswith(PROBE) else _partition
        return made(plan, key, condition, way, fitted, features, clock)
    except InputError as error:
        return Partitions.failed(key, str(error))


def reason(error: Exception | None) -> str:
    """One line for the tables."""
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def _attempt(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Exception as error:  # a clusterer may be a stranger's code
        return error


def _preparation(steps: Sequence[str], train: np.ndarray) -> Prepare:
    """L2 normalisation and PCA whitening, the latter fitted on the training features."""

    def unit(features: np.ndarray) -> np.ndarray:
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
        return features / np.maximum(lengths, np.finfo(np.float32).tiny)

    first = unit if "l2" in steps else np.asarray
    if "whiten" not in steps:
        return first
    from sklearn.decomposition import PCA

    pca = PCA(whiten=True, random_state=0).fit(first(train))
    kept = pca.explained_variance_ > 1e-7 * pca.explained_variance_[0]  # whitened rounding errors would be noise
    return lambda features: pca.transform(first(features))[:, kept].astype(np.float32)


def _cluster(plan: Plan, name: str, features: np.ndarray, k: int) -> Sequence[Partition]:
    found: Sequence[Partition] = clusterer_of(name)().fit_seeds(features, k, range(plan.starts(name)))
    return found


def _classes_of_clusters(truth: np.ndarray, partition: np.ndarray, k: int) -> np.ndarray:
    """int64 (k,), -1 for a cluster without a class: one left over, or one without members."""
    matched = match(contingency(truth, partition))
    return np.pad(matched, (0, max(0, k - len(matched))), constant_values=-1)


def _describe(key: str, condition: Condition, fitted: Fitted, features: np.ndarray) -> Partitions:
    distance = fitted.references[condition.split].distance(features)
    nothing = np.empty((1, 1, 0), np.int16)
    return Partitions(key, ("",), np.zeros(1, np.int64), nothing, {"frechet": np.array([[distance]])})


def _probe(
    plan: Plan, key: str, condition: Condition, way: str, fitted: Fitted, features: np.ndarray, clock: Clock
) -> Partitions:
    probe, truth = fitted.probes[way.removeprefix(PROBE)], plan.sample(condition).labels
    if isinstance(probe, Exception):
        return Partitions.failed(key, f"on the clean training split: {reason(probe)}")
    with clock("probe"):
        labels = probe.predict(features)[None, None]
    classes = np.arange(len(plan.data.classes))
    return _scored(
        plan,
        key,
        condition,
        ("frozen",),
        np.array([len(classes)]),
        labels,
        [[classes]],
        {},
        "",
        truth,
        clock,
        PROBE_METRICS,
    )


def _partition(
    plan: Plan, key: str, condition: Condition, way: str, fitted: Fitted, features: np.ndarray, clock: Clock
) -> Partitions:
    """Frozen clusters applied and clusters made anew."""
    clusterings = fitted.clusterings[way]
    if isinstance(clusterings, Exception):
        return Partitions.failed(key, f"on the clean training split: {reason(clusterings)}")
    k = fitted.k if way == ARGMAX else plan.clusters(condition, fitted.k)
    truth = plan.sample(condition).labels
    made: dict[str, list[np.ndarray]] = {}
    notes: list[str] = []
    with clock("cluster"):
        if "frozen" in plan.protocols:
            made["frozen"] = [one.predict(features) for one in clusterings]
            notes += [one.note for one in clusterings]
        if "refit" in plan.protocols:
            anew = _cluster(plan, way, features, k)
            made["refit"] = [one.labels for one in anew]
            notes += [one.note for one in anew]
    labels = np.array([made[protocol] for protocol in plan.protocols])
    with clock("measure"):
        inner = _inner(plan, features, labels, clusterings, {"frozen": fitted.k, "refit": k}, condition)
    known = fitted.mappings.get(way)
    none: Mappings = [None] * labels.shape[1]
    # The frozen protocol scores with the map from clusters to classes that was fitted on the clean training split.
    maps = [known if protocol == "frozen" and known is not None else none for protocol in plan.protocols]
    ks = np.array([fitted.k if protocol == "frozen" else k for protocol in plan.protocols])
    note = "; ".join(dict.fromkeys(filter(None, notes)))
    return _scored(plan, key, condition, plan.protocols, ks, labels, maps, inner, note, truth, clock)


def _inner(
    plan: Plan,
    features: np.ndarray,
    labels: np.ndarray,
    clusterings: Sequence[Partition],
    ks: Mapping[str, int],
    condition: Condition,
) -> dict[str, np.ndarray]:
    """What needs no labels, (P, S): silhouette, masses of the clusters, and how far frozen clusters have moved."""
    found = {
        "silhouette": silhouette(features, labels, limit=SILHOUETTE_IMAGES, seed=plan.seed),
        "entropy": np.array(
            [[entropy(one, ks[p]) for one in row] for p, row in zip(plan.protocols, labels, strict=True)]
        ),
        "collapsed": np.array(
            [[collapsed(one, ks[p]) for one in row] for p, row in zip(plan.protocols, labels, strict=True)]
        ),
    }
    if "frozen" in plan.protocols and condition.shift != "clean":
        moved = np.full(labels.shape[:2], np.nan)
        frozen = plan.protocols.index("frozen")
        moved[frozen] = [
            drift(one.centers, features, row) for one, row in zip(clusterings, labels[frozen], strict=True)
        ]
        found["drift"] = moved
    return found


def _scored(
    plan: Plan,
    key: str,
    condition: Condition,
    protocols: tuple[str, ...],
    ks: np.ndarray,
    labels: np.ndarray,
    maps: Sequence[Mappings],
    inner: Scores,
    note: str,
    truth: np.ndarray | None,
    clock: Clock,
    metrics: Sequence[str] | None = None,
) -> Partitions:
    """Partitions with the scores that labels allow."""
    if truth is None:
        return Partitions(key, protocols, ks, labels, inner, note=note)
    with clock("score"):
        grid = [
            [scores(contingency(truth, one), mapping) for one, mapping in zip(row, row_maps, strict=True)]
            for row, row_maps in zip(labels, maps, strict=True)
        ]
        names = list(grid[0][0]) if metrics is None else list(metrics)
        outer = {name: np.array([[cell[name] for cell in row] for row in grid]) for name in names}
        by_class = np.array(
            [
                [recalls(contingency(truth, one), mapping) for one, mapping in zip(row, row_maps, strict=True)]
                for row, row_maps in zip(labels, maps, strict=True)
            ]
        )
        chance: dict[str, np.ndarray] = {}
        if condition.shift == "clean":
            chance = {
                name: np.array(
                    [
                        [chance_level(truth, one, mapping, name) for one, mapping in zip(row, row_maps, strict=True)]
                        for row, row_maps in zip(labels, maps, strict=True)
                    ]
                )
                for name in names
            }
    with clock("resample"):
        places = _places(plan, condition)
        drawn = [
            mean_over_seeds(image_replicates(truth, *pair, seed=plan.seed, **places))
            for pair in zip(labels, maps, strict=True)
        ]
    replicates = {name: np.stack([one[name] for one in drawn]) for name in names}
    return Partitions(key, protocols, ks, labels, outer | dict(inner), chance, replicates, by_class, note)


def _places(plan: Plan, condition: Condition) -> dict[str, Any]:
    """Which clean images a sample's are versions of, so that they are resampled together; nothing for other pictures."""
    rows, clean = plan.sample(condition).rows, plan.sample(CLEAN).rows
    if rows is None:
        return {}
    assert clean is not None
    return {"rows": np.searchsorted(clean, rows), "population": len(clean)}
