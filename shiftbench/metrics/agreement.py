"""Agreement between partitions of the same samples. No labels are needed.

Two ids are not clusters: ``NOISE`` and ``MISSING``. Two partitions are compared on the samples that are missing in
neither. For ARI and AMI noise is one more cluster; in ``matched_acc`` it never matches.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from shiftbench.errors import InputError, InputTypeError, unknown
from shiftbench.metrics.counts import MAX_CELLS, Ids, Values
from shiftbench.metrics.external import ami

Compact = NDArray[np.uint16]

NOISE = -1
"""The id of a sample that an algorithm left without a cluster."""
MISSING = -2
"""The id of a sample that a partition does not have, as in a bootstrap resample."""

_BLOCK_CELLS = 2**22  # of the tables that are held at once: 32 MiB


@dataclass(frozen=True, eq=False)
class Labelings:
    """Several partitions of the same samples, where samples with the same ids in all of them are kept once.

    Attributes:
        vectors: uint16 ``(S, U)``, the ids of U distinct samples, in the order in which they first occur; noise
            has the id ``clusters``, missing ``clusters + 1``.
        weights: int64 ``(U,)``, how many samples each distinct sample stands for.
        samples: int64 ``(N,)``, the column of ``vectors`` of each sample.
        clusters: the ids of clusters are below this number.

    Examples:
        >>> labelings = Labelings.of([[0, 0, 1], [1, 1, 0]])
        >>> labelings.vectors.shape, labelings.weights
        ((2, 2), array([2, 1]))
    """

    vectors: Compact
    weights: Ids
    samples: Ids
    clusters: int

    @classmethod
    def of(cls, *partitions: ArrayLike) -> Labelings:
        """Check and pack partitions, each integers ``(S, N)``: ids from 0, ``NOISE`` or ``MISSING``.

        Raises:
            InputTypeError: ids that are not integers.
            InputError: no samples, another number of dimensions or of samples, ids below -2 or so large that a
                contingency table would not fit in memory.
        """
        arrays = [np.asarray(part) for part in partitions]
        for array in arrays:
            if array.ndim != 2 or array.size == 0 or array.shape[1] != arrays[0].shape[1]:
                raise InputError(
                    "partitions must have 2 dimensions, one row per partition and one column for each of the same "
                    f"samples, at least one of both; not shape {', '.join(str(part.shape) for part in arrays)}."
                )
            if array.dtype.kind not in "iu":
                raise InputTypeError(f"partitions must be integer ids, not {array.dtype}.")
            if array.min() < MISSING:
                raise InputError(f"partitions must be ids of 0 or more, -1 (noise) or -2 (missing), not {array.min()}.")
        clusters = max(0, *(int(array.max()) + 1 for array in arrays))
        if (clusters + 2) ** 2 > MAX_CELLS:
            raise InputError(f"ids up to {clusters - 1} need too large a table: renumber them from 0.")
        # NOISE and MISSING become the two ids behind the clusters.
        rows = (row.astype(np.int64) for array in arrays for row in array)
        ids = np.stack([np.where(row < 0, clusters - 1 - row, row).astype(np.uint16) for row in rows])
        first, samples = _distinct(np.ascontiguousarray(ids.T))
        return cls(np.ascontiguousarray(ids[:, first]), np.bincount(samples), samples, clusters)

    def tables(self, first: Ids, second: Ids) -> Iterator[tuple[slice, Ids]]:
        """Contingency tables of pairs of partitions, in blocks that fit in memory.

        Args:
            first, second: int64 ``(P,)``, the partitions of each pair.

        Yields:
            A slice of the pairs, and their tables int64 ``(B, clusters + 1, clusters + 1)`` with noise last, of the
            samples that are missing in neither.
        """
        block = max(1, _BLOCK_CELLS // (self.clusters + 2) ** 2)
        for start in range(0, len(first), block):
            pairs = slice(start, start + block)
            tables = _count(self.vectors, self.weights, first[pairs], second[pairs], self.clusters + 2)
            yield pairs, tables[:, :-1, :-1]


def pairwise(partitions: ArrayLike, metrics: Collection[str] | None = None) -> dict[str, Values]:
    """Agreement of every pair of partitions.

    Args:
        partitions: integers ``(S, N)``, S partitions of the same N samples: ids from 0, ``NOISE`` or ``MISSING``.
        metrics: which of ``AGREEMENTS`` to compute; None takes all.

    Returns:
        For each metric float64 ``(S, S)``, symmetric with ones on the diagonal; NaN where two partitions have no
        sample in common.

    Raises:
        InputError: ids that :meth:`Labelings.of` refuses, or an unknown metric.

    Examples:
        >>> pairwise([[0, 0, 1, 1], [1, 1, 0, 0], [0, 1, 1, 1]])["matched_acc"]
        array([[1.  , 1.  , 0.75],
               [1.  , 1.  , 0.75],
               [0.75, 0.75, 1.  ]])
    """
    labelings = Labelings.of(partitions)
    size = len(labelings.vectors)
    first, second = np.triu_indices(size, 1)
    result = {}
    for name, values in _agreement(labelings, first, second, metrics).items():
        result[name] = np.eye(size)
        result[name][first, second] = result[name][second, first] = values
    return result


def paired(a: ArrayLike, b: ArrayLike, metrics: Collection[str] | None = None) -> dict[str, Values]:
    """Agreement of each partition with its partner, such as those of a clean split and of its shifted copy.

    Args:
        a: integers ``(S, N)``: ids from 0, ``NOISE`` or ``MISSING``.
        b: integers ``(S, N)``, of the same samples in the same order.
        metrics: which of ``AGREEMENTS`` to compute; None takes all.

    Returns:
        For each metric float64 ``(S,)``.

    Raises:
        InputError: different shapes, ids that :meth:`Labelings.of` refuses, or an unknown metric.

    Examples:
        >>> paired([[0, 0, 1, 1]], [[1, 1, 0, 0]], metrics=["ari"])
        {'ari': array([1.])}
    """
    if np.shape(a) != np.shape(b):
        raise InputError(f"paired partitions must have the same shape, not {np.shape(a)} and {np.shape(b)}.")
    labelings = Labelings.of(a, b)
    first = np.arange(len(labelings.vectors) // 2)
    return _agreement(labelings, first, first + len(first), metrics)


def _agreement(labelings: Labelings, first: Ids, second: Ids, metrics: Collection[str] | None) -> dict[str, Values]:
    names = AGREEMENTS if metrics is None else metrics
    for name in names:
        if name not in AGREEMENTS:
            raise unknown("agreement", name, AGREEMENTS)
    result = {name: np.empty(len(first)) for name in names}
    for pairs, tables in labelings.tables(first, second):
        for name, values in result.items():
            values[pairs] = AGREEMENTS[name](tables)
    return result


def _ari(tables: Ids) -> Values:
    """Hubert & Arabie 1985, of tables (P, K, K)."""
    rows, columns = tables.sum(axis=2), tables.sum(axis=1)
    n = rows.sum(axis=1)
    together = (tables * (tables - 1)).sum(axis=(1, 2)) / 2
    in_rows, in_columns = (rows * (rows - 1)).sum(axis=1) / 2, (columns * (columns - 1)).sum(axis=1) / 2
    expected = in_rows * in_columns / np.maximum(n * (n - 1) / 2, 1)
    same = in_rows + in_columns == 2 * together  # no pair of samples is together on one side and apart on the other
    mean = (in_rows + in_columns) / 2
    values = np.where(same, 1.0, (together - expected) / np.where(same, 1.0, mean - expected))
    return np.where(n > 0, values, np.nan)


def _ami(tables: Ids) -> Values:
    """Vinh et al. 2010, arithmetic mean."""
    return np.array([ami(table) if table.any() else np.nan for table in tables])


def _matched_accuracy(tables: Ids) -> Values:
    """The share of samples in clusters that a best one-to-one matching pairs up; noise is never matched."""
    matched = [table[linear_sum_assignment(table, maximize=True)].sum() for table in tables[:, :-1, :-1]]
    n = tables.sum(axis=(1, 2))
    return np.where(n > 0, matched / np.maximum(n, 1), np.nan)


AGREEMENTS: dict[str, Callable[[Ids], Values]] = {"ari": _ari, "ami": _ami, "matched_acc": _matched_accuracy}
"""ARI, AMI, and the share of samples with equal ids after the best one-to-one renaming of clusters; each a function
of contingency tables ``(P, K + 1, K + 1)`` with noise last."""


@njit(nogil=True, cache=True)
def _count(vectors: Compact, weights: Ids, first: Ids, second: Ids, size: int) -> Ids:
    tables = np.zeros((len(first), size, size), np.int64)
    for p in range(len(first)):
        table, rows, columns = tables[p], vectors[first[p]], vectors[second[p]]
        for u in range(len(weights)):
            table[rows[u], columns[u]] += weights[u]
    return tables


@njit(nogil=True, cache=True)
def _distinct(ids: Compact) -> tuple[Ids, Ids]:
    """Distinct rows of (N, S): the first sample of each row, int64 (U,), and each sample's row, int64 (N,).

    A hash table with open addressing; rows that share a slot are compared in full.
    """
    bits = 1
    while 1 << bits < 2 * len(ids):
        bits += 1
    slots = np.full(1 << bits, -1)
    first, samples, count = np.empty(len(ids), np.int64), np.empty(len(ids), np.int64), 0
    for n in range(len(ids)):
        key = np.uint64(0)
        for s in range(ids.shape[1]):
            key = (key ^ np.uint64(ids[n, s])) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(32)
        slot = np.int64(key & np.uint64(len(slots) - 1))
        while slots[slot] >= 0 and not np.array_equal(ids[n], ids[first[slots[slot]]]):
            slot = (slot + 1) % len(slots)
        if slots[slot] < 0:
            slots[slot], first[count] = count, n
            count += 1
        samples[n] = slots[slot]
    return first[:count].copy(), samples
