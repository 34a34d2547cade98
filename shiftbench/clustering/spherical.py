"""Spherical k-means: clusters by direction alone (Dhillon & Modha 2001)."""

from __future__ import annotations

from dataclasses import dataclass

from shiftbench.clustering.kmeans import KMeans


@dataclass(frozen=True)
class SphericalKMeans(KMeans):
    """k-means of features brought to length one, with centers of length one.

    The nearest center is then that with the largest cosine, at a squared distance of ``2 - 2 cos``. An image whose
    features are all zero has no direction and goes to cluster 0.

    Examples:
        >>> labels = SphericalKMeans().fit([[1.0, 0.0], [9.0, 0.0], [0.0, 1.0]], k=2, seed=0).labels
        >>> bool(labels[0] == labels[1] != labels[2])
        True
    """

    unit = True
