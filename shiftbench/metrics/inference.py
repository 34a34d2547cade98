"""Intervals and tests from resamples: how sure a mean, an agreement and a difference are."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from shiftbench.errors import InputError
from shiftbench.metrics.counts import Values

_BLOCK = 500  # tests worked on at once: their resamples stay in the processor's cache
_NO_SPREAD = 1e-9  # below the rounding of float32 replicates


def bootstrap_mean(
    values: ArrayLike, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """Mean with its percentile bootstrap interval over the first axis (Efron 1979).

    Args:
        values: ``(S,)`` or ``(S, ...)``, a score for each seed (and corruption, severity, ...). Whole seeds
            are drawn, because the scores of one seed depend on each other.
        resamples: number of bootstrap samples.
        level: share of the bootstrap means inside the interval, in (0, 1).
        seed: of the resamples; equal arguments give equal bounds.

    Returns:
        The mean and the two bounds, which are NaN with a single seed.

    Raises:
        InputError: no values, or resamples or level out of range.

    Examples:
        >>> mean, low, high = bootstrap_mean([0.5, 0.6, 0.7])
        >>> round(mean, 2), low < mean < high
        (0.6, True)
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or array.size == 0:
        raise InputError(f"values must hold at least one score per seed, not shape {array.shape}.")
    means = array.reshape(len(array), -1).mean(axis=1)
    counts = _resamples(len(means), resamples, seed)
    resampled = np.einsum("rs,s->r", counts, means) / len(means)
    low, high = _interval(resampled, level) if len(means) > 1 else (np.nan, np.nan)
    return float(means.mean()), low, high


def bootstrap_agreement(
    matrix: ArrayLike, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float, float, float]:
    """Mean pairwise agreement with its spread and bootstrap interval.

    The S partitions are resampled, and not their pairs: each partition is part of S - 1 pairs, so that pairs depend on
    each other. A partition that is drawn twice is not paired with itself.

    Args:
        matrix: ``(S, S)``, symmetric, as from :func:`~shiftbench.metrics.agreement.pairwise`; its diagonal is
            ignored.
        resamples: number of bootstrap samples.
        level: share of the bootstrap means inside the interval, in (0, 1).
        seed: of the resamples; equal arguments give equal bounds.

    Returns:
        Mean over the pairs, their standard deviation (ddof 1), and the two bounds. With S = 2 there is a single
        pair, and only the mean is a number; with S = 1 all are NaN.

    Raises:
        InputError: not a square matrix, or resamples or level out of range.

    Examples:
        >>> mean, sd, low, high = bootstrap_agreement([[1, 0.5, 0.7], [0.5, 1, 0.6], [0.7, 0.6, 1]])
        >>> round(mean, 2), round(sd, 2), low < mean < high
        (0.6, 0.1, True)
    """
    array = np.asarray(matrix, dtype=np.float64)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or array.size == 0:
        raise InputError(f"an agreement matrix must be square, not of shape {array.shape}.")
    size = len(array)
    counts = _resamples(size, resamples, seed)
    pairs = array[np.triu_indices(size, 1)]
    if size < 3:
        return float(pairs[0]) if size == 2 else np.nan, np.nan, np.nan, np.nan
    counts = counts[(counts > 0).sum(axis=1) > 1]  # the same partition S times has no pair
    agreement = np.where(np.eye(size, dtype=bool), 0.0, array)
    total = ((counts @ agreement) * counts).sum(axis=1)
    low, high = _interval(total / (size**2 - np.square(counts).sum(axis=1)), level)
    return float(pairs.mean()), float(pairs.std(ddof=1)), low, high


@lru_cache(maxsize=8)
def _resamples(size: int, resamples: int, seed: int) -> Values:
    """How often each bootstrap sample draws each of ``size`` items: float64 (resamples, size)."""
    if resamples < 1:
        raise InputError(f"resamples must be at least 1, not {resamples}.")
    drawn = np.random.default_rng(seed).integers(size, size=(resamples, size))
    counts: Values = (drawn[:, :, None] == np.arange(size)).sum(axis=1).astype(np.float64)
    counts.flags.writeable = False  # every call gets this same array
    return counts


def _interval(means: Values, level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1, not {level}.")
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def holm(p: ArrayLike) -> Values:
    """P-values adjusted for the number of tests (Holm 1979): the chance of any false finding stays below the level.

    Args:
        p: ``(M,)``; NaN is no test and stays NaN.

    Returns:
        float64 ``(M,)``, 0..1.

    Examples:
        >>> holm([0.01, 0.04, np.nan]).round(2)
        array([0.02, 0.04,  nan])
    """
    raw = np.asarray(p, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(raw))
    order = known[np.argsort(raw[known], kind="stable")]
    adjusted = np.full(raw.shape, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(raw[order] * np.arange(len(order), 0, -1)), 1)
    return adjusted


def paired_tests(differences: ArrayLike) -> tuple[Values, Values]:
    """Two-sided bootstrap tests of paired differences against 0, each alone and all together.

    The resamples less the plain value show how differences vary where there is no true difference. Alone, p is the
    share of resamples that are then at least as far from 0 as the plain value. Together (Romano & Wolf 2005,
    step-down), the largest of all differences, in units of their standard errors, is compared. As with Holm, the
    chance of any false finding stays below the level. But these tests share their resamples, so they know how the
    differences depend on each other, and the least p does not grow with the number of differences, as Holm's does.

    Args:
        differences: ``(1 + B, M)``, M differences: the plain values, then B resamples. A difference without spread
            has no test.

    Returns:
        Two float64 ``(M,)``, at least ``1 / (B + 1)``: p alone, p together; NaN where there is no test.

    Examples:
        >>> resamples = np.random.default_rng(0).normal([0.0, 5.0], 1.0, size=(999, 2))
        >>> alone, together = paired_tests(np.vstack([[0.0, 5.0], resamples]))
        >>> together < 0.05
        array([False,  True])
    """
    values = np.asarray(differences, dtype=np.float64)
    plain, resamples = values[0], len(values) - 1
    alone, together = np.full(len(plain), np.nan), np.full(len(plain), np.nan)
    if resamples < 2:
        return alone, together
    moved = values[1:].T  # (M, B)
    parts = np.split(moved, range(_BLOCK, len(moved), _BLOCK))
    error = np.concatenate([part.std(axis=1, ddof=1) for part in parts])
    tested = np.flatnonzero(error > _NO_SPREAD)
    tested = tested[np.argsort(np.abs(plain[tested]) / error[tested], kind="stable")]  # the largest last
    largest, running = np.full(resamples, -np.inf), np.empty(len(tested))
    for start in range(0, len(tested), _BLOCK):
        block = tested[start : start + _BLOCK]
        size, spread = np.abs(plain[block])[:, None], error[block][:, None]
        away = np.abs(moved[block] - plain[block][:, None])
        alone[block] = (1 + (away >= size).sum(axis=1)) / (resamples + 1)
        away /= spread
        away[0] = np.maximum(away[0], largest)
        np.maximum.accumulate(away, axis=0, out=away)
        largest = away[-1].copy()
        running[start : start + _BLOCK] = (1 + (away >= size / spread).sum(axis=1)) / (resamples + 1)
    together[tested] = np.maximum.accumulate(running[::-1])[::-1]
    return alone, together
