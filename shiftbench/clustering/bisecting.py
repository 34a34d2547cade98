"""Bisecting k-means: the cluster with the largest inertia is split in two until there are k (scikit-learn)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.cluster import BisectingKMeans as Bisecting

from shiftbench.clustering.library import Ids, LibraryClusterer, Matrix, Rule


@dataclass(frozen=True)
class BisectingKMeans(LibraryClusterer):
    """A tree of 2-means splits (Steinbach et al. 2000); an image goes down the tree to the nearer center.

    Examples:
        >>> features = [[0.0], [0.2], [9.0], [9.2]]
        >>> labels = BisectingKMeans().fit(features, k=2, seed=0).labels
        >>> bool(labels[0] == labels[1] != labels[2] == labels[3])
        True
    """

    def _fit(self, points: Matrix, k: int, seed: int) -> tuple[Ids, Rule, str]:
        model = Bisecting(k, random_state=seed, init="k-means++").fit(points)
        return model.labels_.astype(np.int64), model.predict, ""
