"""Partitions against labels: accuracy, NMI, ARI, AMI and purity, all from one contingency table.

A contingency table is int64 ``(C, K)``: row c, column k counts the samples of class c in cluster k. Rows and columns
are the ids themselves, so ids that do not occur give empty rows and columns, which change no score. The table, and not
two label arrays, is what every score takes: scoring 50,000 samples costs one pass over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from shiftbench.errors import InputError, InputTypeError

Ids = NDArray[np.int64]

_MAX_CELLS = 2**27  # 1 GiB; real tables have at most a few million cells


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
    return count(rows, columns, *table_shape(rows, columns))


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
    if array.min() < 0:
        raise InputError(f"{name} must be ids of 0 or more, not {array.min()}; drop samples without one.")
    return array.astype(np.int64, copy=False)


def table_shape(rows: Ids, columns: Ids) -> tuple[int, int]:
    """Largest id + 1 of each.

    Raises:
        InputError: a table of that shape would not fit in memory.
    """
    shape = int(rows.max()) + 1, int(columns.max()) + 1
    if shape[0] * shape[1] > _MAX_CELLS:
        raise InputError(f"ids up to {shape[0] - 1} and {shape[1] - 1} need too large a table: renumber them from 0.")
    return shape


def accuracy(table: ArrayLike, mapping: ArrayLike | None = None) -> float:
    """Clustering accuracy: the share of samples whose cluster stands for their class, 0..1.

    Args:
        table: contingency ``(C, K)``.
        mapping: int64 ``(K,)``, the class that each cluster stands for, -1 for none (the frozen protocol: see
            :func:`match`); it may know more clusters than occur here. Without it, the best one-to-one mapping for
            this very table (Kuhn 1955, the "Hungarian" accuracy of Yang et al. 2010).

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
        int64 ``(K,)``: a class for each cluster, -1 for those left over (more clusters than classes) and for ids that
        no sample has. Only classes that occur are given away.

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
    """Normalised mutual information, 0..1: MI over the arithmetic mean of the two entropies.

    1 for two trivial partitions (one class, one cluster), as in scikit-learn.
    """
    table = _as_table(table)
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    return 1.0 if _same(table, rows, columns) else _mutual_information(table, rows, columns) / _entropy(rows, columns)


def ami(table: ArrayLike) -> float:
    """Mutual information adjusted for chance (Vinh et al. 2010, eq. 24a, arithmetic mean): 1 equal, 0 independent.

    0 where one side is trivial (one class or one cluster), 1 where both are, as in scikit-learn.
    """
    table = _as_table(table)
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    if _same(table, rows, columns):
        return 1.0
    if rows.max() == rows.sum() or columns.max() == rows.sum():
        return 0.0
    expected = _expected_mutual_information(rows, columns)
    return (_mutual_information(table, rows, columns) - expected) / (_entropy(rows, columns) - expected)


def ari(table: ArrayLike) -> float:
    """Rand index adjusted for chance (Hubert & Arabie 1985): 1 for equal partitions, 0 expected for independent ones."""
    table = _as_table(table)
    together, in_rows, in_columns, pairs = _pair_counts(table, table.sum(axis=1), table.sum(axis=0))
    if in_rows + in_columns == 2 * together:  # no pair is split by one and joined by the other
        return 1.0
    expected = in_rows * in_columns / pairs
    return (together - expected) / ((in_rows + in_columns) / 2 - expected)


def scores(table: ArrayLike, mapping: ArrayLike | None = None) -> dict[str, float]:
    """All scores of one contingency table by their registered names; ``mapping`` as in :func:`accuracy`."""
    return {
        "acc": accuracy(table, mapping),
        "nmi": nmi(table),
        "ari": ari(table),
        "ami": ami(table),
        "purity": purity(table),
    }
