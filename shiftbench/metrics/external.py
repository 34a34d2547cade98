"""Partitions against labels: every score from one contingency table.

Every score takes the table of :func:`~shiftbench.metrics.counts.contingency`, not two arrays of ids, so that all scores
of 50,000 samples cost one pass over the samples. A matrix of counts ``(C, K)`` is taken too.

Noise is wrong where samples are counted (accuracy, recalls, purity) and one more cluster where partitions are compared
(the information and pair scores).
"""

from __future__ import annotations

from math import log

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from shiftbench.metrics.counts import Contingency, Ids, Values, as_contingency, as_mapping, match
from shiftbench.registry import METRICS

_NEGLIGIBLE = 1e-18  # next to 1 in a float64 sum


def recalls(table: Contingency | ArrayLike, mapping: ArrayLike | None = None) -> Values:
    """The share of each class that is in the clusters that stand for it.

    Args:
        table: a table, or contingency counts ``(C, K)``.
        mapping: as in :func:`accuracy`.

    Returns:
        float64 ``(C,)``, 0..1; NaN for a class without samples.

    Raises:
        InputError: as :func:`accuracy`.

    Examples:
        >>> recalls([[3, 0], [1, 2]]).round(2)
        array([1.  , 0.67])
    """
    table = as_contingency(table)
    correct = _correct(table, mapping)
    return np.where(table.classes > 0, correct, np.nan) / np.maximum(table.classes, 1)


def accuracy(table: Contingency | ArrayLike, mapping: ArrayLike | None = None) -> float:
    """Clustering accuracy: the share of samples whose cluster stands for their class, 0..1; noise is wrong.

    Args:
        table: a table, or contingency counts ``(C, K)``.
        mapping: int64 ``(K,)``, the class that each cluster stands for, -1 for none (the frozen protocol: see
            :func:`~shiftbench.metrics.counts.match`); it may be longer than K. Without it, the best one-to-one
            mapping for this very table (the "Hungarian" accuracy of Yang et al. 2010). All samples of a cluster
            without a class are wrong, so more clusters than classes cost accuracy; :func:`purity` is what a
            many-to-one mapping gives.

    Raises:
        InputError: not a contingency table, or the mapping is not 1-d integers for at least K clusters.

    Examples:
        >>> round(accuracy([[3, 0], [1, 2]]), 2)
        0.83
        >>> round(accuracy([[3, 0], [1, 2]], mapping=[1, 0]), 2)
        0.17
    """
    table = as_contingency(table)
    return float(_correct(table, mapping).sum() / table.n)


def mean_recall(table: Contingency | ArrayLike, mapping: ArrayLike | None = None) -> float:
    """The mean of :func:`recalls` over the classes that occur: accuracy with equal weight for each class.

    Examples:
        >>> round(mean_recall([[3, 0], [1, 2]]), 2)
        0.83
    """
    return float(np.nanmean(recalls(table, mapping)))


def worst_class(table: Contingency | ArrayLike, mapping: ArrayLike | None = None) -> float:
    """The lowest of :func:`recalls` among the classes that occur; 0 where a class has no cluster.

    Examples:
        >>> round(worst_class([[3, 0], [1, 2]]), 2)
        0.67
    """
    return float(np.nanmin(recalls(table, mapping)))


def purity(table: Contingency | ArrayLike) -> float:
    """The share of samples in their cluster's majority class, 0..1; noise is in none.

    It is the accuracy of the best many-to-one mapping, so it grows with the number of clusters.

    Examples:
        >>> round(purity([[3, 0], [1, 2]]), 2)
        0.83
    """
    table = as_contingency(table)
    return float(table.counts.max(axis=0, initial=0).sum() / table.n)


def nmi(table: Contingency | ArrayLike) -> float:
    """Normalised mutual information, 0..1: divided by the arithmetic mean of the two entropies.

    1 for two trivial partitions (one class, one cluster), as in scikit-learn.

    Examples:
        >>> nmi([[0, 5], [5, 0]])
        1.0
    """
    table = as_contingency(table)
    shared, of_classes, of_clusters = table.information
    return 1.0 if _same(table) else 2 * shared / (of_classes + of_clusters)


def homogeneity(table: Contingency | ArrayLike) -> float:
    """How far each cluster holds a single class, 0..1 (Rosenberg & Hirschberg 2007, equation 1).

    Examples:
        >>> homogeneity([[2, 2, 0], [0, 0, 4]])
        1.0
    """
    shared, of_classes, _ = as_contingency(table).information
    return shared / of_classes if of_classes else 1.0


def completeness(table: Contingency | ArrayLike) -> float:
    """How far each class lies in a single cluster, 0..1 (Rosenberg & Hirschberg 2007, equation 2).

    Examples:
        >>> round(completeness([[2, 2, 0], [0, 0, 4]]), 2)
        0.67
    """
    shared, _, of_clusters = as_contingency(table).information
    return shared / of_clusters if of_clusters else 1.0


def v_measure(table: Contingency | ArrayLike) -> float:
    """The harmonic mean of homogeneity and completeness (Rosenberg & Hirschberg 2007).

    The same number as :func:`nmi`, under another name that is in use.

    Examples:
        >>> round(v_measure([[2, 2, 0], [0, 0, 4]]), 2)
        0.8
    """
    h, c = homogeneity(table), completeness(table)
    return 2 * h * c / (h + c) if h + c else 0.0


def ami(table: Contingency | ArrayLike) -> float:
    """Mutual information adjusted for chance, arithmetic mean (Vinh et al. 2010): 1 equal, 0 independent.

    0 where one side is trivial (one class or one cluster), 1 where both are, as in scikit-learn.

    Examples:
        >>> ami([[0, 5], [5, 0]])
        1.0
    """
    table = as_contingency(table)
    if _same(table):
        return 1.0
    shared, of_classes, of_clusters = table.information
    expected = expected_mutual_information(table.classes, table.clusters)
    return (shared - expected) / ((of_classes + of_clusters) / 2 - expected)


def ari(table: Contingency | ArrayLike) -> float:
    """Rand index adjusted for chance (Hubert & Arabie 1985): 1 for the same partition, 0 by chance.

    Examples:
        >>> ari([[0, 5], [5, 0]])
        1.0
        >>> round(ari([[3, 0], [1, 2]]), 2)
        0.32
    """
    together, in_rows, in_columns, pairs = _pairs(as_contingency(table).cells)
    if in_rows + in_columns == 2 * together:  # no pair of samples is together on one side and apart on the other
        return 1.0
    expected = in_rows * in_columns / pairs
    return (together - expected) / ((in_rows + in_columns) / 2 - expected)


def scores(table: Contingency | ArrayLike, mapping: ArrayLike | None = None) -> dict[str, float]:
    """All registered metrics of a table of classes and clusters, by name; ``mapping`` as in :func:`accuracy`.

    Examples:
        >>> round(scores([[3, 0], [1, 2]])["acc"], 2)
        0.83
    """
    table = as_contingency(table)
    mapping = match(table) if mapping is None else mapping
    known = {"table": table, "mapping": mapping}
    return {
        name: METRICS.load(name)(*(known[need] for need in metric.needs))
        for name, metric in METRICS.items()
        if metric.of_table
    }


def _correct(table: Contingency, mapping: ArrayLike | None) -> Ids:
    """int64 (C,): samples of each class in the clusters that stand for it."""
    n_classes, n_clusters = table.counts.shape
    classes = match(table) if mapping is None else as_mapping(mapping, n_clusters)
    known = np.flatnonzero((classes >= 0) & (classes < n_classes))
    correct = np.zeros(n_classes, np.int64)
    np.add.at(correct, classes[known], table.counts[classes[known], known])
    return correct


def _same(table: Contingency) -> bool:
    """Whether classes and clusters are the same partition under other names: each occurs in one cell only."""
    cells, classes, clusters = (
        int(np.count_nonzero(counts)) for counts in (table.cells, table.classes, table.clusters)
    )
    return cells == classes == clusters


@njit(nogil=True, cache=True)
def _pairs(table: Ids) -> tuple[int, int, int, int]:
    """Pairs of samples: together in a class and a cluster, in a class, in a cluster, and all."""
    n, together, in_rows, in_columns = 0, 0, 0, 0
    for c in range(table.shape[0]):
        row = 0
        for k in range(table.shape[1]):
            row += table[c, k]
            together += table[c, k] * (table[c, k] - 1) // 2
        n += row
        in_rows += row * (row - 1) // 2
    for k in range(table.shape[1]):
        column = 0
        for c in range(table.shape[0]):
            column += table[c, k]
        in_columns += column * (column - 1) // 2
    return together, in_rows, in_columns, n * (n - 1) // 2


@njit(nogil=True, cache=True)
def expected_mutual_information(rows: Ids, columns: Ids) -> float:
    """Mean mutual information, in nats, over all tables with these margins, int64 (C,) and (K,) (Vinh et al. 2010).

    A cell then has a hypergeometric distribution. The ratio of neighbouring weights is known, and 0 at the ends:
    start at the mode with weight 1, go both ways while a weight counts, divide by the sum of weights.

    Examples:
        >>> round(expected_mutual_information(np.array([3, 3]), np.array([4, 2])), 3)
        0.127
    """
    n, total = int(rows.sum()), 0.0
    for a in rows[rows > 0]:
        for b in columns[columns > 0]:
            mean, mode = a * b / n, (a + 1) * (b + 1) // (n + 2)
            mass, moment = 1.0, mode * log(max(mode, 1) / mean)
            cell, weight = mode, 1.0
            while weight > _NEGLIGIBLE:
                weight *= (a - cell) * (b - cell) / ((cell + 1) * (n - a - b + cell + 1))
                cell += 1
                mass += weight
                moment += weight * cell * log(cell / mean)
            cell, weight = mode, 1.0
            while weight > _NEGLIGIBLE:
                weight *= cell * (n - a - b + cell) / ((a - cell + 1) * (b - cell + 1))
                cell -= 1
                mass += weight
                moment += weight * cell * log(max(cell, 1) / mean)
            total += moment / mass
    return total / n
