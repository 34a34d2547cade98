"""From the agreement of every pair of partitions to its mean, spread and interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shiftbench.metrics.agreement import pairwise
from shiftbench.metrics.consensus import pac, sample_consensus
from shiftbench.metrics.counts import Ids, Values
from shiftbench.metrics.inference import bootstrap_agreement, bootstrap_mean
from shiftbench.records import Skipped


@dataclass(frozen=True)
class Agreement:
    """Agreement of pairs of partitions, or a quantity derived from it; NaN where a number is not defined.

    Attributes:
        mean: over the pairs; 1 is agreement on every image.
        sd: standard deviation over the pairs (ddof 1); of ``sample_consensus`` over the images.
        ci_low, ci_high: 95 % bootstrap interval of the mean; resampled are the partitions, not their pairs.
        n_pairs: number of pairs of partitions.

    Examples:
        >>> Agreement(mean=0.9, sd=0.1, ci_low=0.8, ci_high=1.0, n_pairs=190).mean
        0.9
    """

    mean: float
    sd: float
    ci_low: float
    ci_high: float
    n_pairs: int


Measured = dict[str, Agreement] | Skipped
"""An axis' agreement by metric, or why it could not be measured."""


def all_pairs(partitions: Ids) -> dict[str, Agreement]:
    """The agreement of all pairs of partitions int64 ``(S, N)``, by metric.

    Examples:
        >>> all_pairs(np.array([[0, 0, 1, 1], [1, 1, 0, 0]]))["ari"].mean
        1.0
    """
    return {name: of_pairs(matrix) for name, matrix in pairwise(partitions).items()}


def together(partitions: Ids) -> dict[str, Agreement]:
    """``pac`` and ``sample_consensus`` of partitions int64 ``(S, N)``; no interval, since they are a single set.

    Examples:
        >>> round(together(np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]]))["sample_consensus"].mean, 2)
        0.83
    """
    pairs = len(partitions) * (len(partitions) - 1) // 2
    samples = sample_consensus(partitions)
    samples = samples[~np.isnan(samples)]
    return {
        "pac": Agreement(pac(partitions), np.nan, np.nan, np.nan, pairs),
        "sample_consensus": Agreement(float(samples.mean()), _sd(samples), np.nan, np.nan, pairs),
    }


def of_pairs(matrix: Values) -> Agreement:
    """The agreement in a symmetric matrix float64 ``(S, S)`` of all pairs of S partitions.

    Examples:
        >>> matrix = np.array([[1.0, 0.8, 0.6], [0.8, 1.0, 0.7], [0.6, 0.7, 1.0]])
        >>> round(of_pairs(matrix).mean, 2), of_pairs(matrix).n_pairs
        (0.7, 3)
    """
    return Agreement(*bootstrap_agreement(matrix), n_pairs=len(matrix) * (len(matrix) - 1) // 2)


def of_values(values: Values) -> Agreement:
    """The agreement of S pairs that share no partition, float64 ``(S,)``.

    Examples:
        >>> round(of_values(np.array([0.8, 0.6, 0.7])).mean, 2)
        0.7
    """
    mean, low, high = bootstrap_mean(values)
    return Agreement(mean, _sd(values), low, high, n_pairs=len(values))


def _sd(values: Values) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else np.nan
