"""Rank correlations and their resamples against scipy on points that are really repeated."""

import numpy as np
import pytest
from scipy import stats

from shiftbench.errors import InputError
from shiftbench.results import correlation
from shiftbench.results.correlation import RankCorrelations
from shiftbench.results.resample import CONDITIONS, resample_weights

RNG = np.random.default_rng(0)
X = RNG.normal(size=30)
Y = X + RNG.normal(size=30)
ROUNDED = np.round(Y)  # with ties


@pytest.mark.parametrize("second", [Y, ROUNDED, -X], ids=["smooth", "ties", "reversed"])
def test_plain_coefficients_as_scipy(second):
    found = RankCorrelations([X, second], np.arange(30), 10)
    assert found.spearman(0, 1)[0] == pytest.approx(stats.spearmanr(X, second).statistic)
    assert found.kendall(0, 1)[0] == pytest.approx(stats.kendalltau(X, second).statistic)


@pytest.mark.parametrize("groups", [np.arange(30), np.arange(30) % 8], ids=["points", "groups"])
@pytest.mark.parametrize("second", [Y, ROUNDED], ids=["smooth", "ties"])
def test_resamples_are_those_of_repeated_points(second, groups):
    weights = resample_weights(groups.max() + 1, 25, stream=CONDITIONS)
    found = RankCorrelations([X, second], groups, 25)
    spearman, kendall = found.spearman(0, 1), found.kendall(0, 1)
    assert spearman.shape == kendall.shape == (26,)
    for b in range(25):
        points = np.repeat(np.arange(30), weights[groups, b])
        assert spearman[1 + b] == pytest.approx(stats.spearmanr(X[points], second[points]).statistic)
        assert kendall[1 + b] == pytest.approx(stats.kendalltau(X[points], second[points]).statistic)


def test_the_memory_that_is_taken_changes_nothing(monkeypatch):
    whole = RankCorrelations([X, ROUNDED], np.arange(30) % 8, 25)
    monkeypatch.setattr(correlation, "_NUMBERS", 7 * 60)
    parts = RankCorrelations([X, ROUNDED], np.arange(30) % 8, 25)
    np.testing.assert_array_equal(whole.spearman(0, 1), parts.spearman(0, 1))
    np.testing.assert_array_equal(whole.spearman(1, 0), parts.spearman(1, 0))


def test_a_variable_against_itself():
    found = RankCorrelations([X, ROUNDED], np.arange(30), 10)
    np.testing.assert_allclose([found.spearman(1, 1), found.kendall(1, 1)], 1)


def test_constants_have_no_correlation():
    found = RankCorrelations([X, np.ones(30)], np.arange(30), 10)
    assert np.isnan([found.spearman(0, 1), found.kendall(0, 1)]).all()


def test_clear_refusals():
    with pytest.raises(InputError, match="finite values are needed for 30 points"):
        RankCorrelations([X, np.full(30, np.nan)], np.arange(30), 10)
    with pytest.raises(InputError, match="finite values are needed for 29 points"):
        RankCorrelations([X], np.arange(29), 10)
