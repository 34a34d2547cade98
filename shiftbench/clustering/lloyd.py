"""The compiled kernels of k-means on the CPU: its start, its iterations and its assignment.

They run on the calling thread, without the interpreter lock: no result depends on a thread count, and several fits can
run side by side. Distances are computed as sums of squared differences, so that nothing cancels far from the origin.

Sources: Lloyd 1982; Arthur & Vassilvitskii 2007 (k-means++, here greedy); Elkan 2003, Hamerly 2010 and Ding et al. 2015
(bounds on distances to each center, to all others, and to groups of centers).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Ids = NDArray[np.int64]
Reals = NDArray[np.float64]

_SLACK = 1e-5  # what a float32 distance may be off by, relatively: rounding must not make a bound too tight
_MORE, _LESS = np.float32(1 + _SLACK), np.float32(1 - _SLACK)
_CACHED = 2**15  # float32 values of points that stay in the cache while every fit works on these points
_GROUPS = 32  # groups of centers that a point keeps a bound for; up to this k each center is a group
_NUMBERS = 2**26  # float32 values that the fits in step may keep about their points, 256 MiB


def seeds_at_once(n: int, k: int) -> int:
    """How many fits of n points may run in step."""
    return max(1, _NUMBERS // (n * (_trials(k) + _groups(n, k) + 4)))


def plus_plus(points: Matrix, k: int, seeds: Sequence[int]) -> Ids:
    """Choose k rows to start from, for each seed.

    For each next row, ``2 + ln k`` candidates are drawn by squared distance to the chosen rows, and the best is taken.

    Args:
        points: float32 ``(N, D)``.
        k: number of rows.
        seeds: S seeds; the rows of a seed do not depend on the others.

    Returns:
        int64 ``(S, k)``, the rows that scikit-learn's ``kmeans_plusplus`` draws.
    """
    n, trials, each = len(points), _trials(k), np.arange(len(seeds))
    draws = np.array([np.random.RandomState(seed).random_sample(1 + (k - 1) * trials) for seed in seeds])
    chosen = np.empty((len(seeds), k), np.int64)
    chosen[:, 0] = draws[:, 0] * n
    closer = np.empty((len(seeds), trials, n), np.float32)
    _lower(points, chosen[:, :1].copy(), np.full((len(seeds), n), np.inf, np.float32), closer)
    closest = closer[:, 0].copy()
    for step in range(1, k):
        candidates = np.empty((len(seeds), trials), np.int64)
        for seed in each:
            cumulated = closest[seed].cumsum(dtype=np.float64)
            first = 1 + (step - 1) * trials
            candidates[seed] = cumulated.searchsorted(draws[seed, first : first + trials] * cumulated[-1])
        candidates = np.minimum(candidates, n - 1)
        best = _lower(points, candidates, closest, closer).argmin(axis=1)
        chosen[:, step] = candidates[each, best]
        closest = closer[each, best]
    return chosen


class _State(NamedTuple):
    """The state of S fits of the same points. Bounds are of distances, and relative to the centers at the start.

    ``upper[s, i] + moved[s, own]`` is at least the distance to the own center, ``beyond[s, i] - moved_most[s]`` at most
    that to any other, and ``lower[s, i, g] - moved_group[s, g]`` at most that to any other in group g.
    """

    centers: Matrix  # (S, k, D)
    sums: Reals  # (S, k, D)
    counts: Ids  # (S, k)
    labels: NDArray[np.int32]  # (S, N)
    upper: Matrix  # (S, N)
    beyond: Matrix  # (S, N)
    lower: Matrix  # (S, N, G)
    starts: Ids  # (G + 1,) first center of each group
    group_of: Ids  # (k,)
    moved: Reals  # (S, k) how far centers have come; float64, since small steps add up
    moved_group: Reals  # (S, G) the farthest of each step, in the group
    moved_most: Reals  # (S,) the farthest of each step
    changed: NDArray[np.bool_]  # (S,) in the last iteration


def _begin(points: Matrix, centers: Matrix) -> _State:
    """All points in cluster 0, with bounds that exclude no center."""
    (seeds, k, _), n = centers.shape, len(points)
    groups = _groups(n, k)
    starts = -(-np.arange(groups + 1) * k // groups)
    state = _State(
        centers=centers.copy(), sums=np.zeros(centers.shape), counts=np.zeros((seeds, k), np.int64),
        labels=np.zeros((seeds, n), np.int32), upper=np.full((seeds, n), np.inf, np.float32),
        beyond=np.full((seeds, n), -np.inf, np.float32), lower=np.full((seeds, n, groups), -np.inf, np.float32),
        starts=starts, group_of=np.repeat(np.arange(groups), np.diff(starts)), moved=np.zeros((seeds, k)),
        moved_group=np.zeros((seeds, groups)), moved_most=np.zeros(seeds), changed=np.zeros(seeds, np.bool_),
    )  # fmt: skip
    state.counts[:, 0], state.sums[:, 0] = n, points.sum(axis=0, dtype=np.float64)
    return state


def lloyd(
    points: Matrix, centers: Matrix, max_iter: int, threshold: float, unit: bool = False
) -> tuple[Matrix, NDArray[np.int32], Ids]:
    """Alternate assignment and means until no label changes or the squared movement is <= threshold.

    Each point keeps an upper bound on the distance to its own center, and lower bounds on the distances to the other
    centers: one for all, and one for each center (or group of centers). Bounds are stored relative to the start; when
    they are compared, the movement of the centers since then is added, so that a point whose bounds hold costs one
    comparison per iteration. The S fits run in step, so that a block of points is read into the cache once for all.

    Args:
        points: float32 ``(N, D)``.
        centers: float32 ``(S, k, D)``, where to start.
        max_iter: the most iterations.
        threshold: the centers' summed squared movement at which a fit ends.
        unit: bring centers to length one (spherical k-means).

    Returns:
        The centers float32 ``(S, k, D)``, the nearest center of each point int32 ``(S, N)``, and the numbers of
        iterations ``(S,)``. A fit does not depend on the others.
    """
    state = _begin(points, centers)
    active, n_iter = np.arange(len(centers)), np.zeros(len(centers), np.int64)
    while len(active) and n_iter.max() < max_iter:
        n_iter[active] += 1
        _reassign(points, active, state)
        active = np.array(
            [seed for seed in active.tolist() if _update(points, seed, state, unit) > threshold], np.int64
        )
    _reassign(points, np.arange(len(centers)), state)
    return state.centers, state.labels, n_iter


def _update(points: Matrix, seed: int, state: _State, unit: bool) -> float:
    """Move the centers of one fit to the means; returns the squared movement, -inf if no point changed its cluster."""
    for cluster in map(int, np.flatnonzero(state.counts[seed] == 0)):
        state.changed[seed] |= _fill(points, cluster, seed, state)
    sums, counts, centers = state.sums[seed], state.counts[seed], state.centers[seed]
    lengths = np.linalg.norm(sums, axis=1) if unit else counts
    filled = lengths[:, None] > 0  # an empty cluster, or a cluster whose unit vectors cancel, keeps its center
    means = np.where(filled, sums / np.where(filled, lengths[:, None], 1), centers).astype(np.float32)
    shifts = np.linalg.norm((means - centers).astype(np.float64), axis=1)
    centers[:] = means
    state.moved[seed] += shifts * (1 + _SLACK)
    state.moved_group[seed] += np.maximum.reduceat(shifts, state.starts[:-1]) * (1 + _SLACK)
    state.moved_most[seed] += shifts.max() * (1 + _SLACK)
    return float(np.square(shifts).sum()) if state.changed[seed] else -np.inf


def _fill(points: Matrix, cluster: int, seed: int, state: _State) -> bool:
    """Give an empty cluster the point farthest from its own center; False if all lie on their centers."""
    labels = state.labels[seed]
    squares = own_squares(points, state.centers[seed], labels)
    squares[state.counts[seed][labels] == 1] = 0  # the only member of another cluster stays
    point = int(squares.argmax())
    if squares[point] == 0:
        return False
    _move(points, point, cluster, labels, state.counts[seed], state.sums[seed])
    state.upper[seed, point], state.beyond[seed, point], state.lower[seed, point] = np.inf, -np.inf, -np.inf
    return True


def _groups(n: int, k: int) -> int:
    """How many groups of centers a point keeps a bound for."""
    return max(1, min(k, _GROUPS, _NUMBERS // n))


def _trials(k: int) -> int:
    return 2 + int(np.log(k))


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})  # lets this sum use vector registers
def _square(points: Matrix, i: int, centers: Matrix, j: int) -> np.float32:
    total = np.float32(0)
    for d in range(points.shape[1]):
        difference = points[i, d] - centers[j, d]
        total += difference * difference
    return total


@njit(nogil=True, cache=True)
def assign(points: Matrix, centers: Matrix) -> Ids:
    """The nearest center of each point, the lowest id on a tie: int64 (N,)."""
    labels = np.zeros(len(points), np.int64)
    for i in range(len(points)):
        nearest = np.float32(np.inf)
        for j in range(len(centers)):
            square = _square(points, i, centers, j)
            if square < nearest:
                labels[i], nearest = j, square
    return labels


@njit(nogil=True, cache=True)
def own_squares(points: Matrix, centers: Matrix, labels: Ids) -> Matrix:
    """Squared distances of points to the centers that labels name: float32 (N,)."""
    squares = np.empty(len(points), np.float32)
    for i in range(len(points)):
        squares[i] = _square(points, i, centers, labels[i])
    return squares


@njit(nogil=True, cache=True)
def _lower(points: Matrix, candidates: Ids, closest: Matrix, closer: Matrix) -> Reals:
    """Lower the squared distances ``closest`` (S, N) by each candidate row (S, T), into ``closer`` (S, T, N).

    Returns their sums float64 (S, T).
    """
    sums = np.zeros(candidates.shape)
    rows = max(16, _CACHED // points.shape[1])
    for first in range(0, len(points), rows):
        for s in range(candidates.shape[0]):
            for i in range(first, min(first + rows, len(points))):
                for t in range(candidates.shape[1]):
                    square = min(closest[s, i], _square(points, i, points, candidates[s, t]))
                    closer[s, t, i] = square
                    sums[s, t] += square
    return sums


@njit(nogil=True, cache=True)
def _reassign(points: Matrix, active: Ids, state: _State) -> None:
    """Move each point to its nearest center, in the active fits."""
    state.changed[active] = False
    rows = max(16, _CACHED // points.shape[1])
    for first in range(0, len(points), rows):
        for s in active:
            state.changed[s] |= _reassign_block(points, first, min(first + rows, len(points)), s, state)


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz"})  # lets a minimum use vector registers
def _reassign_block(points: Matrix, first: int, last: int, s: int, state: _State) -> bool:
    """:func:`_reassign` the points first .. last - 1 in fit s; True if any moved.

    Three tests, each more costly than the last, pick out the points that stay. Each test lists the doubtful points
    without a branch, which the processor could not predict.
    """
    labels, upper, beyond, lower = state.labels[s], state.upper[s], state.beyond[s], state.lower[s]
    centers, moved_most = state.centers[s], np.float32(state.moved_most[s])
    moved, moved_group = state.moved[s].astype(np.float32), state.moved_group[s].astype(np.float32)
    doubtful, squares, size = np.empty(last - first, np.int32), np.empty(last - first, np.float32), 0
    for i in range(first, last):
        doubtful[size] = i
        size += upper[i] + moved[labels[i]] >= beyond[i] - moved_most
    doubts, size = size, 0
    for at in range(doubts):
        i = doubtful[at]
        others = _least(lower, moved_group, i)
        beyond[i] = others + moved_most
        doubtful[size] = i
        size += upper[i] + moved[labels[i]] >= others
    doubts, size = size, 0
    for at in range(doubts):
        i = doubtful[at]
        square = _square(points, i, centers, labels[i])
        radius = np.sqrt(square) * _MORE
        upper[i] = radius - moved[labels[i]]
        doubtful[size], squares[size] = i, square
        size += radius >= beyond[i] - moved_most
    changed = False
    for at in range(size):
        i, old, own = doubtful[at], labels[doubtful[at]], squares[at]
        label, least = _nearest_of_groups(
            points, i, old, own, centers, lower, state.starts, state.group_of, moved_group
        )
        if label != old:
            _bound(lower, i, state.group_of[old], own, moved_group)
            upper[i] = np.sqrt(least) * _MORE - moved[label]
            _move(points, i, label, labels, state.counts[s], state.sums[s])
            changed = True
        beyond[i] = _least(lower, moved_group, i) + moved_most
    return changed


@njit(nogil=True, cache=True, forceinline=True)
def _nearest_of_groups(
    points: Matrix,
    i: int,
    old: int,
    own: np.float32,
    centers: Matrix,
    lower: Matrix,
    starts: Ids,
    group_of: Ids,
    moved_group: Matrix,
) -> tuple[int, np.float32]:
    """The nearest center of point i and its squared distance; ``own`` is the squared distance to its old center.

    Looks at the groups that may hold a center as near, and renews their bounds.
    """
    label, least, radius = old, own, np.sqrt(own) * _MORE
    for g in range(len(moved_group)):
        if lower[i, g] - moved_group[g] > radius:
            continue
        lower[i, g] = np.inf
        for c in range(starts[g], starts[g + 1]):
            if c == old:
                continue
            other = _square(points, i, centers, c)
            if other < least or (other == least and c < label):
                if label != old:  # the nearest center so far becomes one of the others
                    _bound(lower, i, group_of[label], least, moved_group)
                label, least, radius = c, other, np.sqrt(other) * _MORE
            else:
                _bound(lower, i, g, other, moved_group)
    return label, least


@njit(nogil=True, cache=True, forceinline=True)
def _bound(lower: Matrix, i: int, g: int, square: np.float32, moved_group: Matrix) -> None:
    """Take another center at this squared distance into the bound of its group."""
    lower[i, g] = min(lower[i, g], np.sqrt(square) * _LESS + moved_group[g])


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz"}, forceinline=True)
def _least(lower: Matrix, moved_group: Matrix, i: int) -> np.float32:
    """The least distance that another center of point i may have."""
    least = np.float32(np.inf)
    for g in range(len(moved_group)):
        least = min(least, lower[i, g] - moved_group[g])
    return least


@njit(nogil=True, cache=True)
def _move(points: Matrix, i: int, label: int, labels: Ids, counts: Ids, sums: Reals) -> None:
    """Take point i out of its cluster and put it into another; sums and counts follow."""
    old = labels[i]
    for d in range(points.shape[1]):
        sums[old, d] -= points[i, d]
        sums[label, d] += points[i, d]
    counts[old] -= 1
    counts[label] += 1
    labels[i] = label
