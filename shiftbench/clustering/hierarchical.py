"""Agglomerative clustering: every image starts alone, and the two nearest clusters are merged until k are left (SciPy)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from shiftbench.clustering.library import Ids, LibraryClusterer, Matrix, Rule, nearest_centroid, nearest_row

_ROWS = 512  # points whose distances are computed at once


@dataclass(frozen=True)
class Ward(LibraryClusterer):
    """Agglomerative clustering that merges what adds least to the squared distances to the cluster means (Ward 1963).

    Examples:
        >>> features = [[0.0], [0.2], [9.0], [9.2]]
        >>> labels = Ward().fit(features, k=2, seed=0).labels
        >>> bool(labels[0] == labels[1] != labels[2] == labels[3])
        True
    """

    seeded = False
    limit = 5_000
    assigns = "nearest centroid"

    def _fit(self, points: Matrix, k: int, seed: int) -> tuple[Ids, Rule, str]:
        labels = _cut(linkage(distances(points), "ward"), k)
        return labels, nearest_centroid(points, labels), ""


@dataclass(frozen=True)
class Average(LibraryClusterer):
    """Agglomerative clustering by the mean distance between the members of two clusters (UPGMA).

    Its clusters may be of any shape, so a further image gets the label of the nearest fitted image.

    Examples:
        >>> features = [[0.0], [0.2], [9.0], [9.2]]
        >>> labels = Average().fit(features, k=2, seed=0).labels
        >>> bool(labels[0] == labels[1] != labels[2] == labels[3])
        True
    """

    seeded = False
    limit = 5_000
    assigns = "nearest fitted image"

    def _fit(self, points: Matrix, k: int, seed: int) -> tuple[Ids, Rule, str]:
        labels = _cut(linkage(distances(points), "average"), k)
        return labels, nearest_row(points, labels), ""


def distances(points: Matrix) -> NDArray[np.float64]:
    """Euclidean distances of all pairs of points ``(N, D)``: float64 ``(N (N - 1) / 2,)`` in SciPy's condensed order.

    Examples:
        >>> distances(np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]], np.float32)).round(2)
        array([5.  , 1.  , 4.24])
    """
    exact = points.astype(np.float64)  # so that a duplicate is at distance ~0
    norms = np.einsum("nd,nd->n", exact, exact)
    n = len(exact)
    condensed = np.empty(n * (n - 1) // 2)
    end = 0
    for first in range(0, n, _ROWS):
        rows = slice(first, first + _ROWS)
        squares = norms[rows, None] + norms[first:] - 2 * exact[rows] @ exact[first:].T
        for row, values in enumerate(squares):
            start, end = end, end + n - first - row - 1
            condensed[start:end] = values[row + 1 :]
    return np.sqrt(np.maximum(condensed, 0, out=condensed), out=condensed)


def _cut(merges: NDArray[np.float64], k: int) -> Ids:
    """The labels (N,) after all but the last k - 1 merges of a tree: always k clusters, also where merges tie."""
    n = len(merges) + 1
    done = merges[: n - k, :2].astype(np.int64)
    parents = np.repeat(np.arange(n, 2 * n - k), 2)
    links = coo_array((np.ones(len(parents)), (done.ravel(), parents)), shape=(2 * n - k, 2 * n - k))
    _, ids = np.unique(connected_components(links, directed=False)[1][:n], return_inverse=True)
    return ids.astype(np.int64)
