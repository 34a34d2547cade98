"""Spherical k-means: clusters by direction alone (Dhillon & Modha 2001)."""

from __future__ import annotations

from dataclasses import dataclass

from shiftbench.clustering.kmeans import KMeans


@dataclass(frozen=True)
class SphericalKMeans(KMeans):
    """k-means of features brought to length one, with centers of length one.

    Nearest is then what has the largest cosine, and the squared distance to the center is ``2 - 2 cos``. An image
    whose features are all zero has no direction and goes to cluster 0.
    """

    unit = True
