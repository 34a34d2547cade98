"""Spectral clustering of the nearest-neighbour graph (scikit-learn; Shi & Malik 2000, von Luxburg 2007)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import SpectralClustering

from shiftbench.clustering.library import Ids, LibraryClusterer, Matrix, Rule, nearest_row


@dataclass(frozen=True)
class Spectral(LibraryClusterer):
    """k-means on the smallest eigenvectors of the normalised Laplacian of the neighbour graph.

    Attributes:
        neighbors: edges from each image to its nearest images, itself among them.

    Examples:
        >>> features = [[0.0], [0.2], [9.0], [9.2]]
        >>> labels = Spectral(neighbors=2).fit(features, k=2, seed=0).labels
        >>> bool(labels[0] == labels[1] != labels[2] == labels[3])
        True
    """

    neighbors: int = 10

    limit = 5_000
    assigns = "nearest fitted image"

    def _fit(self, points: Matrix, k: int, seed: int) -> tuple[Ids, Rule, str]:
        model = SpectralClustering(
            k, affinity="nearest_neighbors", n_neighbors=min(self.neighbors, len(points)), random_state=seed
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Graph is not fully connected")
            labels = model.fit_predict(points)
        _, ids = np.unique(labels, return_inverse=True)
        return ids, nearest_row(points, ids), ""
