"""The partition that a parametric head gives itself: each image belongs to the cluster with its largest output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shiftbench.clustering.base import Clusterer, as_features, check_dimensions
from shiftbench.errors import InputError


@dataclass(frozen=True, eq=False)
class ArgmaxPartition:
    """See :class:`~shiftbench.clustering.base.Partition`.

    Attributes:
        labels: int64 ``(N,)``.
        centers: float32 ``(k, D)``, mean outputs of each cluster; 0 for a cluster without images.
        inertia: sum of squared distances to the centers.
        note: always empty.

    Examples:
        >>> Argmax().fit([[0.9, 0.1], [0.2, 0.8]], k=2, seed=0).predict([[0.4, 0.6]])
        array([1])
    """

    labels: NDArray[np.int64]
    centers: NDArray[np.float32]
    inertia: float
    note: str = ""

    def predict(self, features: ArrayLike) -> NDArray[np.int64]:
        """Int64 ``(M,)``, the largest of the k outputs of each row of ``(M, k)``."""
        outputs = as_features(features)
        check_dimensions(outputs, self.centers.shape[1])
        labels: NDArray[np.int64] = outputs.argmax(axis=1)
        return labels


class Argmax(Clusterer):
    """For features that are a head's k outputs, logits or probabilities; nothing is fitted.

    Examples:
        >>> Argmax().fit([[0.9, 0.1], [0.2, 0.8]], k=2, seed=0).labels
        array([0, 1])
    """

    seeded: ClassVar[bool] = False
    limit: ClassVar[int | None] = None

    def fit(self, features: ArrayLike, k: int, seed: int) -> ArgmaxPartition:
        """Read the partition off the outputs ``(N, k)``.

        Raises:
            InputError: features that do not have k columns.
        """
        outputs = as_features(features)
        if outputs.shape[1] != k:
            raise InputError(
                f"argmax reads {k} clusters off {k} outputs of a head, not off {outputs.shape[1]} features."
            )
        labels = outputs.argmax(axis=1)
        centers = np.zeros((k, k), np.float32)
        for cluster in np.unique(labels):
            centers[cluster] = outputs[labels == cluster].mean(axis=0, dtype=np.float64)
        return ArgmaxPartition(labels, centers, float(np.square(outputs - centers[labels], dtype=np.float64).sum()))

    def fit_seeds(self, features: ArrayLike, k: int, seeds: Sequence[int]) -> Sequence[ArgmaxPartition]:
        """The same partition for every seed."""
        return [self.fit(features, k, 0)] * len(seeds)
