"""What every clusterer and every partition can do, and the checks that all clusterers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shiftbench.errors import InputError, InputTypeError


class Partition(Protocol):
    """What a clusterer makes: a cluster id for each image, and the rule that assigns further images.

    Examples:
        >>> from shiftbench.clustering.kmeans import KMeans
        >>> partition = KMeans().fit([[0.0], [0.1], [9.0], [9.1]], k=2, seed=0)
        >>> bool(partition.labels[0] == partition.predict([[0.3]])[0])
        True
    """

    @property
    def labels(self) -> NDArray[np.int64]:
        """Int64 ``(N,)``, cluster ids ``0 .. k'-1`` of the fitted images, with k' <= k; -1 is noise."""
        ...

    @property
    def centers(self) -> NDArray[np.float32]:
        """Float32 ``(k', D)``, the mean feature of each cluster."""
        ...

    @property
    def inertia(self) -> float:
        """Sum of squared distances of the images to their centers, noise left out."""
        ...

    @property
    def note(self) -> str:
        """What a reader of the scores should know, such as a subsample, noise or an unfinished fit; may be empty."""
        ...

    def predict(self, features: ArrayLike) -> NDArray[np.int64]:
        """Assign features ``(M, D)`` to the clusters: int64 ids ``(M,)``, -1 for noise."""
        ...


class Clusterer(Protocol):
    """A clustering algorithm with its options, as registered in ``CLUSTERERS``.

    Attributes:
        seeded: whether it starts at random. If not, the seed draws the subsample above ``limit`` and nothing else.
        limit: the most images that it is fitted to; of more, a subsample drawn with the seed. None means any number.

    Examples:
        >>> from shiftbench.registry import CLUSTERERS
        >>> ward = CLUSTERERS.load("ward")()
        >>> ward.seeded, ward.limit
        (False, 5000)
    """

    seeded: ClassVar[bool] = True
    limit: ClassVar[int | None] = None

    def fit(self, features: ArrayLike, k: int, seed: int) -> Partition:
        """Cluster features ``(N, D)`` into at most k clusters; equal arguments give equal partitions."""
        ...

    def fit_seeds(self, features: ArrayLike, k: int, seeds: Sequence[int]) -> Sequence[Partition]:
        """Fit once per seed; the partition of a seed does not depend on which others are asked for."""
        return [self.fit(features, k, seed) for seed in seeds]


def as_features(features: ArrayLike) -> NDArray[np.float32]:
    """Check features, and bring them to the dtype that all clusterers work in.

    Args:
        features: ``(N, D)``, one row per image, of any real dtype (float16 included).

    Returns:
        float32 ``(N, D)`` in C order.

    Raises:
        InputTypeError: features that are not real numbers.
        InputError: no matrix, or a row that is NaN, infinite or too large to be squared in float32.

    Examples:
        >>> as_features([[1, 2]])
        array([[1., 2.]], dtype=float32)
    """
    array = np.asarray(features)
    if array.dtype.kind not in "fiub":
        raise InputTypeError(f"features must be real numbers, not {array.dtype}.")
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(f"features must be a matrix with one row per image (N, D), not of shape {array.shape}.")
    with np.errstate(over="ignore", invalid="ignore"):
        matrix = np.ascontiguousarray(array, dtype=np.float32)
        finite = np.isfinite(np.einsum("nd,nd->n", matrix, matrix))
    if not finite.all():
        raise InputError(
            f"features must be finite, but {len(finite) - finite.sum()} of {len(finite)} images have NaN, "
            f"infinite or huge (1e18) values, image {finite.argmin()} first: look at the encoder and its input."
        )
    return matrix


def check_k(k: int, n: int) -> None:
    """Refuse a number of clusters that n images cannot have.

    Raises:
        InputError: no whole number from 1 to n.

    Examples:
        >>> check_k(5, n=3)
        Traceback (most recent call last):
            ...
        shiftbench.errors.InputError: cannot make 5 clusters of 3 images: lower k or give more images.
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise InputError(f"k, the number of clusters, must be a whole number of at least 1, not {k!r}.")
    if k > n:
        raise InputError(f"cannot make {k} clusters of {n} images: lower k or give more images.")


def check_seed(seed: int) -> None:
    """Refuse a seed that numpy's generators do not take.

    Raises:
        InputError: no whole number from 0 to 2**32 - 1.

    Examples:
        >>> check_seed(-1)
        Traceback (most recent call last):
            ...
        shiftbench.errors.InputError: a seed must be a whole number from 0 to 4294967295, not -1.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise InputError(f"a seed must be a whole number from 0 to {2**32 - 1}, not {seed!r}.")


def check_dimensions(points: NDArray[np.float32], fitted: int) -> None:
    """Refuse to assign features of another length than the fitted features.

    Raises:
        InputError: ``points`` (M, D) have another D than ``fitted``.

    Examples:
        >>> check_dimensions(np.ones((2, 3), np.float32), fitted=4)
        Traceback (most recent call last):
            ...
        shiftbench.errors.InputError: features have 3 dimensions, the fitted features 4.
    """
    if points.shape[1] != fitted:
        raise InputError(f"features have {points.shape[1]} dimensions, the fitted features {fitted}.")
