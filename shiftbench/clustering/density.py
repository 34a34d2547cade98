"""HDBSCAN: clusters are what stays dense over a range of densities, and the rest is noise (scikit-learn; Campello 2013)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import squareform
from sklearn.cluster import HDBSCAN as Sklearn

from shiftbench.clustering.hierarchical import distances
from shiftbench.clustering.library import Ids, LibraryClusterer, Matrix, Rule, nearest_row


@dataclass(frozen=True)
class HDBSCAN(LibraryClusterer):
    """Density clustering that finds its own number of clusters.

    k is not met as such. It sets how small a cluster may be, ``smallest`` of the N / k images of an even partition,
    and of more than k clusters the k largest are kept. What is in none of them is noise, -1. The note tells how
    many were found. A further image gets the label of the nearest fitted one, which may be noise.

    Attributes:
        smallest: the least size of a cluster, as a share of N / k.
        neighbors: images that must be near for a region to be dense, itself among them.
    """

    smallest: float = 0.2
    neighbors: int = 5

    seeded = False
    limit = 5_000
    assigns = "nearest fitted image"

    def _fit(self, points: Matrix, k: int, seed: int) -> tuple[Ids, Rule, str]:
        size = max(2, round(self.smallest * len(points) / k))
        near = min(self.neighbors, len(points))
        model = Sklearn(min_cluster_size=size, min_samples=near, metric="precomputed", copy=False)
        found = model.fit_predict(squareform(distances(points)))
        sizes = np.bincount(found[found >= 0])
        kept = np.sort(np.argsort(-sizes, kind="stable")[:k])
        ids = np.full(len(sizes) + 1, -1)  # the last one stands for the noise, -1
        ids[kept] = np.arange(len(kept))
        labels = ids[found]
        remark = f"{len(kept)} clusters found, {(labels < 0).mean():.0%} of the fitted images are noise"
        return labels, nearest_row(points, labels), remark
