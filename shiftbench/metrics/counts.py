"""Contingency tables: how many samples of each class lie in each cluster, and which cluster stands for which class."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import log

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from shiftbench.errors import InputError, InputTypeError

Ids = NDArray[np.int64]
Values = NDArray[np.float64]

MAX_CELLS = 2**27
"""The most cells of a table: 1 GiB; real tables have at most a few million."""


@dataclass(frozen=True, eq=False)
class Contingency:
    """A contingency table. Rows and columns are the ids themselves, so ids that no sample has change no score.

    Attributes:
        counts: int64 ``(C, K)``, samples of class c in cluster k.
        noise: int64 ``(C,)``, samples of class c in no cluster.

    Examples:
        >>> table = Contingency(counts=np.array([[3, 0], [1, 2]]), noise=np.array([0, 1]))
        >>> table.n, table.classes.tolist()
        (7, [3, 4])
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


def contingency(labels: ArrayLike, partition: ArrayLike) -> Contingency:
    """Count the samples of each class in each cluster.

    Args:
        labels: integers ``(N,)``, class ids from 0.
        partition: integers ``(N,)``, cluster ids from 0, or -1 for no cluster (noise).

    Returns:
        A table with ``C = max(labels) + 1`` rows and ``K = max(partition) + 1`` columns.

    Raises:
        InputTypeError: ids that are not integers.
        InputError: no samples, different lengths, ids below 0 (labels) or -1, or so large that the table would not fit.

    Examples:
        >>> contingency(labels=[0, 0, 0, 1, 1], partition=[0, 0, 1, 1, -1]).counts
        array([[2, 1],
               [0, 1]])
    """
    rows, columns = as_ids(labels, "labels", 1), as_ids(partition, "partition", 1, noise=True)
    if len(rows) != len(columns):
        raise InputError(f"labels and partition must describe the same samples, not {len(rows)} and {len(columns)}.")
    # Column 0 is for the noise.
    counted = count(rows, columns + 1, int(rows.max()) + 1, int(columns.max()) + 2)
    return Contingency(np.ascontiguousarray(counted[:, 1:]), counted[:, 0])


def count(rows: Ids, columns: Ids, n_rows: int, n_columns: int) -> Ids:
    """int64 ``(n_rows, n_columns)``: how often each pair of checked ids occurs.

    Raises:
        InputError: a table of that shape would not fit in memory.

    Examples:
        >>> count(np.array([0, 1, 1]), np.array([0, 0, 0]), n_rows=2, n_columns=2)
        array([[1, 0],
               [2, 0]])
    """
    if n_rows * n_columns > MAX_CELLS:
        raise InputError(f"ids up to {n_rows - 1} and {n_columns - 1} need too large a table: renumber them from 0.")
    table = np.zeros((n_rows, n_columns), np.int64)
    _count(rows, columns, table)
    return table


def as_ids(ids: ArrayLike, name: str, ndim: int, noise: bool = False) -> Ids:
    """Check class or cluster ids: int64.

    Args:
        ids: integers.
        name: what messages call the ids.
        ndim: the number of dimensions that the array must have.
        noise: whether -1, no cluster, is allowed.

    Raises:
        InputTypeError: ids that are not integers.
        InputError: no ids, ids below 0 (or -1), or another number of dimensions than ``ndim``.

    Examples:
        >>> as_ids([0, 2, -1], "partition", ndim=1, noise=True)
        array([ 0,  2, -1])
    """
    array = np.asarray(ids)
    if array.ndim != ndim or array.size == 0:
        raise InputError(f"{name} must have {ndim} dimension(s) and at least one sample, not shape {array.shape}.")
    if array.dtype.kind not in "iu":
        raise InputTypeError(f"{name} must be integer ids, not {array.dtype}.")
    array = np.ascontiguousarray(array, dtype=np.int64)
    if array.min() < -noise:
        allowed = "-1 (noise) or more" if noise else "0 or more"
        raise InputError(f"{name} must be ids of {allowed}, not {array.min()}: leave out samples without an id.")
    return array


def match(table: Contingency | ArrayLike) -> Ids:
    """The one-to-one mapping of clusters to classes with the highest accuracy (Kuhn 1955).

    Of mappings with the same accuracy, that with the highest mean recall is taken.

    Args:
        table: a table, or contingency counts ``(C, K)``.

    Returns:
        int64 ``(K,)``: a class for each cluster; -1 for a cluster without a class (there are more clusters than
        classes) and for an id that no sample has. Only classes that occur are matched; with fewer clusters than
        classes, some classes have no cluster.

    Raises:
        InputError: not a contingency table.

    Examples:
        >>> match([[0, 3, 1], [2, 1, 0]])
        array([ 1,  0, -1])
    """
    table = as_contingency(table)
    counts = table.counts
    classes, clusters = np.flatnonzero(table.classes), np.flatnonzero(counts.sum(axis=0))
    present = counts[np.ix_(classes, clusters)]
    # Together the second terms stay below one sample: they only choose among mappings of equal accuracy.
    gain = present + present / table.classes[classes, None] / (2 * len(classes))
    rows, columns = linear_sum_assignment(gain, maximize=True)
    mapping = np.full(counts.shape[1], -1)
    mapping[clusters[columns]] = classes[rows]
    return mapping


def as_contingency(table: Contingency | ArrayLike) -> Contingency:
    """Check counts and make a table of them; a :class:`Contingency` is returned as it is.

    Raises:
        InputError: not a matrix of counts, or nothing is counted.

    Examples:
        >>> as_contingency([[3, 0], [1, 2]]).clusters
        array([4, 2])
    """
    if isinstance(table, Contingency):
        return table
    array = np.asarray(table)
    if array.ndim != 2 or array.dtype.kind not in "iu" or not array.any():
        raise InputError(f"a contingency table is a matrix of counts, not all 0; this is {array.dtype} {array.shape}.")
    return Contingency(np.ascontiguousarray(array, dtype=np.int64), np.zeros(len(array), np.int64))


def as_mapping(mapping: ArrayLike, clusters: int) -> Ids:
    """Check a mapping of at least ``clusters`` clusters to classes: the classes of these clusters, int64.

    Raises:
        InputError: a mapping that is not 1-d integers, or too short.

    Examples:
        >>> as_mapping([1, 0, -1], clusters=2)
        array([1, 0])
    """
    classes = np.asarray(mapping)
    if classes.ndim != 1 or classes.dtype.kind not in "iu" or len(classes) < clusters:
        raise InputError(
            f"mapping must give an integer class id (or -1) for each of {clusters} clusters; "
            f"it is {classes.dtype} of shape {classes.shape}."
        )
    return classes[:clusters].astype(np.int64)


def _entropy(sizes: Ids) -> float:
    shares = sizes[sizes > 0] / sizes.sum()
    return max(-float(shares @ np.log(shares)), 0.0)


@njit(nogil=True, cache=True)
def _count(rows: Ids, columns: Ids, table: Ids) -> None:
    for i in range(len(rows)):
        table[rows[i], columns[i]] += 1


@njit(nogil=True, cache=True)
def _mutual_information(table: Ids, rows: Ids, columns: Ids) -> float:
    n, total = rows.sum(), 0.0
    for c in range(len(rows)):
        for k in range(len(columns)):
            if table[c, k] > 0:
                total += table[c, k] / n * log(table[c, k] * n / (rows[c] * columns[k]))
    return max(total, 0.0)
