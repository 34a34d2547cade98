"""k-means: Lloyd's algorithm from one greedy k-means++ start per seed.

The algorithm, its stopping rule and its random draws are those of scikit-learn's
``KMeans(k, n_init=1, algorithm="lloyd", random_state=seed)``, so that a seed names the same partition there
and here, up to rounding. The compiled kernels run on the calling thread, without the interpreter lock: no
result depends on a thread count, and several splits can be clustered side by side.

Sources: Lloyd 1982; Arthur & Vassilvitskii 2007 (k-means++, here greedy); Hamerly 2010 (bounds on distances).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from shiftbench.clustering import Clusterer, as_features, check_k
from shiftbench.errors import InputError

Matrix = NDArray[np.float32]
Ids = NDArray[np.int64]
Reals = NDArray[np.float64]

_SLACK = 1e-5  # what a float32 distance may be off by, relatively: rounding must not make a bound too tight


@dataclass(frozen=True, eq=False)
class KMeansPartition:
    """A fitted k-means.

    Attributes:
        labels: int64 ``(N,)``, ids ``0 .. k-1``; equal to ``predict`` of the fitted features.
        centers: float32 ``(k, D)``.
        inertia: sum of squared distances to the assigned centers.
        n_iter: Lloyd iterations done.
    """

    labels: Ids
    centers: Matrix
    inertia: float
    n_iter: int

    def predict(self, features: ArrayLike) -> Ids:
        """Assign features ``(M, D)`` to their nearest centers, the lowest id on a tie: int64 ``(M,)``.

        Raises:
            InputError: the features are unfit (see ``as_features``) or have another D than the fitted ones.
        """
        points = as_features(features)
        if points.shape[1] != self.centers.shape[1]:
            raise InputError(f"features have {points.shape[1]} dimensions, the fitted ones {self.centers.shape[1]}.")
        return _nearest(points, self.centers)[0]


@dataclass(frozen=True)
class KMeans(Clusterer):
    """The k-means algorithm.

    Attributes:
        max_iter: the most Lloyd iterations, at least 1.
        tol: stop when the centers' summed squared movement is at most ``tol`` times the mean variance of a
            dimension.
    """

    max_iter: int = 300
    tol: float = 1e-4

    def __post_init__(self) -> None:
        if self.max_iter < 1 or not self.tol >= 0:
            raise InputError(f"k-means needs max_iter >= 1 and tol >= 0, not {self.max_iter} and {self.tol}.")

    def fit(self, features: ArrayLike, k: int, seed: int) -> KMeansPartition:
        """Cluster from one start: :meth:`fit_seeds` with a single seed."""
        return self.fit_seeds(features, k, [seed])[0]

    def fit_seeds(self, features: ArrayLike, k: int, seeds: Sequence[int]) -> list[KMeansPartition]:
        """Cluster the same features once per seed.

        Args:
            features: ``(N, D)`` of any real dtype; clustered in float32.
            k: number of clusters, 1 to N; with fewer than k distinct rows, some clusters stay empty.
            seeds: each ``0 .. 2**32 - 1``. The partition of a seed does not depend on the other seeds.

        Raises:
            InputError: unfit features (see ``as_features``), k outside ``1 .. N``, or a seed out of range.
        """
        points = as_features(features)
        check_k(k, len(points))
        if wrong := [seed for seed in seeds if not 0 <= seed < 2**32]:
            raise InputError(f"a seed must be from 0 to {2**32 - 1}, not {wrong[0]}.")
        mean = points.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
        variance = _nearest(points, mean)[1].mean(dtype=np.float64) / points.shape[1]
        return [self._fit(points, k, seed, self.tol * float(variance)) for seed in seeds]

    def _fit(self, points: Matrix, k: int, seed: int, threshold: float) -> KMeansPartition:
        centers, n_iter = _lloyd(points, points[_plus_plus(points, k, seed)], self.max_iter, threshold)
        labels, squares = _nearest(points, centers)
        return KMeansPartition(labels, centers, float(squares.sum(dtype=np.float64)), n_iter)


def _plus_plus(points: Matrix, k: int, seed: int) -> Ids:
    """Choose k rows to start from.

    ``2 + ln k`` candidates are drawn by squared distance to the chosen ones, and the best of them is next.
    """
    trials = 2 + int(np.log(k))
    draws = np.random.RandomState(seed).random_sample(1 + (k - 1) * trials)
    chosen = [int(draws[0] * len(points))]
    closest = _closer(points, np.array(chosen), np.full(len(points), np.inf, np.float32))[0]
    for draw in draws[1:].reshape(k - 1, trials):
        cumulated = closest.cumsum(dtype=np.float64)
        candidates = np.minimum(cumulated.searchsorted(draw * cumulated[-1]), len(points) - 1)
        closer = _closer(points, candidates, closest)
        best = closer.sum(axis=1, dtype=np.float64).argmin()
        chosen.append(candidates[best])
        closest = closer[best]
    return np.array(chosen)


def _lloyd(points: Matrix, centers: Matrix, max_iter: int, threshold: float) -> tuple[Matrix, int]:
    """Alternate assignment and means until no label changes or the squared movement is <= threshold."""
    n, k = len(points), len(centers)
    labels, counts, sums = np.full(n, -1), np.zeros(k, np.int64), np.zeros(centers.shape)
    upper, lower = np.full(n, np.inf), np.zeros(n)
    n_iter, done = 0, False
    while not done and n_iter < max_iter:
        changed = _reassign(points, centers, labels, counts, sums, upper, lower)
        for cluster in map(int, np.flatnonzero(counts == 0)):
            changed |= _fill(cluster, points, centers, labels, counts, sums)
        means = sums / np.maximum(counts, 1)[:, None]
        moved = np.where(counts[:, None] > 0, means, centers).astype(np.float32)
        shifts = np.linalg.norm(moved - centers, axis=1).astype(np.float64)
        upper += shifts[labels] * (1 + _SLACK)
        lower -= shifts.max() * (1 + _SLACK)
        centers = moved
        n_iter += 1
        done = not changed or np.square(shifts).sum() <= threshold
    return centers, n_iter


def _fill(cluster: int, points: Matrix, centers: Matrix, labels: Ids, counts: Ids, sums: Reals) -> bool:
    """Give an empty cluster the point farthest from its own center; False if all lie on their centers.

    The bounds of the points stay valid, since this jump counts as a shift of the center like any other.
    """
    squares = np.square(points - centers[labels]).sum(axis=1)
    squares[counts[labels] == 1] = 0  # the only member of another cluster stays
    point = int(squares.argmax())
    if squares[point] == 0:
        return False
    _move(points, point, cluster, labels, counts, sums)
    return True


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})  # lets this sum use vector registers
def _squared_distance(points: Matrix, i: int, centers: Matrix, j: int) -> np.float32:
    total = np.float32(0)
    for d in range(points.shape[1]):
        difference = points[i, d] - centers[j, d]
        total += difference * difference
    return total


@njit(nogil=True, cache=True)
def _nearest(points: Matrix, centers: Matrix) -> tuple[Ids, Matrix]:
    """The nearest center of each point, int64 (N,), and its squared distance, float32 (N,)."""
    labels = np.zeros(len(points), np.int64)
    squares = np.full(len(points), np.inf, np.float32)
    for i in range(len(points)):
        for j in range(len(centers)):
            square = _squared_distance(points, i, centers, j)
            if square < squares[i]:
                labels[i], squares[i] = j, square
    return labels, squares


@njit(nogil=True, cache=True)
def _closer(points: Matrix, candidates: Ids, closest: Matrix) -> Matrix:
    """Squared distances ``closest`` (N,), lowered by each candidate row as a new center: float32 (C, N)."""
    closer = np.empty((len(candidates), len(points)), np.float32)
    for i in range(len(points)):
        for c in range(len(candidates)):
            closer[c, i] = min(closest[i], _squared_distance(points, i, points, candidates[c]))
    return closer


@njit(nogil=True, cache=True)
def _reassign(
    points: Matrix, centers: Matrix, labels: Ids, counts: Ids, sums: Reals, upper: Reals, lower: Reals
) -> bool:
    """Move each point to its nearest center, in place; True if any moved.

    ``upper`` bounds a point's distance to its own center from above, ``lower`` that to all others from below:
    while upper < lower, its label cannot change.
    """
    changed = False
    for i in range(len(points)):
        if upper[i] < lower[i]:
            continue
        if labels[i] >= 0:
            upper[i] = np.sqrt(_squared_distance(points, i, centers, labels[i])) * (1 + _SLACK)
            if upper[i] < lower[i]:
                continue
        label, first, second = 0, np.float32(np.inf), np.float32(np.inf)
        for j in range(len(centers)):
            square = _squared_distance(points, i, centers, j)
            if square < first:
                label, first, second = j, square, first
            elif square < second:
                second = square
        upper[i] = np.sqrt(first) * (1 + _SLACK)
        lower[i] = np.sqrt(second) * (1 - _SLACK)
        if label != labels[i]:
            _move(points, i, label, labels, counts, sums)
            changed = True
    return changed


@njit(nogil=True, cache=True)
def _move(points: Matrix, i: int, label: int, labels: Ids, counts: Ids, sums: Reals) -> None:
    """Take point i out of its cluster, if it is in one, and put it into another; sums and counts follow."""
    old = labels[i]
    for d in range(points.shape[1]):
        if old >= 0:
            sums[old, d] -= points[i, d]
        sums[label, d] += points[i, d]
    if old >= 0:
        counts[old] -= 1
    counts[label] += 1
    labels[i] = label
