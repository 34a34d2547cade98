"""What many partitions of the same samples agree on: per sample, per cluster, over pairs of samples, and as one partition.

The co-association of two samples is the share of partitions that put both into the same cluster, of those in which
neither is missing (Fred & Jain 2005). Samples with the same ids in every partition are interchangeable, so nothing here
needs the matrix of all pairs of samples. Pairs of *distinct* samples are enough: twenty k-means partitions of 10,000
samples have a few hundred distinct samples. Except where clusters are matched, noise is one more cluster.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from shiftbench.errors import InputError
from shiftbench.metrics.agreement import Compact, Labelings
from shiftbench.metrics.counts import Ids, Values


def sample_consensus(partitions: ArrayLike) -> Values:
    """How steadily each sample stays in its cluster: 1 - how often it changes.

    The clusters of every two partitions are matched one to one, so that as many samples as possible are in matched
    clusters (Hungarian method). Two partitions agree on a sample where its two clusters are matched. Without missing
    samples, the mean over the samples is the mean pairwise ``matched_acc``.

    Args:
        partitions: integers ``(S, N)``, at least two: ids from 0, ``NOISE`` (never matched) or ``MISSING``.

    Returns:
        float64 ``(N,)``, the share of pairs of partitions that agree on the sample, of those in which it is not
        missing; NaN where there is no such pair.

    Raises:
        InputError: ids that ``Labelings.of`` refuses, or a single partition.

    Examples:
        >>> sample_consensus([[0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 1]]).round(2)
        array([1.  , 1.  , 0.33, 1.  ])
    """
    labelings = _several(partitions)
    vectors, noise = labelings.vectors, labelings.clusters
    first, second = np.triu_indices(len(vectors), 1)
    agreed = np.zeros(vectors.shape[1], np.int64)
    for pairs, tables in labelings.tables(first, second):
        for i, j, table in zip(first[pairs], second[pairs], tables, strict=True):
            clusters, partners = linear_sum_assignment(table[:-1, :-1], maximize=True)
            partner = np.full(noise + 2, -1)
            partner[clusters] = partners
            agreed += partner[vectors[i]] == vectors[j]
    present = (vectors <= noise).sum(axis=0)
    compared = present * (present - 1) // 2
    return np.where(compared > 0, agreed / np.maximum(compared, 1), np.nan)[labelings.samples]


def cluster_jaccard(reference: ArrayLike, partitions: ArrayLike) -> Values:
    """How well each cluster appears again: its Jaccard similarity to the most similar cluster (Hennig 2007).

    Hennig's clusterwise stability is the mean over partitions, ``np.nanmean(..., axis=0)``. By his rule a cluster below
    0.5 is dissolved, and a cluster of 0.75 or more is valid.

    Args:
        reference: integers ``(N,)``, the partition whose clusters are looked for.
        partitions: integers ``(S, N)``, in which these clusters are looked for: ids from 0, ``NOISE`` or
            ``MISSING``. Only samples that are missing on neither side count; noise is no cluster.

    Returns:
        float64 ``(S, K)`` with ``K = max(reference) + 1``: 0 to 1; NaN for an id of which no sample is left.

    Raises:
        InputError: ids that ``Labelings.of`` refuses.

    Examples:
        >>> cluster_jaccard([0, 0, 1, 1], [[1, 1, 0, 0], [0, 0, 0, 1]]).round(2)
        array([[1.  , 1.  ],
               [0.67, 0.5 ]])
    """
    labelings = Labelings.of(np.asarray(reference)[None], partitions)
    others = np.arange(1, len(labelings.vectors))
    best = np.empty((len(others), labelings.clusters))
    for pairs, tables in labelings.tables(np.zeros_like(others), others):
        best[pairs] = _best_jaccard(tables)
    return best[:, : max(0, int(np.max(reference)) + 1)]


def pairwise_jaccard(partitions: ArrayLike) -> Values:
    """:func:`cluster_jaccard` of every pair of partitions: the mean over the clusters of each, then of the two.

    Args:
        partitions: integers ``(S, N)``: ids from 0, ``NOISE`` or ``MISSING``.

    Returns:
        float64 ``(S, S)``, symmetric with ones on the diagonal; NaN where a partition has no cluster.

    Raises:
        InputError: ids that ``Labelings.of`` refuses.

    Examples:
        >>> pairwise_jaccard([[0, 0, 1, 1], [0, 0, 0, 1]]).round(2)
        array([[1.  , 0.58],
               [0.58, 1.  ]])
    """
    labelings = Labelings.of(partitions)
    matrix = np.eye(len(labelings.vectors))
    first, second = np.triu_indices(len(matrix), 1)
    for pairs, tables in labelings.tables(first, second):
        i, j = first[pairs], second[pairs]
        both = _best_jaccard(tables), _best_jaccard(tables.transpose(0, 2, 1))
        matrix[i, j] = matrix[j, i] = np.mean([mean_over_clusters(best) for best in both], axis=0)
    return matrix


def mean_over_clusters(best: Values) -> Values:
    """Mean of each row of :func:`cluster_jaccard`, without NaN: float64 ``(S,)``, NaN for a row without clusters.

    Examples:
        >>> mean_over_clusters(np.array([[1.0, 0.5], [0.75, np.nan]]))
        array([0.75, 0.75])
    """
    known = ~np.isnan(best)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, best, 0).sum(axis=1) / np.maximum(count, 1), np.nan)


def _best_jaccard(tables: Ids) -> Values:
    """For tables (P, K + 1, K + 1) with noise last: each row's highest similarity to a column, float64 (P, K)."""
    sizes, others = tables.sum(axis=2), tables.sum(axis=1)
    unions = sizes[:, :, None] + others[:, None, :] - tables
    similarity = (tables / np.maximum(unions, 1))[:, :-1, :-1].max(axis=2, initial=0)
    return np.where(sizes[:, :-1] > 0, similarity, np.nan)


def pac(partitions: ArrayLike, low: float = 0.1, high: float = 0.9, *, limit: int = 10_000, seed: int = 0) -> float:
    """Proportion of ambiguous clustering: pairs of samples that are neither apart nor together (Senbabaoglu et al. 2014).

    Args:
        partitions: integers ``(S, N)``, at least two: ids from 0, ``NOISE`` (one more cluster) or ``MISSING``.
        low, high: a pair is ambiguous if its co-association is above ``low`` and at most ``high``.
        limit: the most distinct samples; of more, a random subset of this many samples stands for all.
        seed: of that subset.

    Returns:
        The share of ambiguous pairs, 0 to 1, lower is better; NaN if no two samples are ever compared.

    Raises:
        InputError: ids that ``Labelings.of`` refuses, a single partition, or not ``0 <= low <= high <= 1``.

    Examples:
        >>> pac([[0, 0, 1, 1], [1, 1, 0, 0]])
        0.0
        >>> pac([[0, 0, 1, 1], [0, 0, 0, 1]])
        0.5
    """
    if not 0 <= low <= high <= 1:
        raise InputError(f"the limits of ambiguity must be 0 <= low <= high <= 1, not {low} and {high}.")
    labelings = _several(partitions)
    vectors, weights = labelings.vectors, labelings.weights
    if len(weights) > limit:
        chosen = np.random.default_rng(seed).choice(len(labelings.samples), limit, replace=False)
        kept, weights = np.unique(labelings.samples[chosen], return_counts=True)
        vectors = np.ascontiguousarray(vectors[:, kept])
    pairs = _co_association(vectors, weights, labelings.clusters + 1)
    compared, together = np.indices(pairs.shape)
    share = together / np.maximum(compared, 1)
    pairs = np.where(compared > 0, pairs, 0)
    return float(pairs[(share > low) & (share <= high)].sum() / pairs.sum()) if pairs.any() else float("nan")


class Consensus(NamedTuple):
    """The partition that several partitions agree on.

    Attributes:
        labels: int64 ``(N,)``, ids from 0.
        exact: False where only a part of the distinct samples was linked and the rest assigned.

    Examples:
        >>> Consensus(labels=np.array([0, 0, 1]), exact=True).exact
        True
    """

    labels: Ids
    exact: bool


def consensus_partition(partitions: ArrayLike, k: int, *, limit: int = 4096, seed: int = 0) -> Consensus:
    """Average linkage on the co-association of all samples, cut at k clusters (Fred & Jain 2005).

    The result is that of linking all N samples, at the cost of the U distinct samples: samples that are together in
    every partition are linked first, and average linkage weighs a cluster by its size. Distances are exact ratios of
    whole numbers; of equal distances, that of the clusters that occur first is linked first.

    Args:
        partitions: integers ``(S, N)``: ids from 0 or ``NOISE`` (one more cluster).
        k: number of clusters.
        limit: the most distinct samples to link, which take ``8 limit**2`` bytes. Of more, the most frequent are
            linked (among equally frequent samples a random choice), and each other sample joins the cluster with which
            it has the highest mean co-association.
        seed: of that choice.

    Returns:
        At most k clusters: fewer where fewer samples are distinct.

    Raises:
        InputError: ids that ``Labelings.of`` refuses, missing samples, or k outside ``1 .. N``.

    Examples:
        >>> consensus_partition([[0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 1]], k=2).labels
        array([0, 0, 1, 1])
    """
    labelings = Labelings.of(partitions)
    if (labelings.vectors > labelings.clusters).any():
        raise InputError("a consensus partition needs every sample in every partition: some are missing (-2).")
    if not 1 <= k <= len(labelings.samples):
        raise InputError(f"cannot make {k} clusters of {len(labelings.samples)} samples.")
    vectors, weights, missing = labelings.vectors, labelings.weights, labelings.clusters + 1
    exact = len(weights) <= limit
    if exact:
        labels = _link(vectors, weights, missing, k)
    else:
        shuffled = np.random.default_rng(seed).permutation(len(weights))
        linked = np.sort(shuffled[np.argsort(-weights[shuffled], kind="stable")[:limit]])
        clusters = _link(np.ascontiguousarray(vectors[:, linked]), weights[linked], missing, k)
        labels = _assign(vectors, linked, weights, clusters, missing)
        labels[linked] = clusters
    return Consensus(labels[labelings.samples], exact)


def _link(vectors: Compact, weights: Ids, missing: int, k: int) -> Ids:
    slots = _average_linkage(_distances(vectors, weights, missing), weights, k)
    labels: Ids = np.unique(slots, return_inverse=True)[1]
    return labels


def _several(partitions: ArrayLike) -> Labelings:
    labelings = Labelings.of(partitions)
    if len(labelings.vectors) < 2:
        raise InputError("one partition has no other to agree with: give at least two.")
    return labelings


@njit(nogil=True, cache=True)
def _compare(vectors: Compact, u: int, missing: int, counts: NDArray[np.int32]) -> None:
    """Compare sample u with each from u on: the partitions that have both, times S + 1, plus those with both together."""
    both = np.int32(len(vectors) + 1)
    counts[:] = 0
    for s in range(len(vectors)):
        ids = vectors[s, u:]  # contiguous, which this loop's vector instructions need
        own = ids[0]
        if own != missing:
            for v in range(len(ids)):
                counts[v] += both * (ids[v] != missing) + (ids[v] == own)


@njit(nogil=True, cache=True)
def _co_association(vectors: Compact, weights: Ids, missing: int) -> Ids:
    """Pairs of samples, counted by the numbers of partitions that have both and that join both: int64 (S+1, S+1)."""
    pairs = np.zeros((len(vectors) + 1) ** 2, np.int64)
    buffer = np.empty(len(weights), np.int32)
    for u in range(len(weights)):
        counts, others = buffer[u:], weights[u:]
        _compare(vectors, u, missing, counts)
        pairs[counts[0]] += others[0] * (others[0] - 1) // 2
        for v in range(1, len(counts)):
            pairs[counts[v]] += others[0] * others[v]
    return pairs.reshape(len(vectors) + 1, len(vectors) + 1)


@njit(nogil=True, cache=True)
def _distances(vectors: Compact, weights: Ids, missing: int) -> Values:
    """In how many partitions the samples of two columns are apart, summed over these samples: float64 (U, U)."""
    sums = np.zeros((len(weights), len(weights)))
    buffer = np.empty(len(weights), np.int32)
    for u in range(len(weights)):
        counts = buffer[u:]
        _compare(vectors, u, missing, counts)
        for v in range(1, len(counts)):
            apart = len(vectors) - counts[v] % (len(vectors) + 1)
            sums[u, u + v] = sums[u + v, u] = apart * weights[u] * weights[u + v]
    return sums


@njit(nogil=True, cache=True)
def _nearest_behind(i: int, sums: Values, sizes: Ids) -> tuple[int, float]:
    """The nearest cluster behind i, the first on a tie, and its distance."""
    nearest, smallest = -1, np.inf
    for j in range(i + 1, len(sizes)):
        if sizes[j] > 0:
            distance = sums[i, j] / (sizes[i] * sizes[j])
            if distance < smallest:
                nearest, smallest = j, distance
    return nearest, smallest


@njit(nogil=True, cache=True)
def _average_linkage(sums: Values, weights: Ids, k: int) -> Ids:
    """Join the two nearest clusters until k are left: for each row the first row of its cluster. Overwrites sums.

    Summed distances add up exactly when clusters join, so that equal means are equal numbers. Each cluster keeps its
    nearest cluster behind it. That is looked for again only where it was one of the two that join: the joined cluster
    is at their mean distance, and so not nearer than the nearer of the two.
    """
    n = len(weights)
    sizes, slots = weights.copy(), np.arange(n)
    nearest, smallest = np.empty(n, np.int64), np.empty(n)
    for i in range(n):
        nearest[i], smallest[i] = _nearest_behind(i, sums, sizes)
    for _ in range(n - k):
        i = int(np.argmin(smallest))
        j = int(nearest[i])
        for m in range(n):
            sums[i, m] += sums[j, m]
            sums[m, i] = sums[i, m]
        sizes[i], sizes[j], smallest[j] = sizes[i] + sizes[j], 0, np.inf
        for m in range(n):
            if slots[m] == j:
                slots[m] = i
            if sizes[m] > 0 and (m == i or (m < j and (nearest[m] == i or nearest[m] == j))):
                nearest[m], smallest[m] = _nearest_behind(m, sums, sizes)
    return slots


@njit(nogil=True, cache=True)
def _assign(vectors: Compact, linked: Ids, weights: Ids, labels: Ids, ids: int) -> Ids:
    """The cluster of linked samples with the highest mean co-association, for every sample: int64 (U,)."""
    clusters = labels.max() + 1
    counts, totals = np.zeros((len(vectors), ids, clusters)), np.zeros(clusters)
    for u, label in zip(linked, labels):  # noqa: B905, numba knows no strict
        totals[label] += weights[u]
        for s in range(len(vectors)):
            counts[s, vectors[s, u], label] += weights[u]
    assigned = np.empty(len(weights), np.int64)
    for u in range(len(weights)):
        together = np.zeros(clusters)
        for s in range(len(vectors)):
            together += counts[s, vectors[s, u]]
        assigned[u] = np.argmax(together / totals)
    return assigned
