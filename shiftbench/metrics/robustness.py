"""Across shifts: chance-calibrated drop, corruption errors, area over severity, effective robustness.

Pure functions of scores that are already computed: fractions, higher is better. A number that is not defined
is NaN, never a warning and never a substitute. A NaN among the given scores makes the result NaN: leave failed
cells out first.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit
from scipy.stats import random_table

from shiftbench.errors import InputError
from shiftbench.metrics.counts import Contingency, Values, as_mapping, contingency
from shiftbench.metrics.external import expected_mutual_information
from shiftbench.registry import METRICS

MIN_ENCODERS = 5  # a line through fewer points says little about the next point


def calibrated_drop(clean: ArrayLike, shifted: ArrayLike, chance: ArrayLike) -> Values:
    """The share of the clean score above chance that a shift takes: ``(clean - shifted) / (clean - chance)``.

    Args:
        clean: scores on the clean split.
        shifted: scores on the shifted split.
        chance: what labels in random order would score (:func:`chance_level`). The three broadcast.

    Returns:
        float64 of the broadcast shape: 0 no loss, 1 down to chance; NaN where clean is not above chance.

    Examples:
        >>> float(calibrated_drop(clean=0.9, shifted=0.5, chance=0.1).round(2))
        0.5
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

    A permutation of the labels makes a random contingency table with the same margins. For scores that are linear in
    the table or in the mutual information, the mean over all permutations is known exactly; for the other scores,
    random tables are drawn, at a cost that hardly depends on N.

    Args:
        labels: integers ``(N,)``, class ids from 0.
        partition: integers ``(N,)``, cluster ids from 0, -1 for noise.
        mapping: int64 ``(K,)``, clusters to classes (the frozen protocol), for the scores that depend on it.
        metric: a registered score with labels.
        permutations: number of tables, at least 1.
        seed: of the random tables; equal arguments give equal levels.

    Raises:
        InputError: unfit ids (see :func:`~shiftbench.metrics.external.contingency`), an unknown metric, or no
            permutations.

    Examples:
        >>> labels, partition = [0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1]
        >>> round(chance_level(labels, partition, mapping=[0, 1]), 2)
        0.5
        >>> chance_level(labels, partition, metric="ari")
        0.0
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
    # scipy's sampler is wrong for a single column or row (1.17: a negative count), so an empty one is added to both.
    margins = random_table(np.append(table.classes, 0), np.append(table.clusters, 0))
    drawn = margins.rvs(permutations, random_state=np.random.default_rng(seed)).astype(np.int64)[:, :-1, :-1]
    k = table.counts.shape[1]
    noise = drawn[:, :, k] if drawn.shape[2] > k else np.zeros(drawn.shape[:2], np.int64)
    tables = [
        Contingency(np.ascontiguousarray(counts), none) for counts, none in zip(drawn[:, :, :k], noise, strict=True)
    ]
    return float(np.mean([score(random, *arguments) for random in tables]))


_COMPARED = ("nmi", "v_measure", "homogeneity", "completeness", "ari", "ami")


def _compared_chance(table: Contingency, metric: str) -> float:
    """Exact: the margins, and so the entropies, stay the same; adjusted scores have the mean 0 by definition."""
    if metric in ("ari", "ami"):
        return 0.0
    _, of_classes, of_clusters = table.information
    whole = {"homogeneity": of_classes, "completeness": of_clusters}.get(metric, (of_classes + of_clusters) / 2)
    return expected_mutual_information(table.classes, table.clusters) / whole


def _mapped_chance(table: Contingency, mapping: ArrayLike, metric: str) -> float:
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

    Examples:
        >>> float(mce({"fog": [0.2, 0.4]}, {"fog": [0.4, 0.8]}).round(2))
        0.5
    """
    return _mean_quotient(errors, 0.0, baseline_errors, 0.0)


def relative_mce(
    errors: Mapping[str, ArrayLike],
    clean_error: ArrayLike,
    baseline_errors: Mapping[str, ArrayLike],
    baseline_clean_error: ArrayLike,
) -> Values:
    """What corruption adds to the error, relative to a baseline: the relative mCE (same paper).

    As :func:`mce`, after the clean error of each side is subtracted from its errors.

    Args:
        errors: for each corruption ``(..., severities)``; leading axes, such as resamples, are kept.
        clean_error: ``(...)``, 1 - score on the clean split.
        baseline_errors: of the baseline, for the same corruptions and severities; leading axes broadcast.
        baseline_clean_error: of the baseline, broadcasts to the same.

    Returns:
        float64 ``(...)``; NaN where some corruption adds nothing to the baseline's error.

    Raises:
        InputError: no corruptions, or other corruptions or severities than the baseline.

    Examples:
        >>> float(relative_mce({"fog": [0.2, 0.4]}, 0.1, {"fog": [0.4, 0.8]}, 0.2).round(2))
        0.5
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

    The curve starts with the clean score at severity 0. The area is divided by the largest severity, so that it is in
    units of the score: a score that falls to 0 at severity 1 and stays there loses almost all of it; a score that
    falls in equal steps loses half of what it has lost at the last severity.

    Args:
        clean: ``(...)``, scores on the clean split.
        curve: ``(..., severities)``, scores at each severity.
        severities: ``(severities,)``, above 0, ascending.

    Returns:
        float64 ``(...)``.

    Raises:
        InputError: no severities, not ascending from above 0, or another number than the curve has.

    Examples:
        >>> float(severity_area(clean=0.9, curve=[0.8, 0.7], severities=[1, 2]).round(2))
        0.1
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

    Examples:
        >>> clean = np.array([0.5, 0.6, 0.7, 0.8, 0.9])
        >>> bool(np.allclose(effective_robustness(clean, clean), 0))
        True
    """
    before, after = np.asarray(clean, dtype=np.float64), np.asarray(shifted, dtype=np.float64)
    if before.ndim < 1 or before.shape != after.shape:
        raise InputError(f"clean and shifted must hold one score per encoder, not {before.shape} and {after.shape}.")
    inside = (before > 0) & (before < 1) & (after > 0) & (after < 1)
    x, y = (logit(np.where(inside, scores, 0.5)) for scores in (before, after))
    count = np.maximum(inside.sum(axis=-1, keepdims=True), 1)

    def centre(values: Values) -> tuple[Values, Values]:
        mean = (values * inside).sum(axis=-1, keepdims=True) / count
        return mean, (values - mean) * inside

    (_, dx), (level, dy) = centre(x), centre(y)
    varies = (np.square(dx).sum(axis=-1, keepdims=True) > 1e-20) & (count >= MIN_ENCODERS)
    slope = (dx * dy).sum(axis=-1, keepdims=True) / np.where(varies, np.square(dx).sum(axis=-1, keepdims=True), 1.0)
    return np.where(inside & varies, after - expit(level + slope * dx), np.nan)
