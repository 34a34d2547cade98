"""Across shifts: intervals over seeds, chance-calibrated drop, corruption errors, effective robustness.

Pure functions of scores that are already computed: fractions, higher is better. A number that is not defined
is NaN, never a warning and never a substitute. NaN among the scores given makes the result NaN: leave failed
cells out first.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from scipy.stats import random_table

from shiftbench.errors import InputError
from shiftbench.metrics.external import Table, as_mapping, contingency, expected_mutual_information
from shiftbench.registry import METRICS

Values = NDArray[np.float64]

MIN_ENCODERS = 5  # a line through fewer points says little about the next one
_BLOCK = 500  # tests worked on at once: their resamples stay in the processor's cache
_NO_SPREAD = 1e-9  # below the rounding of float32 draws


def bootstrap_mean(
    values: ArrayLike, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """Mean with its percentile bootstrap interval over the first axis (Efron 1979).

    Args:
        values: ``(S,)`` or ``(S, ...)``, a score for each seed (and corruption, severity, ...). Whole seeds
            are drawn, because the scores of one seed depend on each other.
        resamples: number of bootstrap samples.
        level: share of the bootstrap means inside the interval, in (0, 1).
        seed: of the draws; equal arguments give equal bounds.

    Returns:
        The mean and the two bounds, which are NaN with one seed.

    Raises:
        InputError: no values, or resamples or level out of range.
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

    The S partitions are resampled, not their pairs, which are not independent: each partition is in S - 1 of
    them. A partition drawn twice is not paired with itself.

    Args:
        matrix: ``(S, S)``, symmetric, as from :func:`~shiftbench.metrics.agreement.pairwise`; its diagonal is
            ignored.
        resamples: number of bootstrap samples.
        level: share of the bootstrap means inside the interval, in (0, 1).
        seed: of the draws; equal arguments give equal bounds.

    Returns:
        Mean over the pairs, their standard deviation (ddof 1), and the two bounds. With S = 2 there is one
        pair and only the mean is a number, with S = 1 nothing is.

    Raises:
        InputError: not a square matrix, or resamples or level out of range.
    """
    array = np.asarray(matrix, dtype=np.float64)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or array.size == 0:
        raise InputError(f"an agreement matrix must be square, not of shape {array.shape}.")
    size = len(array)
    counts = _resamples(size, resamples, seed)
    pairs = array[np.triu_indices(size, 1)]
    if size < 3:
        return float(pairs[0]) if size == 2 else np.nan, np.nan, np.nan, np.nan
    counts = counts[(counts > 0).sum(axis=1) > 1]  # one partition S times over has no pair
    agreement = np.where(np.eye(size, dtype=bool), 0.0, array)
    total = ((counts @ agreement) * counts).sum(axis=1)
    low, high = _interval(total / (size**2 - np.square(counts).sum(axis=1)), level)
    return float(pairs.mean()), float(pairs.std(ddof=1)), low, high


@lru_cache(maxsize=8)
def _resamples(size: int, resamples: int, seed: int) -> Values:
    """How often each bootstrap sample draws each of ``size`` items: float64 (resamples, size)."""
    if resamples < 1:
        raise InputError(f"resamples must be at least 1, not {resamples}.")
    draws = np.random.default_rng(seed).integers(size, size=(resamples, size))
    counts: Values = (draws[:, :, None] == np.arange(size)).sum(axis=1).astype(np.float64)
    counts.flags.writeable = False  # every call gets this same array
    return counts


def _interval(means: Values, level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1, not {level}.")
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def calibrated_drop(clean: ArrayLike, shifted: ArrayLike, chance: ArrayLike) -> Values:
    """How much of the clean score above chance a shift takes: ``(clean - shifted) / (clean - chance)``.

    Args:
        clean: scores on the clean split.
        shifted: scores on the shifted split.
        chance: what labels in random order would score (:func:`chance_level`). The three broadcast.

    Returns:
        float64 of the broadcast shape: 0 no loss, 1 down to chance; NaN where clean is not above chance.
    """
    clean, shifted, chance = (np.asarray(a, dtype=np.float64) for a in (clean, shifted, chance))
    return _ratio(clean - shifted, clean - chance)


def _ratio(numerator: Values, denominator: Values) -> Values:
    """Element-wise quotient, NaN where the denominator is not positive."""
    positive = denominator > 0
    return np.where(positive, numerator, np.nan) / np.where(positive, denominator, 1.0)


def chance_level(
    labels: ArrayLike,
    partition: ArrayLike,
    mapping: ArrayLike | None = None,
    metric: str = "acc",
    permutations: int = 100,
    seed: int = 0,
) -> float:
    """Mean score of a partition when the labels are put in random order.

    A permutation only changes the contingency table, and that to a random table with the same margins. For scores
    that are linear in the table or in the mutual information, the mean over all permutations is known exactly; for
    the others such tables are drawn, at a cost that hardly depends on N.

    Args:
        labels: integers ``(N,)``, class ids from 0.
        partition: integers ``(N,)``, cluster ids from 0, -1 for noise.
        mapping: int64 ``(K,)``, clusters to classes (the frozen protocol), for the scores that depend on it.
        metric: a registered score with labels.
        permutations: number of tables, at least 1.
        seed: of the draws; equal arguments give equal levels.

    Raises:
        InputError: unfit ids (see :func:`~shiftbench.metrics.external.contingency`), an unknown metric, or no
            permutations.
    """
    score = METRICS.load(metric)
    if permutations < 1:
        raise InputError(f"permutations must be at least 1, not {permutations}.")
    table = contingency(labels, partition)
    classes, clusters = np.count_nonzero(table.classes), np.count_nonzero(table.clusters)
    arguments = (mapping,) if "mapping" in METRICS[metric].needs else ()
    if min(classes, clusters) < 2 or classes == clusters == table.n:
        return float(score(table, *arguments))  # no other table has these margins, or it is the same by other names
    if metric in ("acc", "mean_recall") and mapping is not None:
        return _mapped_chance(table, mapping, metric)
    if metric in _COMPARED:
        return _compared_chance(table, metric)
    # scipy's sampler is wrong for a single column or row (1.17: a negative count), so both get an empty companion.
    margins = random_table(np.append(table.classes, 0), np.append(table.clusters, 0))
    drawn = margins.rvs(permutations, random_state=np.random.default_rng(seed)).astype(np.int64)[:, :-1, :-1]
    k = table.counts.shape[1]
    noise = drawn[:, :, k] if drawn.shape[2] > k else np.zeros(drawn.shape[:2], np.int64)
    tables = [Table(np.ascontiguousarray(counts), none) for counts, none in zip(drawn[:, :, :k], noise, strict=True)]
    return float(np.mean([score(random, *arguments) for random in tables]))


_COMPARED = ("nmi", "v_measure", "homogeneity", "completeness", "ari", "ami")


def _compared_chance(table: Table, metric: str) -> float:
    """Exact: the margins, and with them all entropies, stay; adjusted scores have the mean 0 by their making."""
    if metric in ("ari", "ami"):
        return 0.0
    _, of_classes, of_clusters = table.information
    whole = {"homogeneity": of_classes, "completeness": of_clusters}.get(metric, (of_classes + of_clusters) / 2)
    return expected_mutual_information(table.classes, table.clusters) / whole


def _mapped_chance(table: Table, mapping: ArrayLike, metric: str) -> float:
    """Exact: each class is spread over the clusters in proportion to their sizes."""
    sizes, n_classes = table.counts.sum(axis=0), len(table.classes)
    stands_for = as_mapping(mapping, len(sizes))
    known = (stands_for >= 0) & (stands_for < n_classes)
    recall = np.bincount(stands_for[known], sizes[known], n_classes) / table.n
    if metric == "acc":
        return float(recall @ table.classes / table.n)
    return float(recall[table.classes > 0].mean())


def mce(errors: Mapping[str, ArrayLike], baseline_errors: Mapping[str, ArrayLike]) -> Values:
    """Mean corruption error relative to a baseline (Hendrycks & Dietterich 2019, section 4.2), as a fraction.

    For each corruption the errors are summed over severities and divided by the same sum of the baseline; the
    mean over corruptions is returned. Here an error is 1 - score. 1 is as bad as the baseline.

    Args:
        errors: for each corruption ``(..., severities)``; leading axes, such as resamples, are kept.
        baseline_errors: of the baseline, for the same corruptions and severities; leading axes broadcast.

    Returns:
        float64 ``(...)``; NaN where the baseline has no error at all on some corruption.

    Raises:
        InputError: no corruptions, or other corruptions or severities than the baseline.
    """
    return _mean_quotient(errors, 0.0, baseline_errors, 0.0)


def relative_mce(
    errors: Mapping[str, ArrayLike],
    clean_error: ArrayLike,
    baseline_errors: Mapping[str, ArrayLike],
    baseline_clean_error: ArrayLike,
) -> Values:
    """What corruption adds to the error, relative to a baseline: the relative mCE (same paper).

    As :func:`mce`, with each side's clean error subtracted from each of its errors.

    Args:
        errors: for each corruption ``(..., severities)``; leading axes, such as resamples, are kept.
        clean_error: ``(...)``, 1 - score on the clean split.
        baseline_errors: of the baseline, for the same corruptions and severities; leading axes broadcast.
        baseline_clean_error: of the baseline, broadcasts to the same.

    Returns:
        float64 ``(...)``; NaN where some corruption adds nothing to the baseline's error.

    Raises:
        InputError: no corruptions, or other corruptions or severities than the baseline.
    """
    return _mean_quotient(errors, clean_error, baseline_errors, baseline_clean_error)


def _mean_quotient(
    errors: Mapping[str, ArrayLike],
    offset: ArrayLike,
    baseline: Mapping[str, ArrayLike],
    baseline_offset: ArrayLike,
) -> Values:
    if not errors or errors.keys() != baseline.keys():
        raise InputError(
            "errors and baseline errors must be of the same corruptions, at least one: "
            f"{sorted(errors)} against {sorted(baseline)}."
        )

    def total(values: ArrayLike, subtracted: ArrayLike) -> Values:
        summed: Values = (np.asarray(values, dtype=np.float64) - np.asarray(subtracted)[..., None]).sum(axis=-1)
        return summed

    for corruption in errors:
        own, other = np.shape(errors[corruption]), np.shape(baseline[corruption])
        if not own or not other or own[-1] != other[-1]:
            raise InputError(
                f"{corruption}: errors of shape {own} and baseline errors of {other} differ in severities."
            )
    quotients = [_ratio(total(errors[name], offset), total(baseline[name], baseline_offset)) for name in errors]
    mean: Values = np.mean(quotients, axis=0)
    return mean


def severity_area(clean: ArrayLike, curve: ArrayLike, severities: ArrayLike) -> Values:
    """The area between the clean score and the curve of scores over severities, by the trapezoid rule.

    The curve starts with the clean score at severity 0. Divided by the largest severity, so that the area is in units
    of the score: a score that is lost at once and for good loses almost all of it, one that is lost in equal steps half
    of what the last step has lost.

    Args:
        clean: ``(...)``, scores on the clean split.
        curve: ``(..., severities)``, scores at each severity.
        severities: ``(severities,)``, above 0, ascending.

    Returns:
        float64 ``(...)``.

    Raises:
        InputError: no severities, not ascending from above 0, or another number than the curve has.
    """
    degrees, scores = np.asarray(severities, dtype=np.float64), np.asarray(curve, dtype=np.float64)
    if degrees.ndim != 1 or not len(degrees) or (np.diff(degrees, prepend=0) <= 0).any():
        raise InputError(f"severities must ascend from above 0, not {np.asarray(severities).tolist()}.")
    if scores.ndim == 0 or scores.shape[-1] != len(degrees):
        raise InputError(f"a curve of shape {scores.shape} does not have {len(degrees)} severities.")
    lost = np.asarray(clean, dtype=np.float64)[..., None] - scores
    lost = np.concatenate([np.zeros_like(lost[..., :1]), lost], axis=-1)
    areas = (lost[..., 1:] + lost[..., :-1]) / 2 * np.diff(degrees, prepend=0)
    area: Values = areas.sum(axis=-1) / degrees[-1]
    return area


def effective_robustness(clean: ArrayLike, shifted: ArrayLike) -> Values:
    """How far each encoder is above what its clean score predicts (Taori et al. 2020).

    The prediction is a straight line through all encoders, fitted by least squares to the logits of both
    scores. The residual is in units of the score: shifted - predicted.

    Args:
        clean: ``(..., E)``, scores on the clean split; leading axes, such as resamples, are fitted on their own.
        shifted: ``(..., E)``, scores on the shifted split.

    Returns:
        float64 ``(..., E)``. NaN for an encoder with a score outside (0, 1), which has no logit and is left out
        of the fit, and for all where fewer than 5 are left or all clean scores are equal.

    Raises:
        InputError: two different shapes, or a single number.
    """
    before, after = np.asarray(clean, dtype=np.float64), np.asarray(shifted, dtype=np.float64)
    if before.ndim < 1 or before.shape != after.shape:
        raise InputError(f"clean and shifted must hold one score per encoder, not {before.shape} and {after.shape}.")
    inside = (before > 0) & (before < 1) & (after > 0) & (after < 1)
    x, y = (logit(np.where(inside, one, 0.5)) for one in (before, after))
    count = np.maximum(inside.sum(axis=-1, keepdims=True), 1)

    def centre(values: Values) -> tuple[Values, Values]:
        mean = (values * inside).sum(axis=-1, keepdims=True) / count
        return mean, (values - mean) * inside

    (_, dx), (level, dy) = centre(x), centre(y)
    varies = (np.square(dx).sum(axis=-1, keepdims=True) > 1e-20) & (count >= MIN_ENCODERS)
    slope = (dx * dy).sum(axis=-1, keepdims=True) / np.where(varies, np.square(dx).sum(axis=-1, keepdims=True), 1.0)
    return np.where(inside & varies, after - expit(level + slope * dx), np.nan)


def holm(p: ArrayLike) -> Values:
    """P-values adjusted for the number of tests (Holm 1979): the chance of any false finding stays below the level.

    Args:
        p: ``(M,)``; NaN is no test and stays NaN.
    """
    raw = np.asarray(p, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(raw))
    order = known[np.argsort(raw[known], kind="stable")]
    adjusted = np.full(raw.shape, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(raw[order] * np.arange(len(order), 0, -1)), 1)
    return adjusted


def paired_tests(differences: ArrayLike) -> tuple[Values, Values]:
    """Two-sided bootstrap tests of paired differences against 0, each alone and all together.

    The resamples, moved to have their plain value as 0, stand for what differences would be if there were none. Alone,
    p is the share of them that are as far from 0 as the plain value. Together (Romano & Wolf 2005, step-down), the
    largest of all differences in their standard errors is compared: as Holm's, these p-values keep the chance of any
    false finding, but since the tests share their resamples they know how the differences hang together, and do not
    rise with the number of pairs beyond what resamples can show.

    Args:
        differences: ``(1 + B, M)``, M differences: plain values, then their resamples. Differences without spread
            have no test.

    Returns:
        Two float64 ``(M,)``, at least ``1 / (B + 1)``: p alone, p together; NaN where there is no test.
    """
    values = np.asarray(differences, dtype=np.float64)
    plain, resamples = values[0], len(values) - 1
    alone, together = np.full(len(plain), np.nan), np.full(len(plain), np.nan)
    if resamples < 2:
        return alone, together
    moved = values[1:].T  # (M, B)
    error = np.concatenate([one.std(axis=1, ddof=1) for one in np.split(moved, range(_BLOCK, len(moved), _BLOCK))])
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
