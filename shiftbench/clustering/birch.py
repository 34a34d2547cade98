"""Birch: images are summarised as they come in a tree of small subclusters, which are then merged (Zhang et al. 1996)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import Birch as Tree
from sklearn.exceptions import ConvergenceWarning

from shiftbench.clustering.library import Ids, LibraryClusterer, Matrix, Rule, label_by_rows


@dataclass(frozen=True)
class Birch(LibraryClusterer):
    """Ward's method over Birch's subclusters, whose radius is changed until there are neither too few nor too many.

    Attributes:
        subclusters: the most subclusters to merge, or 4 k if that is more.

    Examples:
        >>> features = [[0.0], [0.2], [9.0], [9.2]]
        >>> labels = Birch().fit(features, k=2, seed=0).labels
        >>> bool(labels[0] == labels[1] != labels[2] == labels[3])
        True
    """

    subclusters: int = 2000

    seeded = False
    limit = 10_000

    def _fit(self, points: Matrix, k: int, seed: int) -> tuple[Ids, Rule, str]:
        allowed = max(self.subclusters, 4 * k)
        radius = 0.5 * np.sqrt(points.shape[1])  # half of the images' root mean square distance from their mean
        tree = _subclusters(points, radius)
        while len(tree.subcluster_centers_) < k:
            radius /= 2
            tree = _subclusters(points, radius)
        while len(tree.subcluster_centers_) > allowed:
            radius *= 1.1
            tree = _subclusters(points, radius)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            tree.set_params(n_clusters=k).partial_fit()
        return *label_by_rows(points, tree.subcluster_centers_.astype(np.float32), tree.subcluster_labels_), ""


def _subclusters(points: Matrix, radius: float) -> Tree:
    return Tree(threshold=radius, n_clusters=None).fit(points)
