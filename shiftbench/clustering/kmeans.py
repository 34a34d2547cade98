"""k-means: Lloyd's algorithm from one greedy k-means++ start per seed, all seeds at once.

The algorithm, its stopping rule and its random draws are those of scikit-learn's
``KMeans(k, n_init=1, algorithm="lloyd", random_state=seed)``. From the same initial centers both find the same
partition, up to rounding. The same seed also gives the same initial centers, except where, with many images,
scikit-learn's float32 sums make it draw a neighbouring image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shiftbench.clustering import lloyd as cpu
from shiftbench.clustering.base import Clusterer, as_features, check_dimensions, check_k, check_seed
from shiftbench.errors import InputError
from shiftbench.runtime.parallel import parallel_map

if TYPE_CHECKING:
    import torch

Matrix = NDArray[np.float32]
Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class KMeansPartition:
    """A fitted k-means.

    Attributes:
        labels: int64 ``(N,)``, ids ``0 .. k-1``; equal to ``predict`` of the fitted features.
        centers: float32 ``(k, D)``.
        inertia: sum of squared distances to the assigned centers.
        n_iter: Lloyd iterations done.
        unit: whether features are brought to length one before they are compared with the centers.
        note: always empty.

    Examples:
        >>> partition = KMeans().fit([[0.0], [0.2], [9.0], [9.2]], k=2, seed=0)
        >>> np.sort(partition.centers.ravel()), round(partition.inertia, 2)
        (array([0.1, 9.1], dtype=float32), 0.04)
    """

    labels: Ids
    centers: Matrix
    inertia: float
    n_iter: int
    unit: bool = False
    note: str = ""

    def predict(self, features: ArrayLike | torch.Tensor) -> Ids:
        """Assign features ``(M, D)`` to their nearest centers, the lowest id on a tie: int64 ``(M,)``.

        A tensor on a CUDA device is assigned there; which of several tied centers it gets is not defined.

        Raises:
            InputError: features that are unfit (see ``as_features``) or of another D than the fitted features.
        """
        if _device(features) != "cpu":
            from shiftbench.clustering import lloyd_torch as gpu

            return gpu.assign(cast("torch.Tensor", features), self.centers, self.unit)
        points = as_features(features)
        check_dimensions(points, self.centers.shape[1])
        return cpu.assign(unit_rows(points) if self.unit else points, self.centers)


@dataclass(frozen=True)
class KMeans(Clusterer):
    """The k-means algorithm.

    Attributes:
        max_iter: the most Lloyd iterations, at least 1.
        tol: stop when the centers' summed squared movement is at most ``tol`` times the mean variance of a
            dimension.
        workers: threads that share the seeds; leave it at 1 inside of other parallel work.
        device: where to compute: "cpu" (compiled kernels), "cuda" or "cuda:1" (matrix products), None for the device
            that the features are on.

    Examples:
        >>> features = [[0.0], [0.2], [9.0], [9.2]]
        >>> partitions = KMeans().fit_seeds(features, k=2, seeds=range(3))
        >>> [round(partition.inertia, 2) for partition in partitions]
        [0.04, 0.04, 0.04]
    """

    max_iter: int = 300
    tol: float = 1e-4
    workers: int = 1
    device: str | None = None

    unit = False  # whether features and centers are brought to length one

    def __post_init__(self) -> None:
        if self.max_iter < 1 or not self.tol >= 0:
            raise InputError(f"k-means needs max_iter >= 1 and tol >= 0, not {self.max_iter} and {self.tol}.")
        if self.workers < 1:
            raise InputError(f"workers must be at least 1, not {self.workers}.")
        if self.device is not None and self.device.partition(":")[0] not in ("cpu", "cuda"):
            raise InputError(f"k-means runs on the devices cpu and cuda, not {self.device!r}.")

    def fit(self, features: ArrayLike | torch.Tensor, k: int, seed: int) -> KMeansPartition:
        """Cluster from one start: :meth:`fit_seeds` with a single seed."""
        return self.fit_seeds(features, k, [seed])[0]

    def fit_seeds(self, features: ArrayLike | torch.Tensor, k: int, seeds: Sequence[int]) -> list[KMeansPartition]:
        """Cluster the same features once per seed.

        Args:
            features: ``(N, D)`` of any real dtype; clustered in float32.
            k: number of clusters, 1 to N; with fewer than k distinct rows, some clusters stay empty.
            seeds: each ``0 .. 2**32 - 1``. On the CPU, the partition of a seed does not depend on the other seeds.

        Raises:
            InputError: unfit features (see ``as_features``), k outside ``1 .. N``, or a seed out of range.
        """
        for seed in seeds:
            check_seed(seed)
        device = self.device or _device(features)
        if device != "cpu":
            from shiftbench.clustering import lloyd_torch as gpu

            fits = gpu.fit_seeds(features, k, seeds, device, self.max_iter, self.tol, self.unit)
            return [KMeansPartition(*fitted, self.unit) for fitted in fits]
        points = as_features(features)
        check_k(k, len(points))
        if self.unit:
            points = unit_rows(points)
        size = min(cpu.seeds_at_once(len(points), k), max(1, -(-len(seeds) // self.workers)))
        batches = [seeds[first : first + size] for first in range(0, len(seeds), size)]
        mean = points.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
        squares = cpu.own_squares(points, mean, np.zeros(len(points), np.int32))
        threshold = self.tol * float(squares.mean(dtype=np.float64)) / points.shape[1]
        partitions = parallel_map(lambda batch: self._fit(points, k, batch, threshold), batches, self.workers)
        return [partition for batch in partitions for partition in batch]

    def _fit(self, points: Matrix, k: int, seeds: Sequence[int], threshold: float) -> list[KMeansPartition]:
        starts = points[cpu.plus_plus(points, k, seeds)]
        partitions = []
        for centers, labels, n_iter in zip(
            *cpu.lloyd(points, starts, self.max_iter, threshold, self.unit), strict=True
        ):
            inertia = float(cpu.own_squares(points, centers, labels).sum(dtype=np.float64))
            partitions.append(KMeansPartition(labels.astype(np.int64), centers, inertia, int(n_iter), self.unit))
        return partitions


def unit_rows(points: Matrix) -> Matrix:
    """Rows of length one; a row of zeros stays.

    Examples:
        >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32))
        array([[0.6, 0.8],
               [0. , 0. ]], dtype=float32)
    """
    largest = np.abs(points).max(axis=1, keepdims=True)
    scaled = points / np.where(largest > 0, largest, 1)  # so that no square overflows or vanishes
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    return (scaled / np.where(lengths > 0, lengths, 1)).astype(np.float32, copy=False)


def _device(features: object) -> str:
    """The CUDA device that features are on, else "cpu"."""
    device = str(getattr(features, "device", "cpu"))
    return device if device.startswith("cuda") else "cpu"
