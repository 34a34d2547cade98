"""What is fitted on the clean training split, once per candidate: the preparation of features, clusters and probes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from inspect import isclass
from typing import Any

import numpy as np

from shiftbench.clustering.base import Partition
from shiftbench.errors import InputError
from shiftbench.evaluation.candidates import Candidate
from shiftbench.evaluation.plan import Plan
from shiftbench.evaluation.readouts import Clustered, Probed
from shiftbench.metrics.counts import contingency, match
from shiftbench.metrics.probes import PROBES
from shiftbench.registry import METRICS
from shiftbench.runtime.clock import Clock
from shiftbench.stability.choose_k import Choice, choose_k

Mappings = Sequence[np.ndarray | None]
Prepare = Callable[[np.ndarray], np.ndarray]
References = Mapping[str, Callable[..., float]]
"""By metric that compares with clean features: a function of the other values that it needs."""


@dataclass
class Fitted:
    """Everything that was fitted for one candidate.

    Attributes:
        prepare: turns raw features into those that are clustered.
        k: number of clusters.
        choice: how k was estimated; None if it was not.
        clusterings: by readout, one per seed, or the error.
        mappings: by readout, int64 (k,) per seed, the class of each cluster; None without labels.
        probes: by readout, the fitted probe, or the error.
        references: by split, the functions that compare with its clean features.
    """

    prepare: Prepare
    k: int
    choice: Choice | None = None
    clusterings: dict[Clustered, Sequence[Partition] | Exception] = field(default_factory=dict)
    mappings: dict[Clustered, Mappings] = field(default_factory=dict)
    probes: dict[Probed, Any] = field(default_factory=dict)
    references: dict[str, References] = field(default_factory=dict)


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
    for readout in plan.clusterings(candidate):
        with clock("cluster"):
            fitted.clusterings[readout] = partitions = _attempt(partial(cluster, plan, readout, features, k))
        if truth is not None and not isinstance(partitions, Exception):
            fitted.mappings[readout] = [_classes_of_clusters(truth, partition.labels, k) for partition in partitions]
    for name in plan.probes if not candidate.is_head else ():
        with clock("probe"):
            fitted.probes[Probed(name)] = _attempt(partial(PROBES[name]().fit, features, truth))
    return fitted


def cluster(plan: Plan, readout: Clustered, features: np.ndarray, k: int) -> Sequence[Partition]:
    """Partitions of prepared features, one per start."""
    partitions: Sequence[Partition] = readout.kind().fit_seeds(features, k, range(plan.starts(readout)))
    return partitions


def references(clean: np.ndarray) -> References:
    """The metrics that compare with clean features, float32 (N, D). A metric that is a class is built from them once."""
    bound: dict[str, Callable[..., float]] = {}
    for name, metric in METRICS.items():
        if "clean_features" in metric.needs:
            target = METRICS.load(name)
            function: Callable[..., Any] = target
            bound[name] = function(clean) if isclass(target) else partial(function, clean)
    return bound


def _attempt(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Exception as error:  # a clusterer may be a stranger's code
        return error


def _preparation(steps: Sequence[str], train: np.ndarray) -> Prepare:
    """L2 normalisation and PCA whitening, the latter fitted on the training features."""

    def unit(features: np.ndarray) -> np.ndarray:
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
        scaled: np.ndarray = features / np.maximum(lengths, np.finfo(np.float32).tiny)
        return scaled

    first = unit if "l2" in steps else np.asarray
    if "whiten" not in steps:
        return first
    from sklearn.decomposition import PCA

    pca = PCA(whiten=True, random_state=0).fit(first(train))
    kept = pca.explained_variance_ > 1e-7 * pca.explained_variance_[0]  # whitened rounding errors would be noise
    return lambda features: pca.transform(first(features))[:, kept].astype(np.float32)


def _classes_of_clusters(truth: np.ndarray, partition: np.ndarray, k: int) -> np.ndarray:
    """int64 (k,), the class of each cluster; -1 for a spare cluster and for one without members."""
    matched = match(contingency(truth, partition))
    return np.pad(matched, (0, max(0, k - len(matched))), constant_values=-1)
