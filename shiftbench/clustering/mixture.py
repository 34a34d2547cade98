"""Gaussian mixture, fitted by expectation-maximisation from a k-means start (scikit-learn)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Mixture

from shiftbench.clustering.library import Ids, LibraryClusterer, Matrix, Rule
from shiftbench.errors import unknown

_COVARIANCES = ("diag", "spherical", "tied", "full")


@dataclass(frozen=True)
class GaussianMixture(LibraryClusterer):
    """A mixture of k normal distributions; an image belongs to its most probable component.

    Attributes:
        covariance: "diag", "spherical", "tied" or "full". A full covariance has D (D + 1) / 2 numbers per component,
            too many to be estimated from a few hundred images per cluster when D is 512.
        max_iter: the most EM iterations; a fit that needs more says so in its note.
        floor: added to each variance, in units of the features' overall variance.

    Examples:
        >>> features = [[0.0], [0.2], [9.0], [9.2]]
        >>> labels = GaussianMixture().fit(features, k=2, seed=0).labels
        >>> bool(labels[0] == labels[1] != labels[2] == labels[3])
        True
    """

    covariance: str = "diag"
    max_iter: int = 200
    floor: float = 1e-4

    limit = 20_000

    def __post_init__(self) -> None:
        if self.covariance not in _COVARIANCES:
            raise unknown("covariance", self.covariance, _COVARIANCES)

    def _fit(self, points: Matrix, k: int, seed: int) -> tuple[Ids, Rule, str]:
        mixture = Mixture(
            k, covariance_type=self.covariance, max_iter=self.max_iter, reg_covar=self.floor, random_state=seed
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it goes into the note
            labels = mixture.fit_predict(points.astype(np.float64))
        used, ids = np.unique(labels, return_inverse=True)

        def most_probable(others: Matrix) -> Ids:
            labels: Ids = mixture.predict_proba(others.astype(np.float64))[:, used].argmax(axis=1)
            return labels

        remark = "" if mixture.converged_ else f"EM stopped unfinished after {self.max_iter} iterations"
        return ids, most_probable, remark
