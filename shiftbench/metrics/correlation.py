"""Rank correlations and how sure they are, when what is resampled comes in groups."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from shiftbench.errors import InputError
from shiftbench.metrics.external import Ids, Values, as_ids
from shiftbench.metrics.resample import CONDITIONS, draw_weights


class RankCorrelations:
    """Spearman's rho and Kendall's tau-b between variables of the same points, under resamples of groups of points.

    A resample counts each point as often as its group is drawn. Neither coefficient needs the points repeated: ranks
    follow from sums of weights in the order of the values, concordant pairs from a quadratic form in the weights of the
    groups.

    Args:
        variables: float ``(V, P)``, finite.
        groups: integers ``(P,)``, the group of each point, from 0; each point its own where there are no groups.
        resamples: B.
        seed: of the draws.

    Raises:
        InputError: values that are not finite, or another number of groups.
    """

    def __init__(self, variables: ArrayLike, groups: ArrayLike, resamples: int, seed: int = 0) -> None:
        self._values = np.atleast_2d(np.asarray(variables, dtype=np.float64))
        self._groups = as_ids(groups, "groups", 1)
        if not np.isfinite(self._values).all() or self._values.shape[1] != len(self._groups):
            raise InputError(f"{self._values.shape} finite values are needed for {len(self._groups)} points.")
        count = int(self._groups.max()) + 1
        drawn = draw_weights(count, resamples, seed, CONDITIONS)
        self._weights = np.column_stack([np.ones(count), drawn])
        self._ranks = [self._centred_ranks(one) for one in self._values]
        self._untied = [self._pairs(one, one) for one in self._values]

    def spearman(self, first: int, second: int) -> Values:
        """float64 ``(1 + B,)``: the plain coefficient of two variables, then its resamples; NaN where one is constant."""
        weights = self._weights[self._groups]
        a, b = self._ranks[first], self._ranks[second]
        return _quotient((weights * a * b).sum(axis=0), (weights * a * a).sum(axis=0) * (weights * b * b).sum(axis=0))

    def kendall(self, first: int, second: int) -> Values:
        """float64 ``(1 + B,)``: as :meth:`spearman`, for Kendall's tau-b."""
        return _quotient(
            self._pairs(self._values[first], self._values[second]), self._untied[first] * self._untied[second]
        )

    def _centred_ranks(self, values: Values) -> Values:
        """float64 (P, 1 + B): mean ranks of the resampled points, less their mean."""
        _, tie = np.unique(values, return_inverse=True)
        weights = self._weights[self._groups]
        order = np.argsort(tie, kind="stable")
        starts = np.flatnonzero(np.diff(tie[order], prepend=-1))
        totals = np.add.reduceat(weights[order], starts, axis=0)
        ranks = (np.cumsum(totals, axis=0) - totals / 2)[tie]
        return ranks - (ranks * weights).sum(axis=0) / weights.sum(axis=0)

    def _pairs(self, first: Values, second: Values) -> Values:
        """float64 (1 + B,): concordant less discordant pairs of resampled points."""
        between = _concordance(first, second, self._groups, len(self._weights))
        return ((between @ self._weights) * self._weights).sum(axis=0)


def _quotient(products: Values, squares: Values) -> Values:
    defined = squares > 0
    return np.where(defined, products, np.nan) / np.sqrt(np.where(defined, squares, 1))


@njit(nogil=True, cache=True)
def _concordance(first: Values, second: Values, groups: Ids, count: int) -> NDArray[np.float64]:
    """float64 (groups, groups): concordant less discordant pairs of points of two groups."""
    found = np.zeros((count, count))
    for i in range(len(first)):
        for j in range(i):
            sign = np.sign(first[i] - first[j]) * np.sign(second[i] - second[j])
            found[groups[i], groups[j]] += sign
            found[groups[j], groups[i]] += sign
    return found
