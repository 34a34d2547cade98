"""What the algorithms taken from scikit-learn and SciPy have in common.

They are fitted to features that are centred and divided by the standard deviation of all values, a single number, so
that thresholds mean the same in any units. Most need memory or time that grows with the square of N: each class has a
``limit``, above which it is fitted to a subsample drawn with the seed, and the rest is predicted.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shiftbench.clustering.base import Clusterer, as_features, check_dimensions, check_k, check_seed
from shiftbench.errors import InputError
from shiftbench.runtime.parallel import single_threaded

Matrix = NDArray[np.float32]
Ids = NDArray[np.int64]
Rule = Callable[[Matrix], Ids]
"""Assigns standardised features (M, D): int64 (M,)."""

_CHUNK = 2048  # images assigned at once
_OWN = "its own rule"


@dataclass(frozen=True, eq=False)
class LibraryPartition:
    """A partition made by a library's algorithm.

    Attributes:
        labels: int64 ``(N,)``, ids ``0 .. k'-1``, -1 for noise.
        centers: float32 ``(k', D)``, cluster means.
        inertia: sum of squared distances to the own cluster's mean, noise left out.
        note: the subsample, how further images are assigned, noise, an unfinished fit; in words.
        standard: how features were brought to the scale of ``rule``.
        rule: assigns such standardised features.

    Examples:
        >>> from shiftbench.clustering.hierarchical import Ward
        >>> Ward().fit([[0.0], [0.2], [9.0], [9.2]], k=2, seed=0).note
        'further images by nearest centroid'
    """

    labels: Ids
    centers: Matrix
    inertia: float
    note: str
    standard: Standard
    rule: Rule

    def predict(self, features: ArrayLike) -> Ids:
        """Assign features ``(M, D)``: int64 ``(M,)``.

        Raises:
            InputError: features that are unfit (see ``as_features``) or of another D than the fitted features.
        """
        points = as_features(features)
        check_dimensions(points, len(self.standard.mean))
        return _assign(points, self.standard, self.rule)


@dataclass(frozen=True, eq=False)
class Standard:
    """Centring and scaling by a single number: float32 ``mean`` (D,), and the standard deviation of all values.

    Examples:
        >>> standard = Standard.of(np.array([[0.0], [2.0]], np.float32))
        >>> standard(np.array([[3.0]], np.float32))
        array([[2.]], dtype=float32)
    """

    mean: Matrix
    scale: np.float32

    @classmethod
    def of(cls, points: Matrix) -> Standard:
        """That of points (N, D); the scale of points that are all equal is 1."""
        mean = points.mean(axis=0, dtype=np.float64).astype(np.float32)
        return cls(mean, np.float32((points - mean).std(dtype=np.float64)) or np.float32(1))

    def __call__(self, points: Matrix) -> Matrix:
        """Bring points (N, D) to this scale."""
        return (points - self.mean) / self.scale


class LibraryClusterer(Clusterer):
    """Base of the library's algorithms: a subclass makes a partition of standardised features in ``_fit``.

    Attributes:
        assigns: how images are assigned that were not fitted, in words.

    Examples:
        >>> class Halves(LibraryClusterer):
        ...     def _fit(self, points, k, seed):
        ...         rule = lambda others: (others[:, 0] > 0).astype(np.int64)
        ...         return rule(points), rule, ""
        >>> Halves().fit([[1.0], [2.0], [5.0]], k=2, seed=0).labels
        array([0, 0, 1])
    """

    assigns: ClassVar[str] = _OWN

    def fit(self, features: ArrayLike, k: int, seed: int) -> LibraryPartition:
        """Cluster features ``(N, D)`` into k clusters, or fewer where fewer images differ.

        Raises:
            InputError: unfit features (see ``as_features``), k outside ``1 .. N`` or above ``limit``, a bad seed.
        """
        points = as_features(features)
        check_k(k, len(points))
        check_seed(seed)
        chosen = self._subsample(len(points), k, seed)
        fitted = points if chosen is None else points[chosen]
        standard = Standard.of(fitted)
        with single_threaded():
            labels, rule, remark = self._partition(standard(fitted), k, seed)
            if chosen is not None:
                fitted_labels, labels = labels, _assign(points, standard, rule)
                labels[chosen] = fitted_labels
        notes = [self._note(len(fitted), len(points)), remark]
        return LibraryPartition(labels, *_means(points, labels), "; ".join(filter(None, notes)), standard, rule)

    def fit_seeds(self, features: ArrayLike, k: int, seeds: Sequence[int]) -> list[LibraryPartition]:
        """Fit once per seed, and only once where the seed changes nothing."""
        points = as_features(features)
        for seed in seeds:
            check_seed(seed)
        if self.seeded or (self.limit is not None and len(points) > self.limit):
            return [self.fit(points, k, seed) for seed in seeds]
        return [self.fit(points, k, 0)] * len(seeds) if seeds else []

    def _subsample(self, n: int, k: int, seed: int) -> Ids | None:
        """Which images to fit to, sorted; None for all."""
        if self.limit is None or n <= self.limit:
            return None
        if k > self.limit:
            raise InputError(
                f"{type(self).__name__} is fitted to at most {self.limit:,} of the {n:,} images, which cannot make "
                f"{k:,} clusters: lower k, or take kmeans, which has no limit."
            )
        return np.sort(np.random.default_rng(seed).choice(n, self.limit, replace=False))

    def _note(self, fitted: int, n: int) -> str:
        if fitted < n:
            return f"fitted to {fitted:,} of {n:,} images, drawn with the seed; the rest by {self.assigns}"
        return "" if self.assigns == _OWN else f"further images by {self.assigns}"

    def _partition(self, points: Matrix, k: int, seed: int) -> tuple[Ids, Rule, str]:
        """The partition of the fitted images; without the algorithm where k is 1 or no more than k rows are distinct."""
        if k == 1:
            return np.zeros(len(points), np.int64), nearest_row(points[:1], np.zeros(1, np.int64)), ""
        if len(np.unique(points[: 4 * k], axis=0)) <= k:  # else spare the sorting of all
            distinct, labels = np.unique(points, axis=0, return_inverse=True)
            if len(distinct) <= k:
                return labels.reshape(-1).astype(np.int64), nearest_row(distinct, np.arange(len(distinct))), ""
        return self._fit(points, k, seed)

    @abstractmethod
    def _fit(self, points: Matrix, k: int, seed: int) -> tuple[Ids, Rule, str]:
        """Cluster standardised points with more than k distinct rows, k >= 2.

        Returns:
            Their ids int64 (N,), the rule for further images, and a remark for the note or "".
        """


def nearest_centroid(points: Matrix, labels: Ids) -> Rule:
    """The rule that assigns an image to the cluster with the nearest mean.

    Examples:
        >>> rule = nearest_centroid(np.array([[0.0], [2.0], [9.0]], np.float32), np.array([0, 0, 1]))
        >>> rule(np.array([[3.0], [7.0]], np.float32))
        array([0, 1])
    """
    centers, _ = _means(points, labels)
    return nearest_row(centers, np.arange(len(centers)))


def nearest_row(rows: Matrix, ids: Ids) -> Rule:
    """The rule that gives an image the id of the nearest of these rows, the first on a tie.

    With the fitted images as rows and their labels as ids, this is the nearest neighbour's label.

    Examples:
        >>> rule = nearest_row(np.array([[0.0], [9.0]], np.float32), np.array([5, 7]))
        >>> rule(np.array([[1.0], [8.0]], np.float32))
        array([5, 7])
    """
    half_norms = np.einsum("nd,nd->n", rows, rows) / 2
    return lambda points: ids[(points @ rows.T - half_norms).argmax(axis=1)]


def label_by_rows(points: Matrix, rows: Matrix, ids: Ids) -> tuple[Ids, Rule]:
    """Label points by :func:`nearest_row`, leave out the ids that no point gets, and number the others from 0.

    Returns:
        int64 (N,), and the rule for further images.

    Examples:
        >>> points, rows = np.array([[0.0], [9.0]], np.float32), np.array([[0.0], [5.0], [9.0]], np.float32)
        >>> label_by_rows(points, rows, np.array([0, 1, 2]))[0]
        array([0, 1])
    """
    labels = nearest_row(rows, ids)(points)
    kept = np.isin(ids, labels)
    used, renumbered = np.unique(ids[kept], return_inverse=True)
    return np.searchsorted(used, labels), nearest_row(rows[kept], renumbered)


def _assign(points: Matrix, standard: Standard, rule: Rule) -> Ids:
    """Apply the rule to features (N, D), some at a time: int64 (N,)."""
    chunks = (points[first : first + _CHUNK] for first in range(0, len(points), _CHUNK))
    return np.concatenate([rule(standard(chunk)) for chunk in chunks]).astype(np.int64)


def _means(points: Matrix, labels: Ids) -> tuple[Matrix, float]:
    """Cluster means float32 (k', D) and the sum of squared distances to the means; -1 is left out."""
    centers, inertia = np.empty((labels.max() + 1, points.shape[1]), np.float32), 0.0
    for cluster in range(len(centers)):
        members = points[labels == cluster]
        centers[cluster] = members.mean(axis=0, dtype=np.float64)
        inertia += float(np.square(members - centers[cluster]).sum(dtype=np.float64))
    return centers, inertia
