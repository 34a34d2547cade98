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
        self._weighted = [self._weights[self._groups] * one for one in self._ranks]
        self._squares = [_products(*one) for one in zip(self._weighted, self._ranks, strict=True)]
        order = np.argsort(self._groups, kind="stable")
        self._starts = np.searchsorted(self._groups[order], np.arange(count + 1))
        self._places = [np.unique(one, return_inverse=True)[1][order].astype(np.int32) for one in self._values]
        self._untied = [self._pairs(one, one) for one in range(len(self._values))]

    def spearman(self, first: int, second: int) -> Values:
        """float64 ``(1 + B,)``: the plain coefficient of two variables, then its resamples; NaN where one is constant."""
        products = _products(self._weighted[first], self._ranks[second])
        return _quotient(products, self._squares[first] * self._squares[second])

    def kendall(self, first: int, second: int) -> Values:
        """float64 ``(1 + B,)``: as :meth:`spearman`, for Kendall's tau-b."""
        return _quotient(self._pairs(first, second), self._untied[first] * self._untied[second])

    def _centred_ranks(self, values: Values) -> Values:
        """float64 (P, 1 + B): mean ranks of the resampled points, less their mean."""
        _, tie = np.unique(values, return_inverse=True)
        order = np.argsort(tie, kind="stable")
        member = self._groups[order, None] == np.arange(len(self._weights))
        tied = np.add.reduceat(member, np.flatnonzero(np.diff(tie[order], prepend=-1)), axis=0, dtype=np.float64)
        ranks = ((np.cumsum(tied, axis=0) - tied / 2) @ self._weights)[tie]  # of each group, how many stand before
        weights = self._weights[self._groups]
        return ranks - _products(ranks, weights) / weights.sum(axis=0)

    def _pairs(self, first: int, second: int) -> Values:
        """float64 (1 + B,): concordant less discordant pairs of resampled points."""
        between = _concordance(self._places[first], self._places[second], self._starts)
        return ((between @ self._weights) * self._weights).sum(axis=0)


def _products(first: Values, second: Values) -> Values:
    """float64 (1 + B,): inner products of the columns."""
    return np.einsum("pb,pb->b", first, second)


def _quotient(products: Values, squares: Values) -> Values:
    defined = squares > 0
    return np.where(defined, products, np.nan) / np.sqrt(np.where(defined, squares, 1))


@njit(nogil=True, cache=True)
def _concordance(first: NDArray[np.int32], second: NDArray[np.int32], starts: Ids) -> Values:
    """float64 (groups, groups): concordant less discordant pairs of points of two groups.

    Args:
        first, second: (P,), the place of each point among a variable's values; the points of a group stand together.
        starts: (groups + 1,), where each group begins, and the end.
    """
    count = len(starts) - 1
    found = np.zeros((count, count))
    for group in range(count):
        for i in range(starts[group], starts[group + 1]):
            a, b = first[i], second[i]
            for other in range(group + 1):
                total = np.int32(0)
                for j in range(starts[other], starts[other + 1]):
                    total += (np.int32(a > first[j]) - np.int32(a < first[j])) * (
                        np.int32(b > second[j]) - np.int32(b < second[j])
                    )
                found[group, other] += total
        found[:group, group] = found[group, :group]
    return found
