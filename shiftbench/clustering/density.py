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
    """Density clustering with a number of clusters of its own.

    k is only the most clusters that there may be: of more, the k largest are kept. It also sets the least size of a
    cluster, ``smallest`` of the N / k images of an even partition. Images in no kept cluster are noise, -1. The note
    tells how many clusters there are. A further image gets the label of the nearest fitted image, which may be noise.

    Attributes:
        smallest: the least size of a cluster, as a share of N / k.
        neighbors: images that must be near an image for its place to be dense, the image itself among them.

    Examples:
        >>> partition = HDBSCAN(neighbors=2).fit([[0.0], [0.1], [0.2], [9.0], [9.1], [9.2], [50.0]], k=2, seed=0)
        >>> int(partition.labels[-1])
        -1
        >>> partition.note.partition(";")[2]
        ' 2 clusters found, 14% of the fitted images are noise'
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
        dense = model.fit_predict(squareform(distances(points)))
        sizes = np.bincount(dense[dense >= 0])
        kept = np.sort(np.argsort(-sizes, kind="stable")[:k])
        ids = np.full(len(sizes) + 1, -1)  # the last entry is that of the noise, -1
        ids[kept] = np.arange(len(kept))
        labels = ids[dense]
        remark = f"{len(kept)} clusters found, {(labels < 0).mean():.0%} of the fitted images are noise"
        return labels, nearest_row(points, labels), remark
