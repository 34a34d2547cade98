"""The number of clusters, chosen from the features alone: four criteria over a range of k.

Each criterion answers another question, and their answers often differ: how reproducible the clusters are (stability),
how much tighter than those of structureless data (gap), how well separated (silhouette), and into how many parts the
neighbourhood graph falls (eigengap).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from scipy.sparse.csgraph import laplacian
from sklearn.neighbors import kneighbors_graph

from shiftbench.clustering.base import Clusterer, as_features, check_k
from shiftbench.errors import InputError, unknown
from shiftbench.metrics import internal
from shiftbench.metrics.agreement import MISSING, pairwise
from shiftbench.metrics.counts import Ids, Values
from shiftbench.metrics.inference import bootstrap_agreement
from shiftbench.registry import CLUSTERERS
from shiftbench.runtime.parallel import parallel_map, single_threaded
from shiftbench.stability.axes import subsample

Matrix = NDArray[np.float32]

LIMIT = 2000  # images that stand for all
STARTS = 10  # the start with the lowest inertia counts: a bad start must not speak against a k
RESAMPLES = 10
REFERENCES = 10  # structureless data sets of the gap, as in its paper
NEIGHBORS = 10  # of each image in the graph
_TWO_SIDED = 3.92  # standard errors in a 95 % interval


@dataclass(frozen=True, eq=False)
class Choice:
    """What the criteria say.

    Attributes:
        table: a row per criterion and k with the columns ``criterion``, ``k``, ``value``, ``se`` (standard error; NaN
            where there is none) and ``chosen``. ``value`` is NaN where it is not defined, as for k = 1 where two
            clusters are compared.
        chosen: the k of each criterion; None where no k of the range satisfies it.

    Examples:
        >>> features = np.repeat([[0.0, 0.0], [9.0, 9.0]], 20, axis=0) + np.arange(40)[:, None] / 100
        >>> choose_k(features, range(1, 4), criteria=["gap"]).table["criterion"].tolist()
        ['gap', 'gap', 'gap']
    """

    table: pd.DataFrame
    chosen: dict[str, int | None]


def parse_k(k: object) -> int | range | Literal[True]:
    """Read what a user gives for k: a whole number, true (the number of classes) or a range such as ``2-20``.

    Returns:
        The number, True, or the range with both ends inside.

    Raises:
        InputError: anything else.

    Examples:
        >>> parse_k("10"), parse_k("true"), parse_k("2-20")
        (10, True, range(2, 21))
    """
    text = str(k).strip().lower()
    if text == "true":
        return True
    if match := re.fullmatch(r"(\d+)-(\d+)", text):
        low, high = map(int, match.groups())
        if 1 <= low < high:
            return range(low, high + 1)
    elif text.isdecimal() and int(text) >= 1:
        return int(text)
    raise InputError(
        f"k={k}: a whole number of at least 1, true (the number of classes) or a range like 2-20 is needed."
    )


def choose_k(
    features: ArrayLike,
    ks: Iterable[int],
    *,
    clusterer: str = "kmeans",
    criteria: Sequence[str] | None = None,
    limit: int = LIMIT,
    seed: int = 0,
    workers: int = 1,
) -> Choice:
    """Choose the number of clusters without labels.

    Args:
        features: ``(N, D)``, any real dtype.
        ks: the numbers to choose from, each 1 to the number of images used.
        clusterer: a registered clusterer; ``eigengap`` needs none.
        criteria: some of ``CRITERIA``; None takes all.
        limit: the most images to look at; of more, a random subsample stands for all.
        seed: of everything random here.
        workers: threads; they change no bit of the result.

    Raises:
        InputError: unfit features, no k, a k that so many images cannot have, no criterion, or an unknown name.

    Examples:
        >>> features = np.repeat([[0.0, 0.0], [9.0, 9.0]], 20, axis=0) + np.arange(40)[:, None] / 100
        >>> choose_k(features, range(1, 4), criteria=["gap", "silhouette"]).chosen
        {'gap': 2, 'silhouette': 2}
    """
    points = as_features(features)
    points = points[subsample(len(points), limit, seed)]
    numbers = sorted(set(ks))
    if not numbers:
        raise InputError("ks is empty: give at least one number of clusters to choose from.")
    for k in numbers:
        check_k(k, len(points))
    algorithm = CLUSTERERS.load(clusterer)()
    names = list(dict.fromkeys(CRITERIA if criteria is None else criteria))
    if not names:
        raise InputError(f"criteria is empty: name some of {', '.join(CRITERIA)}.")
    for name in names:
        if name not in CRITERIA:
            raise unknown("criterion", name, CRITERIA)
    tables, chosen = [], {}
    for name in names:
        measure, choose = CRITERIA[name]
        with single_threaded():
            values, errors = measure(points, numbers, algorithm, seed, workers)
        best = choose(values, errors)
        table = pd.DataFrame({"criterion": name, "k": numbers, "value": values, "se": errors})
        tables.append(table.assign(chosen=table.index == best))
        chosen[name] = None if best is None else numbers[best]
    return Choice(pd.concat(tables, ignore_index=True), chosen)


def _stability(
    points: Matrix, ks: Sequence[int], clusterer: Clusterer, seed: int, workers: int
) -> tuple[Values, Values]:
    """Mean ARI of all pairs of bootstrap resamples, on the images that both hold, and its standard error.

    Resamples as in :func:`shiftbench.stability.axes.bootstrap`, the same for every k. The ARI is 0 for unrelated
    partitions of any k, so that a larger k, with more ways to differ by chance, has no disadvantage (Ben-Hur et al. 2002
    used similarities without this correction).
    """
    n = len(points)
    resamples = [np.unique(np.random.default_rng([seed, i]).integers(n, size=n)) for i in range(RESAMPLES)]
    possible = [k for k in ks if 2 <= k <= min(map(len, resamples))]
    tasks = list(product(possible, resamples))
    fitted = iter(parallel_map(lambda task: _labels(points[task[1]], task[0], clusterer, seed), tasks, workers))
    values, errors = np.full((2, len(ks)), np.nan)
    for k in possible:
        labels = np.full((RESAMPLES, n), MISSING)
        for row, images in zip(labels, resamples, strict=True):
            row[images] = next(fitted)
        mean, _, low, high = bootstrap_agreement(pairwise(labels, ["ari"])["ari"])
        values[ks.index(k)], errors[ks.index(k)] = mean, (high - low) / _TWO_SIDED
    return values, errors


def _gap(points: Matrix, ks: Sequence[int], clusterer: Clusterer, seed: int, workers: int) -> tuple[Values, Values]:
    """Mean log W of structureless data less log W of these, and s_k (Tibshirani et al. 2001, sections 3 and 4).

    W is the sum of squared distances to the cluster means. Structureless data are uniform in the box of the principal
    components, and are clustered from a single start: without structure, starts differ by less than 1 %. Noise is left
    out of W; a W of 0 has no gap.
    """
    center = points.mean(axis=0, dtype=np.float64)
    axes = np.linalg.svd(points - center, full_matrices=False)[2]
    along = (points - center) @ axes.T

    def log_dispersion(task: tuple[int, int]) -> float:
        k, b = task
        data, starts = points, STARTS
        if b > 0:
            starts = 1
            uniform = np.random.default_rng([seed, b]).uniform(along.min(axis=0), along.max(axis=0), along.shape)
            data = (uniform @ axes + center).astype(np.float32)
        dispersion = _dispersion(data, _labels(data, k, clusterer, seed, starts))
        return np.log(dispersion) if dispersion > 0 else np.nan

    tasks = list(product(ks, range(REFERENCES + 1)))
    logs = np.reshape(parallel_map(log_dispersion, tasks, workers), (len(ks), REFERENCES + 1))
    references = logs[:, 1:]
    return references.mean(axis=1) - logs[:, 0], references.std(axis=1) * np.sqrt(1 + 1 / REFERENCES)


def _silhouette(
    points: Matrix, ks: Sequence[int], clusterer: Clusterer, seed: int, workers: int
) -> tuple[Values, Values]:
    """Mean silhouette of the images (Rousseeuw 1987): :func:`shiftbench.metrics.internal.silhouette`. No standard error."""
    fitted = parallel_map(lambda k: _labels(points, k, clusterer, seed), ks, workers)
    return internal.silhouette(points, np.stack(fitted), limit=max(2, len(points))), np.full(len(ks), np.nan)


def _eigengap(
    points: Matrix, ks: Sequence[int], clusterer: Clusterer, seed: int, workers: int
) -> tuple[Values, Values]:
    """The step from the k-th to the next eigenvalue of the normalised Laplacian (von Luxburg 2007, section 8.3).

    The graph joins two images where either is among the nearest neighbours of the other. As many eigenvalues are 0 as
    the graph has parts. No standard error; NaN for k = N.
    """
    n = len(points)
    joined = kneighbors_graph(points, min(NEIGHBORS, n - 1))
    last = min(max(ks), n - 1)
    operator = laplacian(joined.maximum(joined.T), normed=True).toarray()
    eigenvalues = eigh(operator, eigvals_only=True, subset_by_index=[0, last])
    steps = np.append(np.diff(eigenvalues), np.nan)
    return steps[np.array(ks) - 1], np.full(len(ks), np.nan)


def _labels(points: Matrix, k: int, clusterer: Clusterer, seed: int, starts: int = STARTS) -> Ids:
    seeds = range(seed, seed + (starts if clusterer.seeded else 1))
    return min(clusterer.fit_seeds(points, k, seeds), key=lambda fitted: fitted.inertia).labels


def _dispersion(points: Matrix, labels: Ids) -> float:
    clusters = (points[labels == cluster] for cluster in np.unique(labels[labels >= 0]))
    return sum(float(np.square(members - members.mean(axis=0, dtype=np.float64)).sum()) for members in clusters)


def _highest(values: Values, errors: Values) -> int | None:
    return None if np.isnan(values).all() else int(np.nanargmax(values))


def _last_near_highest(values: Values, errors: Values) -> int | None:
    """The largest k within one standard error of the highest value.

    Whole clusters joined can be as reproducible as each of them alone, so the last k before the fall is taken.
    """
    best = _highest(values, errors)
    return None if best is None else int(np.flatnonzero(values >= values[best] - errors[best]).max())


def _first_above_next(values: Values, errors: Values) -> int | None:
    """Tibshirani's rule: the smallest k with ``gap(k) >= gap(k') - s(k')``, where k' is the next k."""
    enough = np.flatnonzero(values[:-1] >= values[1:] - errors[1:])
    return int(enough[0]) if len(enough) else None


Measure = Callable[[Matrix, Sequence[int], Clusterer, int, int], tuple[Values, Values]]
Choose = Callable[[Values, Values], int | None]
CRITERIA: dict[str, tuple[Measure, Choose]] = {
    "stability": (_stability, _last_near_highest),
    "gap": (_gap, _first_above_next),
    "silhouette": (_silhouette, _highest),
    "eigengap": (_eigengap, _highest),
}
"""How each criterion measures a range of k, and which k it then chooses."""
