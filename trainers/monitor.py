"""Scores with labels while a training runs: for watching only, unless ``trainer.select=oracle`` is asked for."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from shiftbench.clustering.kmeans import KMeans
from shiftbench.errors import InputError
from shiftbench.metrics.counts import contingency
from shiftbench.metrics.external import accuracy
from shiftbench.metrics.probes import KnnProbe

LIMIT = 10_000  # images that are scored


class Monitor:
    """Accuracies of features of the training split, against its labels.

    Args:
        labels: int64 (N,), or None where nobody labelled the images.
        k: number of clusters.
        seed: of the images that are scored and of k-means.

    Attributes:
        rows: int64 (n,), the images that are scored: at most 10,000, in rising order.

    Raises:
        InputError: there are no labels.
    """

    def __init__(self, labels: NDArray[np.int64] | None, k: int, seed: int) -> None:
        if labels is None:
            raise InputError("trainer.monitor=true compares with labels, and these images have none.")
        drawn = np.random.default_rng(seed).permutation(len(labels))[:LIMIT]
        self.rows = np.sort(drawn)
        self._labels = np.asarray(labels)[self.rows]
        self._k, self._seed = k, seed

    def scores(self, features: torch.Tensor) -> dict[str, float]:
        """``monitor_acc`` of k-means with one start; ``monitor_knn``: half of the images classify the other half.

        Args:
            features: float (n, D), of ``rows``.
        """
        points = features.float().cpu().numpy()
        partition = KMeans().fit(points, self._k, self._seed).labels
        known, asked = slice(0, None, 2), slice(1, None, 2)
        neighbours = KnnProbe().fit(points[known], self._labels[known]).predict(points[asked])
        return {
            "monitor_acc": accuracy(contingency(self._labels, partition)),
            "monitor_knn": float(np.mean(neighbours == self._labels[asked])),
        }
