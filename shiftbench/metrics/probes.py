"""Classifiers of features with labels, called probes: how much of a drop is the features', how much the clusters' own.

Both probes are fitted on clean features and applied to shifted features. Where the probes keep their accuracy and the
clusters do not, the features still tell the classes apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeClassifierCV
from sklearn.utils.extmath import randomized_svd

from shiftbench.errors import InputError
from shiftbench.metrics.counts import Ids, as_ids
from shiftbench.metrics.internal import as_features

LIMIT = 10_000
"""The most images that a probe is fitted on; of more, a seeded sample."""

Matrix = NDArray[np.float32]
_BLOCK = 1000  # images classified at once


class KnnProbe:
    """The most frequent class among the k nearest neighbours by cosine; of equally frequent classes, the first.

    Args:
        k: number of neighbours.
        dimensions: longer features, such as raw pixels, are projected on this many leading singular directions of the
            fitted features before they are compared.
        limit: the most images kept for comparison.
        seed: of the sample.

    Examples:
        >>> probe = KnnProbe(k=1).fit([[1.0, 0.0], [0.0, 1.0]], [0, 1])
        >>> probe.predict([[2.0, 0.1]])
        array([0])
    """

    def __init__(self, k: int = 20, dimensions: int = 256, limit: int = LIMIT, seed: int = 0) -> None:
        self.k, self.dimensions, self.limit, self.seed = k, dimensions, limit, seed

    def fit(self, features: ArrayLike, labels: ArrayLike) -> KnnProbe:
        """Keep float ``(N, D)`` features and their classes, integers ``(N,)`` from 0.

        Raises:
            InputError: not as many features as classes, or features that are not finite.
        """
        array, self._classes = _sample(features, labels, self.limit, self.seed)
        self._width, self._turn = array.shape[1], None
        unit = _unit(array)
        if min(unit.shape) > self.dimensions:
            self._turn = np.ascontiguousarray(
                randomized_svd(unit, self.dimensions, n_iter=2, random_state=self.seed)[2].T
            )
        self._reference = self._directions(unit)
        return self

    def _directions(self, unit: Matrix) -> Matrix:
        return unit if self._turn is None else _unit(unit @ self._turn)

    def predict(self, features: ArrayLike) -> Ids:
        """int64 ``(M,)``, the class of each row of float ``(M, D)``.

        Raises:
            InputError: features of another dimension, or not finite.
        """
        array = _fitting(features, self._width)
        k, n_classes = min(self.k, len(self._classes)), int(self._classes.max()) + 1
        classes = np.empty(len(array), np.int64)
        for start in range(0, len(array), _BLOCK):
            cosines = self._directions(_unit(array[start : start + _BLOCK])) @ self._reference.T
            _vote(cosines, self._classes, k, n_classes, classes[start : start + _BLOCK])
        return classes


class LinearProbe:
    """Ridge regression of centred features onto the classes (scikit-learn), deterministic.

    Dimensions are not standardised each by itself: a pixel that is nearly constant on clean images would get so large a
    weight that a small shift of this pixel drowns all others.

    Args:
        penalties: of the squared weights, where a dimension has variance 1 on average; the penalty with the least
            leave-one-out error on the clean images is taken.
        dimensions: longer features are first reduced to this many principal components.
        limit: the most images that it is fitted on.
        seed: of the sample and of the components.

    Examples:
        >>> probe = LinearProbe().fit([[0.0], [0.1], [0.9], [1.0]], [0, 0, 1, 1])
        >>> probe.predict([[0.2], [0.8]])
        array([0, 1])
    """

    def __init__(
        self,
        penalties: Sequence[float] = (1.0, 10.0, 100.0, 1000.0),
        dimensions: int = 512,
        limit: int = LIMIT,
        seed: int = 0,
    ) -> None:
        self.penalties, self.dimensions, self.limit, self.seed = tuple(penalties), dimensions, limit, seed

    def fit(self, features: ArrayLike, labels: ArrayLike) -> LinearProbe:
        """Fit to float ``(N, D)`` features and their classes, integers ``(N,)`` from 0.

        Raises:
            InputError: not as many features as classes, features that are not finite, or a single class.
        """
        array, classes = _sample(features, labels, self.limit, self.seed)
        if len(np.unique(classes)) < 2:
            raise InputError("a linear probe needs at least 2 classes.")
        mean = array.mean(axis=0, dtype=np.float64)
        scale = float(np.sqrt(array.var(axis=0, dtype=np.float64).mean())) or 1.0  # constant features stay 0
        inputs = ((array - mean) / scale).astype(np.float32)
        turn = np.eye(array.shape[1])
        if min(inputs.shape) > self.dimensions:
            pca = PCA(self.dimensions, svd_solver="randomized", iterated_power=2, random_state=self.seed).fit(inputs)
            turn = pca.components_.T
            inputs = inputs @ turn
        ridge = RidgeClassifierCV(self.penalties).fit(inputs.astype(np.float64), classes)
        # A single matrix from raw features to decisions.
        self._weights = (turn @ np.atleast_2d(ridge.coef_).T) / scale
        self._offset = ridge.intercept_ - mean @ self._weights
        self._classes = ridge.classes_
        return self

    def predict(self, features: ArrayLike) -> Ids:
        """int64 ``(M,)``, the class of each row of float ``(M, D)``.

        Raises:
            InputError: features of another dimension, or not finite.
        """
        array = _fitting(features, len(self._weights))
        classes = np.empty(len(array), np.int64)
        for start in range(0, len(array), _BLOCK):
            decisions = array[start : start + _BLOCK] @ self._weights + self._offset
            best = decisions.argmax(axis=1) if decisions.shape[1] > 1 else (decisions[:, 0] > 0).astype(np.int64)
            classes[start : start + _BLOCK] = self._classes[best]
        return classes


PROBES = {"knn": KnnProbe, "linear": LinearProbe}


def _sample(features: ArrayLike, labels: ArrayLike, limit: int, seed: int) -> tuple[Matrix, Ids]:
    classes = as_ids(labels, "labels", 1)
    array = np.asarray(features)
    if len(array) != len(classes):
        raise InputError(f"labels and features must describe the same images, not {len(classes)} and {len(array)}.")
    if len(array) > limit:
        rows = np.sort(np.random.default_rng(seed).choice(len(array), limit, replace=False))
        array, classes = array[rows], classes[rows]
    return as_features(array), classes


def _fitting(features: ArrayLike, dimensions: int) -> Matrix:
    array = as_features(features)
    if array.shape[1] != dimensions:
        raise InputError(f"the probe was fitted on {dimensions} dimensions; these features have {array.shape[1]}.")
    return array


def _unit(array: Matrix) -> Matrix:
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    unit: Matrix = array / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit


@njit(nogil=True, cache=True)
def _vote(cosines: Matrix, classes: Ids, k: int, n_classes: int, voted: Ids) -> None:
    """The most frequent class among the k largest cosines of each row; of equal cosines, the first are taken."""
    nearest, neighbours = np.empty(k, np.float32), np.empty(k, np.int64)
    votes = np.empty(n_classes, np.int64)
    for row in range(len(cosines)):
        nearest[:] = -np.inf  # descending
        for j in range(cosines.shape[1]):
            cosine = cosines[row, j]
            if cosine > nearest[k - 1]:
                place = k - 1
                while place > 0 and cosine > nearest[place - 1]:
                    nearest[place], neighbours[place] = nearest[place - 1], neighbours[place - 1]
                    place -= 1
                nearest[place], neighbours[place] = cosine, j
        votes[:] = 0
        for place in range(k):
            votes[classes[neighbours[place]]] += 1
        voted[row] = np.argmax(votes)
