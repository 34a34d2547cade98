"""The intervals of the summary against bootstraps written out."""

import itertools

import numpy as np
import pandas as pd
import pytest
from summary_cells import CONDITIONS, by_hand, cells, drawn, row

from shiftbench.metrics.robustness import mce
from shiftbench.results.resample import TRAININGS, resample_weights
from shiftbench.results.runs import intervals
from shiftbench.results.summary import RESAMPLES, Runs, interval, summarize


def test_mce_interval_is_that_of_mce_over_the_resamples():
    table = cells()
    found = row(summarize(table), "zeta")
    runs = Runs(table[table["encoder"] == "zeta"])
    theirs = 1 - by_hand(table, "pixels")["corruption"]
    baseline = {name: theirs[name].to_numpy() for name in ("fog", "snow")}
    errors = 1 - runs.means(CONDITIONS)
    resampled = [mce({"fog": one[:3], "snow": one[3:]}, baseline) for one in errors[1:]]
    low, high = np.quantile(resampled, [0.025, 0.975])
    assert found["mce_low[baseline=pixels]"] == pytest.approx(low, abs=1e-12)
    assert found["mce_high[baseline=pixels]"] == pytest.approx(high, abs=1e-12)


def test_interval_against_an_independent_bootstrap():
    table = cells({"pixels": [None]}, seeds=12)
    values = table[table["shift"] == "clean"]["value"].to_numpy()
    replicates = np.random.default_rng(99).choice(values, (200_000, len(values))).mean(axis=1)
    low, high = np.quantile(replicates, [0.025, 0.975])
    found = row(summarize(table), "pixels")
    # The 2.5 % quantile of 1,000 replicates has a standard error of about 0.085 standard deviations.
    assert [found["clean_low"], found["clean_high"]] == pytest.approx([low, high], abs=0.3 * replicates.std())


@pytest.mark.parametrize("resamples", [1, 2, 7, 400])
def test_bounds_are_quantiles_of_the_resamples_that_are_defined(resamples):
    noise = np.random.default_rng(0)
    values = noise.normal(size=(2500, 1 + resamples))
    values[noise.random(values.shape) < 0.1] = np.nan
    values[3, 1:], values[4, 1:] = np.nan, 0.25
    found = intervals(values)
    for numbers, resampled in zip(found, values, strict=True):
        known = resampled[1:][np.isfinite(resampled[1:])]
        bounded = np.isfinite(resampled[0]) and len(known)
        wanted = np.quantile(known, [0.025, 0.975]) if bounded else [np.nan, np.nan]
        np.testing.assert_allclose(numbers, [resampled[0], *wanted], rtol=1e-14, atol=1e-14)


def test_bounds_of_two_runs_are_the_runs():
    # Three of the four equally likely resamples are one of the runs twice, or both: the outer quarters reach the runs.
    table = cells({"pixels": [None]}, seeds=2)
    found = row(summarize(table), "pixels")
    values = table[table["shift"] == "clean"]["value"]
    assert [found["clean_low"], found["clean_high"]] == pytest.approx([values.min(), values.max()])


def test_drops_stay_paired():
    """A run that is better by a constant under every condition leaves the drop without any spread."""
    table = cells({"pixels": [None]}, conditions=CONDITIONS[:1])
    better = table["seed"] * 0.03
    level = table["shift"].map({"clean": 0.7, "corruption": 0.4, "chance": 0.1})
    found = row(summarize(table.assign(value=level + better)), "pixels")
    assert found["drop_low"] == pytest.approx(0.3) == found["drop_high"]
    assert found["clean_high"] - found["clean_low"] > 0.02


def test_resamples_draw_training_seeds_first():
    """Many clusterings of three trained encoders are three pieces of evidence about training, not thirty."""
    table = cells({"zeta": [0, 1, 2]}, seeds=10)
    runs = Runs(table.assign(value=table["train_seed"].astype(float)))
    clean = runs.clean
    assert clean[0] == pytest.approx(1)
    combinations = {sum(three) / 3 for three in itertools.product(range(3), repeat=3)}
    assert {round(value, 9) for value in clean[1:]} == {round(value, 9) for value in combinations}
    # Each of 0 and 2 needs the same encoder three times, one in 27; 4 standard errors of a share over the resamples.
    share, expected = np.mean(clean[1:] == 0), 1 / 27
    assert share == pytest.approx(expected, abs=4 * np.sqrt(expected / RESAMPLES))
    assert interval(clean)[1:] == pytest.approx((0, 2))


def test_resamples_also_draw_clusterings_within_an_encoder():
    table = cells({"zeta": [0, 1]}, seeds=5)
    runs = Runs(table.assign(value=table["seed"] / 4))
    assert len(np.unique(runs.clean[1:])) > 10
    assert runs.clean[1:].mean() == pytest.approx(0.5, abs=4 * runs.clean[1:].std() / np.sqrt(RESAMPLES))


def test_one_run_has_no_interval():
    summary = summarize(cells({"pixels": [None]}, seeds=1))
    bounds = [column for column in summary if "_low" in column or "_high" in column]
    assert len(bounds) == 24
    # The only encoder is the first with and without shift, whatever the runs.
    assert summary[[name for name in bounds if not name.startswith("rank")]].isna().all(axis=None)
    assert np.isfinite(row(summary, "pixels")[["clean", "shifted", "drop", "worst"]].astype(float)).all()


@pytest.mark.parametrize("seeds", [1, 4])
def test_with_replicates_the_interval_is_that_of_images_and_seeds(seeds):
    table = cells(seeds=seeds)
    replicates = drawn(table)
    summary = summarize(table, replicates=replicates)
    mine = (
        replicates[(replicates["encoder"] == "alpha") & (replicates["shift"] == "corruption")].filter(regex="^b").mean()
    )
    clean = replicates[(replicates["encoder"] == "alpha") & (replicates["shift"] == "clean")].filter(regex="^b").iloc[0]
    found, without = row(summary, "alpha"), row(summarize(table), "alpha")
    for name, values in {"clean": clean, "shifted": mine, "drop": clean - mine}.items():
        assert found[name] == pytest.approx(without[name], abs=1e-12)  # the value itself is that of the cells
        low, high = np.quantile(values, [0.025, 0.975])
        assert [found[f"{name}_low"], found[f"{name}_high"]] == pytest.approx([low, high], abs=1e-6)
    # What all conditions have in common leaves the drop.
    assert found["drop_high"] - found["drop_low"] < 0.5 * (found["clean_high"] - found["clean_low"])
    assert np.isfinite(found[["mce_low[baseline=pixels]", "calibrated_drop_high", "area_low"]].astype(float)).all()


def test_training_seeds_are_drawn_on_top_of_replicates():
    table = cells()
    replicates = drawn(table)
    columns = [name for name in replicates if name.startswith("b")]
    clean = replicates[(replicates["encoder"] == "zeta") & (replicates["shift"] == "clean")].sort_values("train_seed")
    weights = resample_weights(2, len(columns), stream=TRAININGS)
    expected = (clean[columns].to_numpy(float) * weights).sum(axis=0) / 2
    low, high = np.quantile(expected, [0.025, 0.975])
    found = row(summarize(table, replicates=replicates), "zeta")
    assert [found["clean_low"], found["clean_high"]] == pytest.approx([low, high], abs=1e-6)


def test_ranks_use_the_resamples_that_all_encoders_have():
    """One encoder has 60 replicates, the other one 1000 bootstraps of its runs."""
    table = cells({"pixels": [None], "alpha": [None]})
    replicates = drawn(table)
    summary = summarize(table, replicates=replicates[replicates["encoder"] == "alpha"])
    bounds = summary[["rank_clean_low", "rank_clean_high", "rank_change_low", "rank_change_high"]]
    assert np.isfinite(bounds[summary["shift"] == "corruption"].to_numpy(float)).all()


def test_incomplete_replicates_leave_the_bootstrap_of_runs():
    table = cells()
    replicates = drawn(table)
    lost = replicates[(replicates["encoder"] != "alpha") | (replicates["corruption"] != "fog")]
    found, runs_only = (summarize(table, replicates=one) for one in (lost, None))
    names = ["clean_low", "clean_high", "shifted_low", "drop_high"]
    assert row(found, "alpha")[names].tolist() == row(runs_only, "alpha")[names].tolist()
    assert row(found, "pixels")["clean_low"] != row(runs_only, "pixels")["clean_low"]
    pd.testing.assert_frame_equal(summarize(table, replicates=replicates.iloc[:0]), runs_only)


def test_ranks_of_encoders_that_cannot_be_told_apart_are_unsure():
    table = cells({"pixels": [None], "alpha": [None]}, seeds=8)
    found = row(summarize(table), "alpha")
    assert (found["rank_clean_low"], found["rank_clean_high"]) == (1, 2)


def test_effective_robustness_has_an_interval():
    summary = summarize(cells({f"e{i}": [None] for i in range(6)}))
    shifted = summary[summary["shift"] == "corruption"]
    assert (shifted["effective_robustness_low"] < shifted["effective_robustness_high"]).all()
