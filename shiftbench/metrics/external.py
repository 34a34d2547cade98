"""Partitions against labels: accuracy, NMI, ARI, AMI and purity, all from one contingency table.

A contingency table is int64 ``(C, K)``: row c, column k counts the samples of class c in cluster k. Rows and
columns are the ids themselves, so ids that do not occur give empty rows and columns, which change no score.
The table, and not two label arrays, is what every score takes: scoring 50,000 samples costs one pass over
them.
"""

from __future__ import annotations

from math import log

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from shiftbench.errors import InputError, InputTypeError
from shiftbench.registry import METRICS

Ids = NDArray[np.int64]

_MAX_CELLS = 2**27  # 1 GiB; real tables have at most a few million cells
_NEGLIGIBLE = 1e-18  # next to 1 in a float64 sum


def contingency(labels: ArrayLike, partition: ArrayLike) -> Ids:
    """Count the samples of each class in each cluster.

    Args:
        labels: integers ``(N,)``, class ids from 0.
        partition: integers ``(N,)``, cluster ids from 0.

    Returns:
        int64 ``(C, K)`` with ``C = max(labels) + 1`` and ``K = max(partition) + 1``.

    Raises:
        InputTypeError: ids that are not integers.
        InputError: no samples, different lengths, negative ids, or ids so large that the table would not fit.
    """
    rows, columns = as_ids(labels, "labels", 1), as_ids(partition, "partition", 1)
    if len(rows) != len(columns):
        raise InputError(f"labels and partition must describe the same samples, not {len(rows)} and {len(columns)}.")
    return count(rows, columns, int(rows.max()) + 1, int(columns.max()) + 1)


def count(rows: Ids, columns: Ids, n_rows: int, n_columns: int) -> Ids:
    """:func:`contingency` of checked ids below ``n_rows`` and ``n_columns``.

    Raises:
        InputError: a table of that shape would not fit in memory.
    """
    if n_rows * n_columns > _MAX_CELLS:
        raise InputError(f"ids up to {n_rows - 1} and {n_columns - 1} need too large a table: renumber them from 0.")
    table = np.zeros((n_rows, n_columns), np.int64)
    _count(rows, columns, table)
    return table


def as_ids(ids: ArrayLike, name: str, ndim: int) -> Ids:
    """Check class or cluster ids and return them as int64.

    Raises:
        InputTypeError: they are not integers.
        InputError: there are none, they are negative, or have another number of dimensions than ``ndim``.
    """
    array = np.asarray(ids)
    if array.ndim != ndim or array.size == 0:
        raise InputError(f"{name} must have {ndim} dimension(s) and at least one sample, not shape {array.shape}.")
    if array.dtype.kind not in "iu":
        raise InputTypeError(f"{name} must be integer ids, not {array.dtype}.")
    array = np.ascontiguousarray(array, dtype=np.int64)
    if array.min() < 0:
        raise InputError(f"{name} must be ids of 0 or more, not {array.min()}: leave out samples without one.")
    return array


def accuracy(table: ArrayLike, mapping: ArrayLike | None = None) -> float:
    """Clustering accuracy: the share of samples whose cluster stands for their class, 0..1.

    Args:
        table: contingency ``(C, K)``.
        mapping: int64 ``(K,)``, the class that each cluster stands for, -1 for none (the frozen protocol: see
            :func:`match`); it may know more clusters than occur here. Without it, the best one-to-one mapping
            for this very table (Kuhn 1955, the "Hungarian" accuracy of Yang et al. 2010).

    Raises:
        InputError: not a contingency table, or the mapping is not 1-d integers for at least K clusters.
    """
    table = _as_table(table)
    if mapping is None:
        rows, columns = linear_sum_assignment(table, maximize=True)
        return float(table[rows, columns].sum() / table.sum())
    classes = np.asarray(mapping)
    if classes.ndim != 1 or classes.dtype.kind not in "iu" or len(classes) < table.shape[1]:
        raise InputError(
            f"mapping must give an integer class id (or -1) for each of {table.shape[1]} clusters; "
            f"it is {classes.dtype} of shape {classes.shape}."
        )
    clusters = np.arange(table.shape[1])
    classes = classes[: len(clusters)]
    known = (classes >= 0) & (classes < table.shape[0])
    return float(table[classes[known], clusters[known]].sum() / table.sum())


def match(table: ArrayLike) -> Ids:
    """The one-to-one mapping of clusters to classes with the highest accuracy.

    Args:
        table: contingency ``(C, K)``.

    Returns:
        int64 ``(K,)``: a class for each cluster, -1 for those left over (more clusters than classes) and for
        ids that no sample has. Only classes that occur are given away.

    Raises:
        InputError: not a contingency table.
    """
    table = _as_table(table)
    classes, clusters = np.flatnonzero(table.sum(axis=1)), np.flatnonzero(table.sum(axis=0))
    rows, columns = linear_sum_assignment(table[np.ix_(classes, clusters)], maximize=True)
    mapping = np.full(table.shape[1], -1)
    mapping[clusters[columns]] = classes[rows]
    return mapping


def purity(table: ArrayLike) -> float:
    """The share of samples in their cluster's majority class, 0..1; it grows with the number of clusters."""
    table = _as_table(table)
    return float(table.max(axis=0).sum() / table.sum())


def nmi(table: ArrayLike) -> float:
    """Normalised mutual information, 0..1: divided by the arithmetic mean of the two entropies.

    1 for two trivial partitions (one class, one cluster), as in scikit-learn.
    """
    table = _as_table(table)
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    if _same(table, rows, columns):
        return 1.0
    return _mutual_information(table, rows, columns) / _mean_entropy(rows, columns)


def ami(table: ArrayLike) -> float:
    """Mutual information adjusted for chance, arithmetic mean (Vinh et al. 2010): 1 equal, 0 independent.

    0 where one side is trivial (one class or one cluster), 1 where both are, as in scikit-learn.
    """
    table = _as_table(table)
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    if _same(table, rows, columns):
        return 1.0
    expected = _expected_mutual_information(rows, columns)
    return (_mutual_information(table, rows, columns) - expected) / (_mean_entropy(rows, columns) - expected)


def ari(table: ArrayLike) -> float:
    """Rand index adjusted for chance (Hubert & Arabie 1985): 1 for the same partition, 0 by chance."""
    table = _as_table(table)
    together, in_rows, in_columns, pairs = _pairs(table)
    if in_rows + in_columns == 2 * together:  # no pair is split by one and joined by the other
        return 1.0
    expected = in_rows * in_columns / pairs
    return (together - expected) / ((in_rows + in_columns) / 2 - expected)


def scores(table: ArrayLike, mapping: ArrayLike | None = None) -> dict[str, float]:
    """All registered metrics of one contingency table, by name; ``mapping`` as in :func:`accuracy`."""
    return {name: accuracy(table, mapping) if name == "acc" else METRICS.load(name)(table) for name in METRICS}


def _as_table(table: ArrayLike) -> Ids:
    array = np.asarray(table)
    if array.ndim != 2 or array.dtype.kind not in "iu" or not array.any():
        raise InputError(f"a contingency table is a matrix of counts, not all 0; this is {array.dtype} {array.shape}.")
    return np.ascontiguousarray(array, dtype=np.int64)


def _same(table: Ids, rows: Ids, columns: Ids) -> bool:
    """Whether classes and clusters are the same partition under other names: each occurs in one cell only."""
    return np.count_nonzero(table) == np.count_nonzero(rows) == np.count_nonzero(columns)


def _mean_entropy(rows: Ids, columns: Ids) -> float:
    shares = np.concatenate([rows[rows > 0], columns[columns > 0]]) / rows.sum()
    return -float(shares @ np.log(shares)) / 2


@njit(nogil=True, cache=True)
def _count(rows: Ids, columns: Ids, table: Ids) -> None:
    for i in range(len(rows)):
        table[rows[i], columns[i]] += 1


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
def _mutual_information(table: Ids, rows: Ids, columns: Ids) -> float:
    n, total = rows.sum(), 0.0
    for c in range(len(rows)):
        for k in range(len(columns)):
            if table[c, k] > 0:
                total += table[c, k] / n * log(table[c, k] * n / (rows[c] * columns[k]))
    return max(total, 0.0)


@njit(nogil=True, cache=True)
def _expected_mutual_information(rows: Ids, columns: Ids) -> float:
    """Mean mutual information over all tables with these margins (Vinh et al. 2010).

    A cell then has a hypergeometric distribution, whose weights follow from one another by a ratio, 0 at the
    ends: start at the mode with weight 1, go both ways while a weight counts, divide by the sum of weights.
    """
    n, total = rows.sum(), 0.0
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
