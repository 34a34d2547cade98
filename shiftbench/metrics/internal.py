"""What features and partitions show without labels: compactness, evenness, and how far features moved from clean ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shiftbench.errors import InputError
from shiftbench.metrics.counts import Ids, Values, as_ids

COLLAPSED_SHARE = 0.1
"""A cluster counts as collapsed below this part of an equal share of the images."""

_CHUNK = 4096  # rows held as float64 at once
_SPARE = 64  # further axes that a randomised decomposition follows, and drops


def silhouette(features: ArrayLike, labels: ArrayLike, seed: int = 0, limit: int = 1000) -> Values:
    """Mean silhouette (Rousseeuw 1987) over a seeded sample of images, Euclidean, -1..1.

    ``(b - a) / max(a, b)``, where a is the mean distance of an image to the others of its cluster and b that to the
    nearest other cluster; 0 for an image alone in its cluster. Distances and clusters are those of the sample. All
    partitions share the sample and its distances, so that many partitions cost little more than a single partition.

    Args:
        features: float ``(N, D)``.
        labels: integers ``(..., N)``, a partition or several; -1 is noise, which is left out.
        seed: of the sample.
        limit: images in the sample, at most.

    Returns:
        float64 ``(...)``; NaN where the sample has fewer than two clusters, or as many as images.

    Raises:
        InputError: features that are not finite or of another length, or a limit below 2.

    Examples:
        >>> silhouette([[0.0], [0.1], [9.0], [9.1]], [[0, 0, 1, 1], [0, 1, 0, 1]]).round(2)
        array([ 0.99, -0.49])
    """
    array = as_features(features)
    ids = _partitions(labels, len(array))
    if limit < 2:
        raise InputError(f"limit must be at least 2 images, not {limit}.")
    if len(array) > limit:
        sample = np.sort(np.random.default_rng(seed).choice(len(array), limit, replace=False))
        array, ids = array[sample], ids[:, sample]
    distances = _distances(array)
    shape = np.shape(labels)[:-1]
    return np.array([_silhouette(distances, partition) for partition in ids]).reshape(shape)


def entropy(labels: ArrayLike, k: int) -> float:
    """Evenness of the cluster sizes: their entropy divided by ``log k``, 0..1.

    1 where all clusters have the same size, 0 where all images are in the same cluster. A high value is no merit in
    itself where classes differ in size; a fall says that clusters empty into others. Noise is left out.

    Args:
        labels: integers ``(N,)``, cluster ids from 0, -1 for noise.
        k: the number of clusters there are, empty ones included.

    Returns:
        NaN for ``k = 1`` and where all is noise.

    Raises:
        InputError: ids that are not below ``k``.

    Examples:
        >>> entropy([0, 0, 1, 1], k=2), round(entropy([0, 0, 0, 1], k=2), 2)
        (1.0, 0.81)
    """
    sizes = _sizes(labels, k)
    if k == 1 or not sizes.any():
        return float("nan")
    shares = sizes[sizes > 0] / sizes.sum()
    return max(-float(shares @ np.log(shares)) / float(np.log(k)), 0.0)


def collapsed(labels: ArrayLike, k: int, share: float = COLLAPSED_SHARE) -> int:
    """How many of ``k`` clusters hold fewer than ``share * N / k`` images: a tenth of an equal share, unless told.

    Args:
        labels: integers ``(N,)``, cluster ids from 0, -1 for noise, which counts in N.
        k: the number of clusters there are, empty ones included.
        share: of an equal share, 0..1.

    Raises:
        InputError: ids that are not below ``k``, or a share outside 0..1.

    Examples:
        >>> collapsed([0, 0, 0, 0], k=2)
        1
    """
    if not 0 <= share <= 1:
        raise InputError(f"share must lie between 0 and 1, not {share}.")
    return int((_sizes(labels, k) < share * np.size(labels) / k).sum())


def drift(centers: ArrayLike, features: ArrayLike, labels: ArrayLike) -> float:
    """How far the clusters' centres have moved, in units of how far the clean centres lie apart.

    The distance from each clean centre to the mean of the features that are now in its cluster, averaged over images,
    divided by the root mean square distance of the clean centres from their own mean. Clusters keep their ids (frozen
    protocol); noise and empty clusters do not count.

    Args:
        centers: float ``(k, D)``, of the clean clusters, at least 2.
        features: float ``(N, D)``, shifted.
        labels: integers ``(N,)``, the cluster of each shifted image, -1 for noise.

    Returns:
        0 or more; NaN where all clean centres are equal or all images are noise.

    Raises:
        InputError: shapes or ids that do not fit, or values that are not finite.

    Examples:
        >>> drift(centers=[[0.0], [2.0]], features=[[1.0], [3.0]], labels=[0, 1])
        1.0
    """
    before, array = as_features(centers, "centers"), as_features(features)
    [ids] = _partitions(labels, len(array))
    if array.shape[1] != before.shape[1]:
        raise InputError(f"centers have {before.shape[1]} dimensions, features {array.shape[1]}.")
    sizes = _sizes(ids, len(before))
    spread = np.sqrt(np.square(before - before.mean(axis=0, dtype=np.float64)).sum(axis=1).mean())
    if not sizes.any() or spread == 0:
        return float("nan")
    members = sizes > 0
    after = (_one_hot(ids, len(before)).T @ array)[members] / sizes[members, None]
    distances = np.linalg.norm(after - before[members], axis=1)
    return float(distances @ sizes[members] / sizes.sum() / spread)


class FrechetReference:
    """Clean features, prepared once for the Fréchet distances of other features to them.

    Both sets are taken as normal distributions on the leading principal axes of the clean features (all axes where
    there are no more than ``axes``; else by a seeded randomised decomposition, Halko et al. 2011). The squared
    2-Wasserstein distance of the two (Dowson & Landau 1982; Heusel et al. 2017, equation 6) is divided by the clean
    variance on these axes, so that it does not depend on the scale of an encoder's features: at 1 the features have
    moved by as much as the clean features vary.

    Args:
        features: float ``(N, D)``, clean, at least 2 images.
        axes: the number of axes, at most.

    Raises:
        InputError: features that are not finite, or fewer than 2.

    Examples:
        >>> clean = FrechetReference([[0.0], [1.0], [2.0]])
        >>> round(clean.distance([[1.0], [2.0], [3.0]]), 2)
        1.0
    """

    def __init__(self, features: ArrayLike, axes: int = 128) -> None:
        array = as_features(features)
        if len(array) < 2:
            raise InputError("a distribution needs at least 2 images.")
        self._axes = _leading_axes(array, axes) if array.shape[1] > axes else None
        self.mean, covariance = self._moments(array)
        values, vectors = np.linalg.eigh(covariance)
        self._root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
        self.variance = float(np.trace(covariance))

    def distance(self, features: ArrayLike) -> float:
        """The distance of other features, float ``(M, D)``, at least 2: 0 or more.

        NaN where the clean features do not vary.

        Raises:
            InputError: features of another dimension, not finite, or fewer than 2.
        """
        array = as_features(features)
        dimensions = len(self.mean) if self._axes is None else len(self._axes)
        if len(array) < 2 or array.shape[1] != dimensions:
            raise InputError(f"features must be at least 2 of {dimensions} dimensions, not of shape {array.shape}.")
        if self.variance == 0:
            return float("nan")
        mean, covariance = self._moments(array)
        shared = np.linalg.eigvalsh(self._root @ covariance @ self._root)
        variances = self.variance + np.trace(covariance) - 2 * np.sqrt(np.maximum(shared, 0)).sum()
        return float(max(np.square(mean - self.mean).sum() + variances, 0.0) / self.variance)

    __call__ = distance

    def _moments(self, array: NDArray[np.float32]) -> tuple[Values, Values]:
        """Mean and covariance (ddof 1) on the axes, summed in float64 chunk by chunk."""
        origin = array[0].astype(np.float64)  # near the mean: squares of far values would cancel
        size = array.shape[1] if self._axes is None else self._axes.shape[1]
        total, squares = np.zeros(size), np.zeros((size, size))
        for start in range(0, len(array), _CHUNK):
            chunk = array[start : start + _CHUNK] - origin
            chunk = chunk if self._axes is None else chunk @ self._axes
            total += chunk.sum(axis=0)
            squares += chunk.T @ chunk
        mean = total / len(array)
        covariance = (squares - len(array) * np.outer(mean, mean)) / (len(array) - 1)
        return mean + (origin if self._axes is None else origin @ self._axes), covariance


def as_features(features: ArrayLike, name: str = "features") -> NDArray[np.float32]:
    """Check features: float32 ``(N, D)``.

    Raises:
        InputError: no matrix of numbers, an empty one, or values that are not finite.

    Examples:
        >>> as_features([[1, 2]])
        array([[1., 2.]], dtype=float32)
    """
    array = np.asarray(features)
    if array.ndim != 2 or array.size == 0 or array.dtype.kind not in "fiu":
        raise InputError(f"{name} must be a matrix of numbers (N, D), not {array.dtype} of shape {array.shape}.")
    array = array.astype(np.float32, copy=False)
    # A sum is finite where all terms are, unless it overflows: then look at each term.
    if not np.isfinite(array.sum(dtype=np.float64)):
        bad = int((~np.isfinite(array).all(axis=1)).sum())
        if bad:
            raise InputError(f"{name} must be finite; {bad} of {len(array)} rows are not.")
    return array


def _partitions(labels: ArrayLike, n: int) -> Ids:
    """int64 (partitions, n)."""
    ids = as_ids(
        np.asarray(labels).reshape(-1, np.shape(labels)[-1] if np.ndim(labels) else 1), "labels", 2, noise=True
    )
    if ids.shape[1] != n:
        raise InputError(f"labels and features must describe the same images, not {ids.shape[1]} and {n}.")
    return ids


def _sizes(labels: ArrayLike, k: int) -> Ids:
    ids = as_ids(labels, "labels", 1, noise=True)
    if ids.max() >= k:
        raise InputError(f"labels go up to {ids.max()}, but there are only k={k} clusters.")
    return np.bincount(ids[ids >= 0], minlength=k)


def _one_hot(ids: Ids, k: int) -> NDArray[np.float32]:
    """float32 (N, k); a row of zeros for noise."""
    members: NDArray[np.float32] = (ids[:, None] == np.arange(k)).astype(np.float32)
    return members


def _distances(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 (N, N), Euclidean. Around their mean, squares are no larger than need be."""
    centred = array - array.mean(axis=0, dtype=np.float64).astype(np.float32)
    squares = np.einsum("nd,nd->n", centred, centred)
    distances: NDArray[np.float32] = centred @ centred.T
    distances *= -2
    distances += squares[:, None]
    distances += squares
    np.sqrt(np.maximum(distances, 0, out=distances), out=distances)
    np.fill_diagonal(distances, 0)
    return distances


def _silhouette(distances: NDArray[np.float32], ids: Ids) -> float:
    known = ids >= 0
    clusters, own = np.unique(ids[known], return_inverse=True)
    if not 2 <= len(clusters) < known.sum():
        return float("nan")
    if not known.all():
        distances = distances[np.ix_(known, known)]
    sizes = np.bincount(own)
    sums = distances @ _one_hot(own, len(clusters))
    here = np.arange(len(own))
    within = sums[here, own] / np.maximum(sizes[own] - 1, 1)
    means = sums / sizes
    means[here, own] = np.inf
    between = means.min(axis=1)
    largest = np.maximum(within, between)
    alone = (sizes[own] == 1) | (largest == 0)
    return float(np.where(alone, 0, (between - within) / np.where(alone, 1, largest)).mean(dtype=np.float64))


def _leading_axes(array: NDArray[np.float32], axes: int) -> Values:
    """float64 (D, axes), orthonormal."""
    from sklearn.utils.extmath import randomized_svd

    centred = array - array.mean(axis=0)
    count = min(axes, *centred.shape)
    _, _, rows = randomized_svd(centred, count, n_oversamples=_SPARE, n_iter=2, random_state=0)
    return np.ascontiguousarray(rows.T, dtype=np.float64)
