"""Pairs of encoders against differences, intervals and tests worked out in loops."""

import itertools

import numpy as np
import pandas as pd
import pytest

from shiftbench.metrics.inference import holm
from shiftbench.results.comparisons import compare
from shiftbench.results.runs import Runs
from shiftbench.results.schema import COMPARISONS, validate
from shiftbench.results.tables import REPLICATE_KEYS, cells_table, replicates_table

LEVELS = {"zeta": 0.7, "pixels": 0.3, "alpha": 0.69}
CONDITIONS = [("corruption", name, severity) for name in ("fog", "snow") for severity in (1, 2)]


def cells(levels=LEVELS, seeds=3, failed=(), **changes):
    noise = np.random.default_rng(1)
    rows = []
    for (encoder, level), condition, seed in itertools.product(
        levels.items(), [("clean", "", 0), ("chance", "", 0), *CONDITIONS], range(seeds)
    ):
        shift, corruption, severity = condition
        broken = (encoder, condition) in failed
        rows.append(
            {
                "encoder": encoder, "train_seed": None, "data": "digits", "split": "test", "shift": shift,
                "corruption": corruption, "severity": severity, "table": "cifar", "feature": "backbone",
                "clusterer": "kmeans", "k": 10, "k_source": "true", "seed": seed, "protocol": "frozen",
                "fit_split": "train", "selection": "last", "metric": "acc",
                "value": np.nan if broken else level - 0.1 * severity + 0.01 * noise.standard_normal(),
                "higher_is_better": True, "n": 360, "status": "failed" if broken else "ok",
                "reason": "no memory" if broken else "",
            } | changes
        )  # fmt: skip
    return cells_table(rows)


def drawn(table, resamples=200):
    """Hard images are hard for everybody: a large common part, and a small one of each encoder."""
    noise = np.random.default_rng(2)
    common = 0.05 * noise.standard_normal(resamples)
    rows = []
    for key, values in table[(table["status"] == "ok") & (table["shift"] != "chance")].groupby(
        REPLICATE_KEYS, sort=False, dropna=False
    )["value"]:
        own = 0.01 * noise.standard_normal(resamples)
        rows.append(dict(zip(REPLICATE_KEYS, key, strict=True)) | {"replicates": values.mean() + common + own})
    return replicates_table(pd.DataFrame(rows).astype({"train_seed": "Int64"}).to_dict("records"))


def pair(table, a, b, shift="corruption"):
    [found] = table[(table["encoder_a"] == a) & (table["encoder_b"] == b) & (table["shift"] == shift)].to_dict(
        "records"
    )
    return found


def test_every_pair_once_per_shift():
    table = compare(cells())
    assert list(table.columns) == COMPARISONS
    for shift in ("clean", "corruption"):
        pairs = table[table["shift"] == shift][["encoder_a", "encoder_b"]].itertuples(index=False, name=None)
        assert list(pairs) == [("zeta", "pixels"), ("zeta", "alpha"), ("pixels", "alpha")]
    validate("comparisons", table)


@pytest.mark.parametrize("shift", ["clean", "corruption"])
def test_differences_intervals_and_tests_by_hand(shift):
    table = cells()
    replicates = drawn(table)
    found = compare(table, replicates)
    columns = [name for name in replicates if name.startswith("b")]
    values = table[table["shift"] == shift].groupby("encoder")["value"].mean()
    resampled = replicates[replicates["shift"] == shift].groupby("encoder")[columns].mean()
    p = []
    for a, b in (("zeta", "pixels"), ("zeta", "alpha"), ("pixels", "alpha")):
        one, difference = pair(found, a, b, shift), values[a] - values[b]
        each = (resampled.loc[a] - resampled.loc[b]).to_numpy(float)
        assert one["difference"] == pytest.approx(difference)
        assert (one["low"], one["high"]) == pytest.approx(np.quantile(each, [0.025, 0.975]), abs=1e-6)
        p.append((1 + np.sum(np.abs(each - difference) >= abs(difference))) / 201)
        assert one["p"] == pytest.approx(p[-1])
        assert one["n_conditions"] == (1 if shift == "clean" else 4)
        assert one["reason"] == ""
    adjusted = [
        pair(found, a, b, shift)["p_holm"] for a, b in (("zeta", "pixels"), ("zeta", "alpha"), ("pixels", "alpha"))
    ]
    np.testing.assert_allclose(adjusted, holm(p))


def test_what_is_hard_for_everybody_does_not_blur_a_difference():
    table = cells()
    one = pair(compare(table, drawn(table)), "zeta", "pixels")
    assert one["high"] - one["low"] < 0.05  # the common part alone spreads by 0.2
    assert one["p"] == one["p_joint"] == 1 / 201
    assert one["p_holm"] == pytest.approx(3 / 201)


def test_a_pair_is_compared_on_what_both_have():
    missing = ("corruption", "fog", 1)
    table = cells(failed={("alpha", missing)})
    one = pair(compare(table, drawn(table)), "zeta", "alpha")
    shifted = table[(table["shift"] == "corruption") & ~((table["corruption"] == "fog") & (table["severity"] == 1))]
    means = shifted.groupby("encoder")["value"].mean()
    assert one["n_conditions"] == 3
    assert one["difference"] == pytest.approx(means["zeta"] - means["alpha"])
    assert pair(compare(table), "zeta", "pixels")["n_conditions"] == 4


def test_each_pair_has_its_own_conditions():
    failed = {("alpha", CONDITIONS[0]), ("alpha", CONDITIONS[1]), ("zeta", CONDITIONS[1]), ("beta", CONDITIONS[3])}
    table = cells(LEVELS | {"beta": 0.5, "gamma": 0.4}, failed=failed)
    replicates = drawn(table)
    found = compare(table, replicates)
    assert len(found[found["shift"] == "corruption"]) == 10
    for a, b in itertools.combinations(table["encoder"].unique(), 2):
        lost = {condition for encoder, condition in failed if encoder in (a, b)}
        keys = [key for key in CONDITIONS if key not in lost]
        sides = []
        for encoder in (a, b):
            rows = replicates[replicates["encoder"] == encoder].set_index(["shift", "corruption", "severity"])
            sides.append(rows.loc[keys].filter(regex=r"^b\d").to_numpy(np.float64).mean(axis=0))
        one = pair(found, a, b)
        assert one["n_conditions"] == len(keys)
        assert [one["low"], one["high"]] == pytest.approx(np.quantile(sides[0] - sides[1], [0.025, 0.975]), abs=1e-12)


def test_nothing_in_common_is_no_pair():
    table = cells(failed={("alpha", condition) for condition in CONDITIONS})
    found = compare(table)
    assert len(found[found["shift"] == "corruption"]) == 1
    assert len(found[found["shift"] == "clean"]) == 3


def test_without_replicates_runs_are_resampled():
    one = pair(compare(cells(seeds=6)), "zeta", "pixels")
    assert one["low"] <= one["difference"] <= one["high"]
    assert one["p"] < 0.01


def test_a_pair_with_unequal_numbers_of_resamples_is_compared_on_those_that_both_have():
    """zeta has 200 replicates; alpha has none, so that its 1000 resamples are those of its runs."""
    table = cells({"zeta": 0.7, "alpha": 0.69})
    replicates = drawn(table)
    ours = replicates[replicates["encoder"] == "zeta"]
    one = pair(compare(table, ours), "zeta", "alpha", "clean")
    each = ours[ours["shift"] == "clean"].filter(regex=r"^b\d").to_numpy(float)[0]
    theirs = Runs(table[table["encoder"] == "alpha"]).clean[1:201]
    assert (one["low"], one["high"]) == pytest.approx(np.quantile(each - theirs, [0.025, 0.975]), abs=1e-6)


def test_one_run_has_a_difference_and_a_reason():
    one = pair(compare(cells(seeds=1)), "zeta", "pixels")
    assert np.isfinite(one["difference"])
    assert np.isnan([one["low"], one["p"], one["p_holm"], one["p_joint"]]).all()
    assert one["reason"] == "one run, and no resamples of its images"


def test_equal_encoders_differ_by_nothing():
    table = cells({"zeta": 0.5, "alpha": 0.5})
    table = table.assign(value=0.5)
    one = pair(compare(table), "zeta", "alpha")
    assert (one["difference"], one["low"], one["high"]) == (0, 0, 0)
    assert np.isnan(one["p"])
    assert one["reason"] == "all resamples are equal"


def test_settings_are_apart():
    both = pd.concat([cells(), cells(clusterer="ward")])
    table = compare(cells_table(both))
    assert len(table) == 2 * len(compare(cells()))
    validate("comparisons", table)


def test_one_encoder_has_no_pairs():
    assert compare(cells({"zeta": 0.5})).empty
    assert list(compare(cells_table([])).columns) == COMPARISONS
