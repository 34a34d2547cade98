"""Partitions against labels: every score from one contingency table.

A :class:`Table` counts the samples of class c in cluster k, and those in no cluster (noise, id -1). Rows and columns
are the ids themselves, so ids that do not occur change no score. The table, and not two label arrays, is what every
score takes: scoring 50,000 samples costs one pass over them.

Noise is wrong where samples are counted (accuracy, recalls, purity) and one more cluster where partitions are compared
(the information and pair scores).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import log

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from shiftbench.errors import InputError, InputTypeError
from shiftbench.registry import METRICS

Ids = NDArray[np.int64]
Values = NDArray[np.float64]

_MAX_CELLS = 2**27  # 1 GiB; real tables have at most a few million cells
_NEGLIGIBLE = 1e-18  # next to 1 in a float64 sum


@dataclass(frozen=True, eq=False)
class Table:
    """A contingency table.

    Attributes:
        counts: int64 ``(C, K)``, samples of class c in cluster k.
        noise: int64 ``(C,)``, samples of class c in no cluster.
    """

    counts: Ids
    noise: Ids

    @cached_property
    def cells(self) -> Ids:
        """int64 ``(C, K)``, or ``(C, K + 1)`` with the noise as a last cluster where there is any."""
        return np.column_stack([self.counts, self.noise]) if self.noise.any() else self.counts

    @cached_property
    def classes(self) -> Ids:
        """int64 ``(C,)``, samples of each class."""
        sizes: Ids = self.cells.sum(axis=1)
        return sizes

    @cached_property
    def clusters(self) -> Ids:
        """int64, samples of each column of ``cells``."""
        sizes: Ids = self.cells.sum(axis=0)
        return sizes

    @cached_property
    def n(self) -> int:
        """The number of samples."""
        return int(self.classes.sum())

    @cached_property
    def information(self) -> tuple[float, float, float]:
        """Mutual information of classes and clusters, and the entropies of both, in nats."""
        return (
            _mutual_information(self.cells, self.classes, self.clusters),
            _entropy(self.classes),
            _entropy(self.clusters),
        )


def contingency(labels: ArrayLike, partition: ArrayLike) -> Table:
    """Count the samples of each class in each cluster.

    Args:
        labels: integers ``(N,)``, class ids from 0.
        partition: integers ``(N,)``, cluster ids from 0, or -1 for no cluster (noise).

    Returns:
        The table with ``C = max(labels) + 1`` and ``K = max(partition) + 1``.

    Raises:
        InputTypeError: ids that are not integers.
        InputError: no samples, different lengths, ids below 0 (labels) or -1, or so large that the table would not fit.
    """
    rows, columns = as_ids(labels, "labels", 1), as_ids(partition, "partition", 1, noise=True)
    if len(rows) != len(columns):
        raise InputError(f"labels and partition must describe the same samples, not {len(rows)} and {len(columns)}.")
    # Column 0 is for the noise.
    counted = count(rows, columns + 1, int(rows.max()) + 1, int(columns.max()) + 2)
    return Table(np.ascontiguousarray(counted[:, 1:]), counted[:, 0])


def count(rows: Ids, columns: Ids, n_rows: int, n_columns: int) -> Ids:
    """int64 ``(n_rows, n_columns)``: how often each pair of checked ids occurs.

    Raises:
        InputError: a table of that shape would not fit in memory.
    """
    if n_rows * n_columns > _MAX_CELLS:
        raise InputError(f"ids up to {n_rows - 1} and {n_columns - 1} need too large a table: renumber them from 0.")
    table = np.zeros((n_rows, n_columns), np.int64)
    _count(rows, columns, table)
    return table


def as_ids(ids: ArrayLike, name: str, ndim: int, noise: bool = False) -> Ids:
    """Check class or cluster ids and return them as int64.

    Args:
        ids: integers.
        name: what messages call them.
        ndim: the number of dimensions they must have.
        noise: whether -1, no cluster, is allowed.

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
    if array.min() < -noise:
        allowed = "-1 (noise) or more" if noise else "0 or more"
        raise InputError(f"{name} must be ids of {allowed}, not {array.min()}: leave out samples without one.")
    return array


def match(table: Table | ArrayLike) -> Ids:
    """The one-to-one mapping of clusters to classes with the highest accuracy (Kuhn 1955), then mean recall.

    Args:
        table: a table, or contingency counts ``(C, K)``.

    Returns:
        int64 ``(K,)``: a class for each cluster, -1 for those left over (more clusters than classes) and for
        ids that no sample has. Only classes that occur are given away; with fewer clusters than classes some
        classes have none.

    Raises:
        InputError: not a contingency table.
    """
    table = as_table(table)
    counts = table.counts
    classes, clusters = np.flatnonzero(table.classes), np.flatnonzero(counts.sum(axis=0))
    found = counts[np.ix_(classes, clusters)]
    # Together the second terms stay below one sample: they only choose among maps of equal accuracy.
    gain = found + found / table.classes[classes, None] / (2 * len(classes))
    rows, columns = linear_sum_assignment(gain, maximize=True)
    mapping = np.full(counts.shape[1], -1)
    mapping[clusters[columns]] = classes[rows]
    return mapping


def recalls(table: Table | ArrayLike, mapping: ArrayLike | None = None) -> Values:
    """The share of each class that is in the clusters that stand for it.

    Args:
        table: a table, or contingency counts ``(C, K)``.
        mapping: as in :func:`accuracy`.

    Returns:
        float64 ``(C,)``, 0..1; NaN for a class without samples.

    Raises:
        InputError: as :func:`accuracy`.
    """
    table = as_table(table)
    found = _found(table, mapping)
    return np.where(table.classes > 0, found, np.nan) / np.maximum(table.classes, 1)


def accuracy(table: Table | ArrayLike, mapping: ArrayLike | None = None) -> float:
    """Clustering accuracy: the share of samples whose cluster stands for their class, 0..1; noise is wrong.

    Args:
        table: a table, or contingency counts ``(C, K)``.
        mapping: int64 ``(K,)``, the class that each cluster stands for, -1 for none (the frozen protocol: see
            :func:`match`); it may know more clusters than occur here. Without it, the best one-to-one mapping
            for this very table (the "Hungarian" accuracy of Yang et al. 2010). Clusters left over are wrong as a
            whole, so more clusters than classes cost accuracy; :func:`purity` is what a many-to-one mapping gives.

    Raises:
        InputError: not a contingency table, or the mapping is not 1-d integers for at least K clusters.
    """
    table = as_table(table)
    return float(_found(table, mapping).sum() / table.n)


def mean_recall(table: Table | ArrayLike, mapping: ArrayLike | None = None) -> float:
    """The mean of :func:`recalls` over the classes that occur: accuracy with equal weight for each class."""
    return float(np.nanmean(recalls(table, mapping)))


def worst_class(table: Table | ArrayLike, mapping: ArrayLike | None = None) -> float:
    """The lowest of :func:`recalls` among the classes that occur; 0 where a class has no cluster."""
    return float(np.nanmin(recalls(table, mapping)))


def purity(table: Table | ArrayLike) -> float:
    """The share of samples in their cluster's majority class, 0..1; noise is in none.

    It is the accuracy of the best many-to-one mapping, so it grows with the number of clusters.
    """
    table = as_table(table)
    return float(table.counts.max(axis=0, initial=0).sum() / table.n)


def nmi(table: Table | ArrayLike) -> float:
    """Normalised mutual information, 0..1: divided by the arithmetic mean of the two entropies.

    1 for two trivial partitions (one class, one cluster), as in scikit-learn.
    """
    table = as_table(table)
    shared, of_classes, of_clusters = table.information
    return 1.0 if _same(table) else 2 * shared / (of_classes + of_clusters)


def homogeneity(table: Table | ArrayLike) -> float:
    """How far each cluster holds a single class, 0..1 (Rosenberg & Hirschberg 2007, equation 1)."""
    shared, of_classes, _ = as_table(table).information
    return shared / of_classes if of_classes else 1.0


def completeness(table: Table | ArrayLike) -> float:
    """How far each class lies in a single cluster, 0..1 (Rosenberg & Hirschberg 2007, equation 2)."""
    shared, _, of_clusters = as_table(table).information
    return shared / of_clusters if of_clusters else 1.0


def v_measure(table: Table | ArrayLike) -> float:
    """The harmonic mean of homogeneity and completeness (Rosenberg & Hirschberg 2007).

    The same number as :func:`nmi` with the arithmetic mean, under the name by which some look for it.
    """
    h, c = homogeneity(table), completeness(table)
    return 2 * h * c / (h + c) if h + c else 0.0


def ami(table: Table | ArrayLike) -> float:
    """Mutual information adjusted for chance, arithmetic mean (Vinh et al. 2010): 1 equal, 0 independent.

    0 where one side is trivial (one class or one cluster), 1 where both are, as in scikit-learn.
    """
    table = as_table(table)
    if _same(table):
        return 1.0
    shared, of_classes, of_clusters = table.information
    expected = expected_mutual_information(table.classes, table.clusters)
    return (shared - expected) / ((of_classes + of_clusters) / 2 - expected)


def ari(table: Table | ArrayLike) -> float:
    """Rand index adjusted for chance (Hubert & Arabie 1985): 1 for the same partition, 0 by chance."""
    together, in_rows, in_columns, pairs = _pairs(as_table(table).cells)
    if in_rows + in_columns == 2 * together:  # no pair is split by one and joined by the other
        return 1.0
    expected = in_rows * in_columns / pairs
    return (together - expected) / ((in_rows + in_columns) / 2 - expected)


def scores(table: Table | ArrayLike, mapping: ArrayLike | None = None) -> dict[str, float]:
    """All registered metrics of a table of classes and clusters, by name; ``mapping`` as in :func:`accuracy`."""
    table = as_table(table)
    mapping = match(table) if mapping is None else mapping
    known = {"table": table, "mapping": mapping}
    return {
        name: METRICS.load(name)(*(known[need] for need in metric.needs))
        for name, metric in METRICS.items()
        if metric.of_table
    }


def as_table(table: Table | ArrayLike) -> Table:
    """Check contingency counts; a :class:`Table` is returned as it is.

    Raises:
        InputError: not a matrix of counts, or nothing is counted.
    """
    if isinstance(table, Table):
        return table
    array = np.asarray(table)
    if array.ndim != 2 or array.dtype.kind not in "iu" or not array.any():
        raise InputError(f"a contingency table is a matrix of counts, not all 0; this is {array.dtype} {array.shape}.")
    return Table(np.ascontiguousarray(array, dtype=np.int64), np.zeros(len(array), np.int64))


def as_mapping(mapping: ArrayLike, clusters: int) -> Ids:
    """Check a mapping of at least ``clusters`` clusters to classes, and return the classes of those clusters.

    Raises:
        InputError: it is not 1-d integers, or too short.
    """
    classes = np.asarray(mapping)
    if classes.ndim != 1 or classes.dtype.kind not in "iu" or len(classes) < clusters:
        raise InputError(
            f"mapping must give an integer class id (or -1) for each of {clusters} clusters; "
            f"it is {classes.dtype} of shape {classes.shape}."
        )
    return classes[:clusters].astype(np.int64)


def _found(table: Table, mapping: ArrayLike | None) -> Ids:
    """int64 (C,): samples of each class in the clusters that stand for it."""
    n_classes, n_clusters = table.counts.shape
    classes = match(table) if mapping is None else as_mapping(mapping, n_clusters)
    known = np.flatnonzero((classes >= 0) & (classes < n_classes))
    found = np.zeros(n_classes, np.int64)
    np.add.at(found, classes[known], table.counts[classes[known], known])
    return found


def _same(table: Table) -> bool:
    """Whether classes and clusters are the same partition under other names: each occurs in one cell only."""
    cells, classes, clusters = (
        int(np.count_nonzero(counts)) for counts in (table.cells, table.classes, table.clusters)
    )
    return cells == classes == clusters


def _entropy(sizes: Ids) -> float:
    shares = sizes[sizes > 0] / sizes.sum()
    return max(-float(shares @ np.log(shares)), 0.0)


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
def expected_mutual_information(rows: Ids, columns: Ids) -> float:
    """Mean mutual information, in nats, over all tables with these margins, int64 (C,) and (K,) (Vinh et al. 2010).

    A cell then has a hypergeometric distribution, whose weights follow from one another by a ratio, 0 at the
    ends: start at the mode with weight 1, go both ways while a weight counts, divide by the sum of weights.
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
