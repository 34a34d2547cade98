"""Agreement between partitions of the same samples. No labels are needed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shiftbench.errors import InputError, unknown
from shiftbench.metrics.external import accuracy, ami, ari, as_ids, contingency, count

AGREEMENTS: dict[str, Callable[[ArrayLike], float]] = {"ari": ari, "ami": ami, "matched_acc": accuracy}
"""ARI, AMI, and the share of samples with equal ids after the best one-to-one renaming of clusters."""


def pairwise(partitions: ArrayLike, metrics: Collection[str] = tuple(AGREEMENTS)) -> dict[str, NDArray[np.float64]]:
    """Agreement of every pair of partitions.

    Args:
        partitions: integers ``(S, N)``, S partitions of the same N samples, ids from 0.
        metrics: which of ``AGREEMENTS`` to compute.

    Returns:
        For each metric float64 ``(S, S)``, symmetric with ones on the diagonal.

    Raises:
        InputError: ids that :func:`~shiftbench.metrics.external.as_ids` refuses, or an unknown metric.
    """
    ids = as_ids(partitions, "partitions", 2)
    sizes = ids.max(axis=1) + 1
    scores = _scores(metrics)
    result = {name: np.eye(len(ids)) for name in metrics}
    for i, j in combinations(range(len(ids)), 2):
        table = count(ids[i], ids[j], sizes[i], sizes[j])
        for name, score in scores.items():
            result[name][i, j] = result[name][j, i] = score(table)
    return result


def paired(a: ArrayLike, b: ArrayLike, metrics: Collection[str] = tuple(AGREEMENTS)) -> dict[str, NDArray[np.float64]]:
    """Agreement of each partition with its partner, as of a clean split and its shifted copy.

    Args:
        a: integers ``(S, N)``, ids from 0.
        b: integers ``(S, N)``, of the same samples in the same order.
        metrics: which of ``AGREEMENTS`` to compute.

    Returns:
        For each metric float64 ``(S,)``.

    Raises:
        InputError: different shapes, ids that ``as_ids`` refuses, or an unknown metric.
    """
    first, second = as_ids(a, "a", 2), as_ids(b, "b", 2)
    if first.shape != second.shape:
        raise InputError(f"paired partitions must have the same shape, not {first.shape} and {second.shape}.")
    scores = _scores(metrics)
    tables = [contingency(x, y) for x, y in zip(first, second, strict=True)]
    return {name: np.array([score(table) for table in tables]) for name, score in scores.items()}


def _scores(metrics: Collection[str]) -> dict[str, Callable[[ArrayLike], float]]:
    for name in metrics:
        if name not in AGREEMENTS:
            raise unknown("agreement", name, AGREEMENTS)
    return {name: AGREEMENTS[name] for name in metrics}
