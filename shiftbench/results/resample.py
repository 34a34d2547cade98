"""What the scores of partitions would have been on other images of the same kind: the bootstrap over images.

Each resample draws as many images as there are, with replacement, so that an image counts 0, 1, 2 ... times. The
counts are a function of (seed, number of images, resample) alone: conditions of the same images, encoders, protocols
and processes are resampled together, and their differences stay paired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from shiftbench.errors import InputError
from shiftbench.metrics.counts import Contingency, Ids, Values, as_ids, as_mapping, contingency, match
from shiftbench.metrics.external import expected_mutual_information, scores
from shiftbench.registry import METRICS

RESAMPLES = 400
IMAGES, SEEDS, TRAININGS, CONDITIONS = range(4)  # independent streams of random numbers

_SIGNED = ("ari", "ami")  # may be below 0
Weights = NDArray[np.uint8]


@lru_cache(maxsize=8)
def resample_weights(n: int, resamples: int = RESAMPLES, seed: int = 0, stream: int = IMAGES) -> Weights:
    """How often each bootstrap resample draws each of ``n`` items.

    The j-th draw of resample b is a hash of (seed, stream, n, b, j) (splitmix64, Steele et al. 2014), so that more
    resamples leave the first ones as they are.

    Returns:
        uint8 ``(n, resamples)``, read-only; each column sums to n.

    Raises:
        InputError: ``n`` or ``resamples`` is below 1.
    """
    if n < 1 or resamples < 1:
        raise InputError(f"a bootstrap needs at least 1 item and 1 resample, not {n} and {resamples}.")
    weights = np.zeros((n, resamples), np.uint8)
    key = np.random.SeedSequence([seed, stream, n]).generate_state(1, np.uint64)[0]
    _draw(weights, key)
    weights.flags.writeable = False  # every call gets this same array
    return weights


def image_replicates(
    truth: ArrayLike,
    partitions: ArrayLike,
    mappings: Sequence[ArrayLike | None] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    rows: ArrayLike | None = None,
    population: int | None = None,
) -> dict[str, NDArray[np.float32]]:
    """The label metrics of S partitions under resamples of the images.

    The map from clusters to classes is kept as observed, since it belongs to the clustering and not to the images.
    For ``ami`` the expected information is that of the observed margins. An image that is drawn twice agrees with
    itself, which favours some scores on few images (mutual information by about ``(C - 1) (K - 1) / 2N``); only the
    spread is wanted, so each partition's replicates are moved to have its observed score as their mean.

    Args:
        truth: integers ``(N,)``, class ids from 0.
        partitions: integers ``(S, N)``, cluster ids from 0 or -1 (noise).
        mappings: for each partition int64 ``(K,)``, the class of each cluster, or None for the best one-to-one mapping.
        resamples: B.
        seed: of the resamples.
        rows: integers ``(N,)``, for each image the image of a larger population that it is, or is a version of. Each image
            then counts as often in a resample as that image of the population does.
        population: the number of images of the population; needed with ``rows``.

    Returns:
        For each registered metric of the group "labels", float32 ``(S, B)``. Those that are not defined in
        :mod:`~shiftbench.metrics.external` are computed table by table, which takes longer.

    Raises:
        InputError, InputTypeError: ids or mappings that :mod:`~shiftbench.metrics.external` refuses, a missing
            mapping, rows outside the population.
    """
    classes = as_ids(truth, "truth", 1)
    ids = as_ids(partitions, "partitions", 2, noise=True)
    if ids.shape[1] != len(classes):
        raise InputError(f"truth and partitions must describe the same images, not {len(classes)} and {ids.shape[1]}.")
    maps = [None] * len(ids) if mappings is None else list(mappings)
    if len(maps) != len(ids):
        raise InputError(f"{len(ids)} partitions need a mapping each, not {len(maps)}.")
    weights = _weights(len(classes), resamples, seed, rows, population)
    of_classes = _totals(weights, classes, int(classes.max()) + 1)
    powers = _x_log_x(int(of_classes.sum(axis=0).max()))
    replicates = [
        _replicates_of(classes, partition, mapping, weights, of_classes, powers)
        for partition, mapping in zip(ids, maps, strict=True)
    ]
    return {name: np.array([values[name] for values in replicates], dtype=np.float32) for name in replicates[0]}


def mean_over_seeds(replicates: Mapping[str, ArrayLike], seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """The mean score over seeds, which are resampled with replacement too.

    Images and seeds are resampled independently of each other, the two-way bootstrap of Owen (2007); its intervals
    are rather too wide. The replicates of seeds depend on their number alone: differences of conditions stay paired.

    Args:
        replicates: by metric ``(S, B)``, as from :func:`image_replicates`.
        seed: of the resamples.

    Returns:
        By metric float32 ``(B,)``.
    """
    means = {}
    for name, values in replicates.items():
        array = np.asarray(values, dtype=np.float64)
        weights = resample_weights(len(array), array.shape[1], seed, SEEDS)
        means[name] = ((array * weights).sum(axis=0) / len(array)).astype(np.float32)
    return means


def _weights(n: int, resamples: int, seed: int, rows: ArrayLike | None, population: int | None) -> Weights:
    if rows is None:
        return resample_weights(n, resamples, seed)
    places = as_ids(rows, "rows", 1)
    if population is None or len(places) != n or places.max() >= population:
        raise InputError(f"rows must be {n} ids below the population, {population}; they go up to {places.max()}.")
    return resample_weights(population, resamples, seed)[places]


def _x_log_x(largest: int) -> Values:
    counts = np.arange(largest + 1, dtype=np.float64)
    return counts * np.log(np.maximum(counts, 1))


def _replicates_of(
    truth: Ids, partition: Ids, mapping: ArrayLike | None, weights: Weights, of_classes: Ids, powers: Values
) -> dict[str, Values]:
    """By metric float64 (B,), moved to have the observed score as their mean."""
    table = contingency(truth, partition)
    n_clusters = table.counts.shape[1]
    classes = match(table) if mapping is None else as_mapping(mapping, n_clusters)
    correct, pure, in_cells, in_clusters, cell_powers, cluster_powers = _totals_by_cell(
        truth, np.where(partition < 0, n_clusters, partition), np.append(classes, -1), weights, len(of_classes), powers
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(of_classes > 0, correct / of_classes, np.nan)
        values = _counted(correct, pure, of_classes, shares) | _compared(
            table,
            of_classes,
            in_cells,
            in_clusters,
            powers[of_classes].sum(axis=0),
            cell_powers,
            cluster_powers,
            powers,
        )
    observed = scores(table, classes)
    replicates = {}
    for name, score in observed.items():
        if name in values:
            replicates[name] = np.clip(_centred(values[name], score), -1 if name in _SIGNED else 0, 1)
        else:
            known = (classes,) if "mapping" in METRICS[name].needs else ()
            each = _each(METRICS.load(name), known, truth, partition, weights, table.counts.shape)
            replicates[name] = _centred(each, score)
    return replicates


def _each(
    score: Callable[..., float],
    known: tuple[Ids, ...],
    truth: Ids,
    partition: Ids,
    weights: Weights,
    shape: tuple[int, ...],
) -> Values:
    """float64 (B,): any score, of each resample's own table."""
    cells, size = truth * (shape[1] + 1) + partition + 1, shape[0] * (shape[1] + 1)
    values = np.empty(weights.shape[1])
    for b in range(len(values)):
        counts = np.bincount(cells, weights[:, b], size).astype(np.int64).reshape(shape[0], -1)
        values[b] = score(Contingency(np.ascontiguousarray(counts[:, 1:]), counts[:, 0]), *known)
    return values


def _counted(correct: Ids, pure: Ids, of_classes: Ids, shares: Values) -> dict[str, Values]:
    n = of_classes.sum(axis=0)
    known = ~np.isnan(shares)
    return {
        "acc": correct.sum(axis=0) / n,
        "purity": pure / n,
        "mean_recall": np.where(known, shares, 0).sum(axis=0) / known.sum(axis=0),
        "worst_class": np.where(known, shares, np.inf).min(axis=0),
    }


def _compared(
    table: Contingency,
    of_classes: Ids,
    in_cells: Values,
    in_clusters: Values,
    class_powers: Values,
    cell_powers: Values,
    cluster_powers: Values,
    powers: Values,
) -> dict[str, Values]:
    """Information and pair scores from the sums of x^2 and x log x over cells, clusters and classes."""
    n = of_classes.sum(axis=0)
    whole = powers[n]
    entropy_classes, entropy_clusters = (whole - class_powers) / n, (whole - cluster_powers) / n
    shared = (whole + cell_powers - class_powers - cluster_powers) / n
    mean = (entropy_classes + entropy_clusters) / 2
    expected = expected_mutual_information(table.classes, table.clusters)
    together, by_cluster = (in_cells - n) / 2, (in_clusters - n) / 2
    by_class = (np.square(of_classes.astype(np.float64)).sum(axis=0) - n) / 2
    chance = by_class * by_cluster / (n * (n - 1.0) / 2)
    return {
        "nmi": shared / mean,
        "v_measure": shared / mean,
        "homogeneity": shared / entropy_classes,
        "completeness": shared / entropy_clusters,
        "ami": (shared - expected) / (mean - expected),
        "ari": (together - chance) / ((by_class + by_cluster) / 2 - chance),
    }


def _centred(values: Values, observed: float) -> Values:
    """Moved to have the observed score as their mean; a resample without a value gets that score first."""
    known: Values = np.where(np.isfinite(values), values, observed)
    centred: Values = known - known.mean() + observed
    return centred


@njit(nogil=True, cache=True)
def _draw(weights: Weights, key: np.uint64) -> None:
    n, resamples = weights.shape
    state = key
    for b in range(resamples):
        for _ in range(n):
            state += np.uint64(0x9E3779B97F4A7C15)
            z = state
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z = z ^ (z >> np.uint64(31))
            weights[np.int64(((z >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32)), b] += 1


@njit(nogil=True, cache=True)
def _totals(weights: Weights, ids: Ids, n_ids: int) -> Ids:
    """int64 (ids, B): how many drawn images have each id."""
    totals = np.zeros((n_ids, weights.shape[1]), np.int64)
    for i in range(len(ids)):
        row = ids[i]
        for b in range(weights.shape[1]):
            totals[row, b] += weights[i, b]
    return totals


@njit(nogil=True, cache=True)
def _totals_by_cell(
    truth: Ids, partition: Ids, mapping: Ids, weights: Weights, n_classes: int, powers: Values
) -> tuple[Ids, Ids, Values, Values, Values, Values]:
    """Sums over the cells of each resample's contingency table; the last cluster is noise.

    Images are visited cell by cell, so that one row of counters is all that is held; cells without images cost nothing.

    Returns:
        images in the clusters of their class (C, B), and in their cluster's majority (B,); sums of squares over cells
        and over clusters (B,); the same of x log x.
    """
    n_clusters, resamples = len(mapping), weights.shape[1]
    ends = np.zeros(n_clusters * n_classes + 1, np.int64)
    for i in range(len(truth)):
        ends[partition[i] * n_classes + truth[i] + 1] += 1
    ends = np.cumsum(ends)
    order, free = np.empty(len(truth), np.int64), ends[:-1].copy()
    for i in range(len(truth)):
        place = partition[i] * n_classes + truth[i]
        order[free[place]] = i
        free[place] += 1
    correct, pure = np.zeros((n_classes, resamples), np.int64), np.zeros(resamples, np.int64)
    in_cells, in_clusters = np.zeros(resamples), np.zeros(resamples)
    cell_powers, cluster_powers = np.zeros(resamples), np.zeros(resamples)
    cell, cluster, most = np.empty(resamples, np.int32), np.empty(resamples, np.int32), np.empty(resamples, np.int32)
    for k in range(n_clusters):
        cluster[:] = 0
        most[:] = 0
        for c in range(n_classes):
            begin, end = ends[k * n_classes + c], ends[k * n_classes + c + 1]
            if begin == end:
                continue
            cell[:] = 0
            for place in range(begin, end):
                row = order[place]
                for b in range(resamples):
                    cell[b] += weights[row, b]
            for b in range(resamples):
                x = cell[b]
                cluster[b] += x
                most[b] = max(most[b], x)
                in_cells[b] += float(x) * x
                cell_powers[b] += powers[x]
            if mapping[k] == c:
                for b in range(resamples):
                    correct[c, b] += cell[b]
        for b in range(resamples):
            in_clusters[b] += float(cluster[b]) * cluster[b]
            cluster_powers[b] += powers[cluster[b]]
            if k < n_clusters - 1:
                pure[b] += most[b]
    return correct, pure, in_cells, in_clusters, cell_powers, cluster_powers
