import inspect
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import trapezoid
from sklearn.linear_model import LinearRegression

from shiftbench import metrics
from shiftbench.errors import InputError
from shiftbench.metrics.counts import contingency
from shiftbench.metrics.external import accuracy
from shiftbench.metrics.inference import bootstrap_agreement, bootstrap_mean, holm, paired_tests
from shiftbench.metrics.robustness import (
    calibrated_drop,
    chance_level,
    effective_robustness,
    mce,
    relative_mce,
    severity_area,
)
from shiftbench.registry import METRICS

LABELS = METRICS.names("labels")

RNG = np.random.default_rng(0)
VALUES = RNG.normal(0.7, 0.1, size=20)
AGREEMENT = np.corrcoef(RNG.normal(size=(8, 12)))


def test_bootstrap_mean_as_scipy():
    mean, low, high = bootstrap_mean(VALUES, resamples=20_000)
    expected = stats.bootstrap(
        (VALUES,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    error = 4 * VALUES.std() / math.sqrt(len(VALUES)) / math.sqrt(20_000 * 0.025)  # of a 2.5 % quantile, generously
    assert mean == pytest.approx(VALUES.mean())
    assert low == pytest.approx(expected.low, abs=error)
    assert high == pytest.approx(expected.high, abs=error)


def test_bootstrap_draws_whole_seeds():
    # What one seed scores on 75 splits moves together: 75 copies of a column say no more than one.
    values = np.repeat(VALUES[:, None], 75, axis=1)
    assert bootstrap_mean(values) == pytest.approx(bootstrap_mean(VALUES))
    assert bootstrap_mean(values.reshape(20, 15, 5)) == pytest.approx(bootstrap_mean(VALUES))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12), st.floats(0.5, 0.99))
@settings(max_examples=50)
def test_bootstrap_interval_lies_within_the_values(values, level):
    mean, low, high = bootstrap_mean(values, resamples=200, level=level)
    assert min(values) - 1e-12 <= low <= high <= max(values) + 1e-12
    assert mean == pytest.approx(np.mean(values))


@pytest.mark.parametrize("name", metrics.__all__)
def test_a_seed_that_is_not_given_is_0(name):
    seed = inspect.signature(getattr(metrics, name)).parameters.get("seed")
    assert seed is None or seed.default == 0


def test_bootstrap_is_reproducible_and_nested():
    assert bootstrap_mean(VALUES, seed=3) == bootstrap_mean(VALUES, seed=3)
    assert bootstrap_mean(VALUES, seed=3)[1:] != bootstrap_mean(VALUES, seed=4)[1:]
    narrow, wide = bootstrap_mean(VALUES, level=0.5), bootstrap_mean(VALUES, level=0.99)
    assert wide[1] < narrow[1] < narrow[2] < wide[2]
    assert bootstrap_agreement(AGREEMENT, seed=3) == bootstrap_agreement(AGREEMENT, seed=3)


def test_one_seed_has_no_interval():
    for values in ([0.4], [[0.3, 0.5]]):
        mean, low, high = bootstrap_mean(values)
        assert mean == pytest.approx(0.4)
        assert math.isnan(low)
        assert math.isnan(high)


def test_nan_values_stay_visible():
    assert np.isnan(bootstrap_mean([0.5, math.nan, 0.7])).all()


def test_bootstrap_agreement_by_hand():
    mean, sd, low, high = bootstrap_agreement(AGREEMENT, resamples=300, seed=5)
    pairs = AGREEMENT[np.triu_indices(8, 1)]
    assert mean == pytest.approx(pairs.mean())
    assert sd == pytest.approx(pairs.std(ddof=1))
    means = []
    for drawn in np.random.default_rng(5).integers(8, size=(300, 8)):
        values = [AGREEMENT[i, j] for a, i in enumerate(drawn) for j in drawn[:a] if i != j]
        means.append(np.mean(values))
    assert (low, high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))


def test_bootstrap_agreement_ignores_the_diagonal():
    other = AGREEMENT + 5 * np.eye(8)
    assert bootstrap_agreement(other) == pytest.approx(bootstrap_agreement(AGREEMENT))


def test_agreement_of_few_partitions():
    mean, *rest = bootstrap_agreement([[1, 0.6], [0.6, 1]])
    assert mean == 0.6
    assert np.isnan(rest).all()
    assert np.isnan(bootstrap_agreement([[1.0]])).all()
    assert np.isfinite(bootstrap_agreement(AGREEMENT[:3, :3])).all()


def test_equal_agreement_has_no_spread():
    mean, sd, low, high = bootstrap_agreement(np.full((5, 5), 0.8))
    assert (mean, sd, low, high) == pytest.approx((0.8, 0, 0.8, 0.8))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_mean([]), "at least one score"),
        (lambda: bootstrap_mean(0.5), "at least one score"),
        (lambda: bootstrap_mean([0.1, 0.2], level=95), "level must lie between 0 and 1, not 95"),
        (lambda: bootstrap_mean([0.1, 0.2], resamples=0), "resamples must be at least 1, not 0"),
        (lambda: bootstrap_agreement([[1, 2, 3]]), "must be square"),
        (lambda: chance_level([0, 1], [0, 1], metric="accuracy"), "Unknown metric"),
        (lambda: chance_level([0, 1], [0, 1], permutations=0), "permutations must be at least 1"),
        (lambda: mce({}, {}), "at least one"),
        (lambda: mce({"fog": [0.1]}, {"snow": [0.1]}), "same corruptions"),
        (lambda: mce({"fog": [0.1, 0.2]}, {"fog": [0.1]}), "fog: .* differ in severities"),
        (lambda: effective_robustness([0.5] * 5, [0.5] * 4), "one score per encoder"),
        (lambda: severity_area(0.9, [0.5, 0.4], [2, 1]), "severities must ascend from above 0, not"),
        (lambda: severity_area(0.9, [0.5, 0.4], [0, 1]), "severities must ascend"),
        (lambda: severity_area(0.9, [0.5, 0.4], [1]), "does not have 1 severities"),
    ],
)
def test_clear_refusals(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_calibrated_drop():
    np.testing.assert_allclose(calibrated_drop(0.9, [0.9, 0.5, 0.1, 0.0], 0.1), [0, 0.5, 1, 1.125])
    assert math.isnan(calibrated_drop(0.1, 0.1, 0.1))
    assert np.isnan(calibrated_drop([0.1, math.nan, 0.5], 0.1, [0.2, 0.1, math.nan])).all()
    assert calibrated_drop(np.full((2, 1), 0.9), np.full(3, 0.5), 0.1).shape == (2, 3)


@pytest.mark.parametrize("metric", LABELS)
def test_chance_level_is_that_of_permuted_labels(metric):
    rng = np.random.default_rng(0)
    labels, partition = rng.integers(5, size=120), rng.choice(4, size=120, p=[0.1, 0.2, 0.3, 0.4])
    permuted = [METRICS.load(metric)(contingency(rng.permutation(labels), partition)) for _ in range(600)]
    found = chance_level(labels, partition, metric=metric, permutations=600)
    standard_error = np.std(permuted) / math.sqrt(600)
    assert found == pytest.approx(np.mean(permuted), abs=5 * standard_error)


@pytest.mark.parametrize("metric", LABELS)
def test_chance_level_with_noise_and_a_mapping(metric):
    rng = np.random.default_rng(1)
    labels, partition = rng.integers(5, size=90), rng.integers(-1, 4, size=90)
    mapping = np.array([2, -1, 0, 0, 1])
    arguments = (mapping,) if "mapping" in METRICS[metric].needs else ()
    score = METRICS.load(metric)
    permuted = [score(contingency(rng.permutation(labels), partition), *arguments) for _ in range(800)]
    found = chance_level(labels, partition, mapping, metric, permutations=800)
    assert found == pytest.approx(np.mean(permuted), abs=5 * np.std(permuted) / math.sqrt(800))


@pytest.mark.parametrize("metric", ["nmi", "v_measure", "homogeneity", "completeness", "ari", "ami"])
def test_chance_level_is_exact_over_every_order_of_the_labels(metric):
    labels, partition = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, -1])
    orders = set(itertools.permutations(labels.tolist()))
    every = [METRICS.load(metric)(contingency(np.array(order), partition)) for order in orders]
    assert chance_level(labels, partition, metric=metric) == pytest.approx(np.mean(every), abs=1e-12)


def test_chance_level_of_a_frozen_mapping():
    rng = np.random.default_rng(0)
    labels, partition = rng.integers(4, size=200), rng.integers(3, size=200)
    mapping = np.array([2, -1, 0])
    shares, classes = np.bincount(partition) / 200, np.bincount(labels) / 200
    exact = shares[0] * classes[2] + shares[2] * classes[0]
    assert chance_level(labels, partition, mapping) == pytest.approx(exact, abs=1e-12)
    recall = np.array([shares[2], 0, shares[0], 0])
    assert chance_level(labels, partition, mapping, "mean_recall") == pytest.approx(recall.mean(), abs=1e-12)


@pytest.mark.parametrize("metric", LABELS)
def test_chance_level_of_a_single_cluster_or_class_is_its_score(metric):
    """Whatever the order of the labels, the table is the same."""
    labels, one = np.arange(30) % 3, np.zeros(30, int)
    for truth, partition in ((labels, one), (one, labels)):
        score = METRICS.load(metric)(contingency(truth, partition))
        assert chance_level(truth, partition, metric=metric) == pytest.approx(score, abs=1e-12)


def test_chance_level_is_below_what_is_learned_and_reproducible():
    labels = np.arange(300) % 10
    assert chance_level(labels, labels) < 0.25 < accuracy(contingency(labels, labels))
    assert chance_level(labels, labels, seed=1) == chance_level(labels, labels, seed=1)
    assert chance_level(labels * 3, labels * 2) == pytest.approx(chance_level(labels, labels), abs=0.01)
    assert chance_level([0, 0], [0, 0], metric="ari") == 1  # nothing but chance: no order scores otherwise


def test_mce_by_hand():
    errors = {"fog": [0.1, 0.3], "snow": [0.2, 0.2]}
    baseline = {"snow": [0.2, 0.6], "fog": [0.2, 0.2]}
    assert mce(errors, baseline) == pytest.approx((0.4 / 0.4 + 0.4 / 0.8) / 2)
    assert relative_mce(errors, 0.05, baseline, 0.1) == pytest.approx((0.3 / 0.2 + 0.3 / 0.6) / 2)
    assert mce(baseline, baseline) == 1
    assert relative_mce(baseline, 0.1, baseline, 0.1) == pytest.approx(1)


def test_mce_where_the_baseline_is_perfect():
    assert math.isnan(mce({"fog": [0.1], "snow": [0.1]}, {"fog": [0.0], "snow": [0.2]}))
    assert math.isnan(relative_mce({"fog": [0.2]}, 0.1, {"fog": [0.3]}, 0.3))
    assert math.isnan(relative_mce({"fog": [0.2]}, 0.1, {"fog": [0.2]}, 0.3))
    assert math.isnan(mce({"fog": [math.nan]}, {"fog": [0.3]}))


def test_mce_of_many_resamples_at_once():
    names = ("fog", "snow", "frost")
    errors = {name: RNG.random((7, 5)) for name in names}
    clean, baseline = RNG.random(7) / 10, {name: RNG.random(5) for name in names}
    rows = [{name: values[i] for name, values in errors.items()} for i in range(7)]
    np.testing.assert_allclose(mce(errors, baseline), [mce(row, baseline) for row in rows])
    np.testing.assert_allclose(
        relative_mce(errors, clean, baseline, 0.01),
        [relative_mce(row, c, baseline, 0.01) for row, c in zip(rows, clean, strict=True)],
    )


def test_effective_robustness_as_scikit_learn():
    clean = RNG.uniform(0.3, 0.95, size=9)
    shifted = clean * RNG.uniform(0.5, 0.9, size=9)
    x, y = np.log(clean / (1 - clean))[:, None], np.log(shifted / (1 - shifted))
    predicted = LinearRegression().fit(x, y).predict(x)
    np.testing.assert_allclose(effective_robustness(clean, shifted), shifted - 1 / (1 + np.exp(-predicted)))


def test_effective_robustness_of_encoders_on_the_line_is_zero():
    clean = np.array([0.2, 0.4, 0.6, 0.8, 0.9])
    shifted = 1 / (1 + np.exp(-(0.7 * np.log(clean / (1 - clean)) - 0.5)))
    np.testing.assert_allclose(effective_robustness(clean, shifted), 0, atol=1e-12)
    assert effective_robustness(clean, shifted + 0.05 * (clean == 0.6)).argmax() == 2


def test_effective_robustness_needs_five_encoders():
    clean, shifted = np.linspace(0.2, 0.8, 6), np.linspace(0.1, 0.7, 6)
    assert np.isnan(effective_robustness(clean[:4], shifted[:4])).all()
    assert np.isfinite(effective_robustness(clean[:5], shifted[:5])).all()
    perfect = np.append(clean, 1.0)
    residual = effective_robustness(perfect, np.append(shifted, 0.9))
    np.testing.assert_array_equal(residual[:6], effective_robustness(clean, shifted))
    assert math.isnan(residual[6])
    for score in (0.0, 1.0):
        residual = effective_robustness(np.append(clean, 0.9), np.append(shifted, score))
        np.testing.assert_array_equal(residual[:6], effective_robustness(clean, shifted))
        assert math.isnan(residual[6])
    assert np.isnan(effective_robustness(np.full(6, 0.5), shifted)).all()


def test_effective_robustness_of_many_resamples_at_once():
    clean = RNG.uniform(0.3, 0.95, size=(20, 7))
    shifted = clean * RNG.uniform(0.5, 0.9, size=(20, 7))
    shifted[3, 2], shifted[4, :3] = 1.0, 0.0  # one left out, and too few left
    found = effective_robustness(clean, shifted)
    for row in range(20):
        np.testing.assert_allclose(found[row], effective_robustness(clean[row], shifted[row]), atol=1e-12)
    assert np.isnan(found[4]).all()


def test_severity_area_as_numpy():
    curve, severities = RNG.random((6, 3)), np.array([1, 3, 5])
    clean = RNG.random(6)
    expected = [trapezoid(clean[i] - np.append(clean[i], curve[i]), np.append(0, severities)) / 5 for i in range(6)]
    np.testing.assert_allclose(severity_area(clean, curve, severities), expected)


def test_severity_area_by_hand():
    assert severity_area(0.9, [0.9] * 5, [1, 2, 3, 4, 5]) == pytest.approx(0)
    assert severity_area(1.0, [0.8, 0.6, 0.4, 0.2, 0.0], [1, 2, 3, 4, 5]) == pytest.approx(0.5)
    assert severity_area(1.0, [0.0] * 5, [1, 2, 3, 4, 5]) == pytest.approx(0.9)
    assert math.isnan(severity_area(1.0, [0.5, math.nan], [1, 2]))


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, 0.9, math.nan]), [1, 1, math.nan])
    np.testing.assert_allclose(holm([0.04, math.nan, 0.01, math.nan]), [0.04, math.nan, 0.02, math.nan])
    np.testing.assert_allclose(holm([math.nan, math.inf, 0.02, 0.03]), [math.nan, math.nan, 0.04, 0.04])
    assert holm([]).shape == (0,)


def test_holm_by_its_definition():
    """A hypothesis is rejected at a level exactly if its adjusted p-value does not exceed it."""
    p = RNG.random(9) ** 3
    for level in np.linspace(0.001, 0.999, 50):
        rejected = np.zeros(9, bool)
        for rank, place in enumerate(np.argsort(p)):
            if p[place] > level / (9 - rank):
                break
            rejected[place] = True
        np.testing.assert_array_equal(holm(p) <= level, rejected)


def resampled_differences(shifts, resamples=400, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    plain = np.array(shifts, float)
    return np.vstack([plain, plain + noise * rng.normal(size=(resamples, len(plain)))])


def test_p_of_a_normal_difference_is_that_of_its_z():
    alone, _ = paired_tests(resampled_differences([0.5, 1.0, 2.0, -1.0], resamples=50_000))
    np.testing.assert_allclose(alone, 2 * stats.norm.sf([0.5, 1, 2, 1]), atol=0.01)


def test_p_values_have_a_floor_and_know_no_spread():
    alone, together = paired_tests(resampled_differences([100.0, 0.0]))
    assert alone[0] == together[0] == 1 / 401
    assert alone[1] == together[1] == 1
    assert paired_tests([[1.0], [0.9], [1.1]]) == ([1 / 3], [1 / 3])
    assert np.isnan(paired_tests([[1.0], [0.9]])).all()  # one resample has no spread
    alone, together = paired_tests(np.full((50, 2), 0.3))
    assert np.isnan([alone, together]).all()
    assert np.isnan(paired_tests([[0.1, 0.2]])).all()  # no resamples


def test_tests_together_are_stricter_and_need_no_more_resamples():
    differences = resampled_differences([9.0] + [0.5] * 60)
    alone, together = paired_tests(differences)
    assert (together >= alone - 1e-12).all()
    assert together[0] == 1 / 401  # Holm would give 61 / 401
    assert (together[1:] > 0.5).all()
    # Differences that are one and the same count as one.
    same = np.repeat(resampled_differences([2.0]), 40, axis=1)
    alone, together = paired_tests(same)
    np.testing.assert_allclose(together, alone)


def test_tests_together_step_down():
    differences = resampled_differences([3.0, 2.5, 1.0], resamples=99)
    np.testing.assert_allclose(paired_tests(differences)[1], step_down(differences))


def step_down(differences):
    """By the definition: each against the largest among those that are no further out."""
    error = differences[1:].std(axis=0, ddof=1)
    t, null = np.abs(differences[0]) / error, np.abs(differences[1:] - differences[0]) / error
    p, highest = np.empty(len(t)), 0.0
    for place in np.argsort(-t):
        largest = null[:, t <= t[place]].max(axis=1)
        p[place] = highest = max(highest, (1 + (largest >= t[place]).sum()) / (1 + len(null)))
    return p


def test_very_many_tests_together_step_down():
    """More than are worked on at once."""
    differences = resampled_differences(RNG.normal(scale=2, size=1203), resamples=60)
    np.testing.assert_allclose(paired_tests(differences)[1], step_down(differences))


def test_a_resample_that_is_as_far_out_as_the_difference_counts():
    """Moved to 0, the resamples 0 and 4 of a difference of 2 are as far out as it is, and 1, 2, 3 are not."""
    alone, together = paired_tests(np.array([[2.0, 0, 4, 1, 2, 3]]).T)
    assert alone == together == [3 / 6]


def test_family_wise_error_of_both_corrections():
    """With no true difference, any is found in at most about one of twenty experiments."""
    false = np.zeros(2)
    for experiment in range(400):
        rng = np.random.default_rng(experiment)
        truth = rng.normal(size=6)
        differences = np.vstack([truth, truth + rng.normal(size=(400, 6))])
        alone, together = paired_tests(differences)
        false += [holm(alone).min() <= 0.05, together.min() <= 0.05]
    assert (false / 400 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)).all()
    assert false[1] / 400 > 0.02  # and it is no test that never speaks
