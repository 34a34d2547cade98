"""Clusterers: features in, a partition out that also assigns new features to its clusters. One file per algorithm."""

from shiftbench.clustering.base import Clusterer, Partition

__all__ = ["Clusterer", "Partition"]
