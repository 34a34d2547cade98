"""Rank correlations under resamples of groups of points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from shiftbench.errors import InputError
from shiftbench.metrics.counts import Ids, Values, as_ids
from shiftbench.results.resample import CONDITIONS, resample_weights

_NUMBERS = 2**22  # ranks that are held at once: 32 MiB
Places = NDArray[np.float32]  # whole, and so few that their differences are exact


class RankCorrelations:
    """Spearman's rho and Kendall's tau-b between variables of the same points, under resamples of groups of points.

    A resample counts each point as often as its group is drawn. Neither coefficient needs the points repeated: ranks
    follow from sums of weights in the order of the values, concordant pairs from a quadratic form in the weights of the
    groups.

    Args:
        variables: float ``(V, P)``, finite.
        groups: integers ``(P,)``, the group of each point, from 0; each point its own where there are no groups.
        resamples: B.
        seed: of the resamples.

    Raises:
        InputError: values that are not finite, or another number of groups.
    """

    def __init__(self, variables: ArrayLike, groups: ArrayLike, resamples: int, seed: int = 0) -> None:
        self._values = np.atleast_2d(np.asarray(variables, dtype=np.float64))
        self._groups = as_ids(groups, "groups", 1)
        if not np.isfinite(self._values).all() or self._values.shape[1] != len(self._groups):
            raise InputError(f"{self._values.shape} finite values are needed for {len(self._groups)} points.")
        count = int(self._groups.max()) + 1
        resampled = resample_weights(count, resamples, seed, CONDITIONS)
        self._weights = np.column_stack([np.ones(count), resampled])
        order = np.argsort(self._groups, kind="stable")
        self._starts = np.searchsorted(self._groups[order], np.arange(count + 1))
        ties = np.array([np.unique(values, return_inverse=True)[1] for values in self._values])
        tied = [self._tied(places) for places in ties]
        self._products = self._products_of_ranks(ties, tied)
        self._places = ties[:, order].astype(np.float32, order="C")
        pairs = np.outer(*2 * [np.diff(self._starts)])
        self._untied = self._quadratic(np.array([pairs - counts.T @ counts for counts in tied]))

    def spearman(self, first: int, second: int) -> Values:
        """float64 ``(1 + B,)``: the plain coefficient of two variables, then its resamples; NaN where a variable is constant."""
        squares = self._products[first, first] * self._products[second, second]
        return _quotient(self._products[first, second], squares)

    def kendall(self, first: int, second: int) -> Values:
        """float64 ``(1 + B,)``: as :meth:`spearman`, for Kendall's tau-b."""
        between = _concordance(self._places[first], self._places[second], self._starts)
        return _quotient(self._quadratic(between), self._untied[first] * self._untied[second])

    def _tied(self, ties: Ids) -> Values:
        """float64 (T, groups): how many points of each group have each of T values."""
        groups = len(self._weights)
        cells = np.bincount(ties * groups + self._groups, minlength=(int(ties.max()) + 1) * groups)
        return cells.reshape(-1, groups).astype(np.float64)

    def _products_of_ranks(self, ties: Ids, tied: Sequence[Values]) -> Values:
        """float64 (V, V, 1 + B): inner products of mean ranks of the resampled points, less their mean.

        The mean of ranks is half the number of points. To count a point by its weight, its ranks are multiplied by the
        root of it.
        """
        centred = [np.cumsum(counts, axis=0) - (counts + counts.sum(axis=0)) / 2 for counts in tied]
        points = np.array([values[places] for values, places in zip(centred, ties, strict=True)])  # (V, P, groups)
        products = np.empty((len(ties), len(ties), self._weights.shape[1]))
        block = max(1, _NUMBERS // ties.size)
        for start in range(0, products.shape[2], block):
            weights = self._weights[:, start : start + block]
            ranks = points @ weights * np.sqrt(weights)[self._groups]
            for last, row in enumerate(ranks):
                inner = np.einsum("vpb,pb->vb", ranks[: last + 1], row)
                products[last, : last + 1, start : start + block] = inner
                products[: last + 1, last, start : start + block] = inner
        return products

    def _quadratic(self, between: Values) -> Values:
        """float64 (..., 1 + B): a quantity (..., groups, groups) summed over all pairs of resampled points."""
        summed: Values = ((between @ self._weights) * self._weights).sum(axis=-2)
        return summed


def _quotient(products: Values, squares: Values) -> Values:
    defined = squares > 0
    return np.where(defined, products, np.nan) / np.sqrt(np.where(defined, squares, 1))


@njit(nogil=True, cache=True)
def _concordance(first: Places, second: Places, starts: Ids) -> Values:
    """float64 (groups, groups): concordant less discordant pairs of points of two groups.

    Args:
        first, second: (P,), the place of each point among a variable's values; the points of a group stand together.
        starts: (groups + 1,), where each group begins, and the end.
    """
    count = len(starts) - 1
    balance = np.zeros((count, count))
    for group in range(count):
        for i in range(starts[group], starts[group + 1]):
            for other in range(group + 1):
                # Slices, which are known to begin at 0, are what the compiler makes vector instructions of.
                x, y = first[starts[other] : starts[other + 1]], second[starts[other] : starts[other + 1]]
                total = np.int32(0)
                for j in range(len(x)):
                    product = (first[i] - x[j]) * (second[i] - y[j])
                    total = np.int32(total + np.int32(product > 0) - np.int32(product < 0))
                balance[group, other] += total
        balance[:group, group] = balance[group, :group]
    return balance
