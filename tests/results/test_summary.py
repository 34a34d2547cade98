"""The summary against numbers worked out in plain pandas and loops."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import trapezoid

from shiftbench.metrics.robustness import effective_robustness, mce
from shiftbench.results.resample import TRAININGS, resample_weights
from shiftbench.results.runs import intervals
from shiftbench.results.schema import validate
from shiftbench.results.summary import CONDITION, RESAMPLES, Runs, interval, summarize
from shiftbench.results.tables import REPLICATE_KEYS, cells_table, replicates_table

ENCODERS = {"zeta": [0, 1], "pixels": [None], "alpha": [None]}
CONDITIONS = [("corruption", name, severity) for name in ("fog", "snow") for severity in (1, 2, 3)]


def cells(encoders=ENCODERS, seeds=4, conditions=CONDITIONS, failed=(), metric="acc"):
    """Random cells: 0.1 chance, about 0.8 clean, about 0.5 shifted."""
    noise = np.random.default_rng(5)
    rows = []
    for encoder, trained in encoders.items():
        for train_seed, seed, condition in itertools.product(
            trained, range(seeds), [("clean", "", 0), ("chance", "", 0), *conditions]
        ):
            shift, corruption, severity = condition
            level = {"clean": 0.8, "chance": 0.1}.get(shift, 0.6 - 0.08 * severity)
            broken = (encoder, condition) in failed
            rows.append(
                {
                    "encoder": encoder, "train_seed": train_seed, "data": "digits", "split": "test", "shift": shift,
                    "corruption": corruption, "severity": severity, "table": "cifar", "feature": "backbone",
                    "clusterer": "kmeans", "k": 10, "k_source": "true", "seed": seed, "protocol": "frozen",
                    "fit_split": "train", "selection": "last", "metric": metric,
                    "value": np.nan if broken else level + 0.05 * noise.standard_normal(),
                    "higher_is_better": True, "n": 360, "status": "failed" if broken else "ok",
                    "reason": "no memory" if broken else "",
                }
            )  # fmt: skip
    return cells_table(rows)


def row(summary, encoder, shift="corruption"):
    found = summary[(summary["encoder"] == encoder) & (summary["shift"] == shift)]
    assert len(found) == 1
    return found.iloc[0]


def by_hand(table, encoder, column="value"):
    """Mean value per condition, straight from the cells."""
    mine = table[(table["encoder"] == encoder) & (table["status"] == "ok")]
    return mine.groupby(CONDITION)[column].mean()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_quantities_are_means_over_runs_and_conditions(encoder):
    table = cells()
    found, means = row(summarize(table), encoder), by_hand(table, encoder)
    clean, shifted, chance = means["clean"].item(), means["corruption"].mean(), means["chance"].item()
    assert found["clean"] == pytest.approx(clean, abs=1e-12)
    assert found["shifted"] == pytest.approx(shifted, abs=1e-12)
    assert found["chance"] == pytest.approx(chance, abs=1e-12)
    assert found["drop"] == pytest.approx(clean - shifted, abs=1e-12)
    assert found["calibrated_drop"] == pytest.approx((clean - shifted) / (clean - chance), abs=1e-12)
    name, severity = means["corruption"].idxmin()
    assert found["worst"] == pytest.approx(means["corruption"].min(), abs=1e-12)
    assert found["worst_case"] == f"{name}-{severity}"
    assert found["n_runs"] == 4 * len(ENCODERS[encoder])
    assert found["n_ok"] == found["n_cells"] == found["n_runs"] * len(CONDITIONS)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("baseline", ["pixels", "zeta"])
def test_mce_by_brute_force(encoder, baseline):
    table = cells()
    found = row(summarize(table, baseline), encoder)
    ours, theirs = by_hand(table, encoder), by_hand(table, baseline)
    plain, relative = [], []
    for corruption in ("fog", "snow"):
        errors = [[1 - side["corruption", corruption, s] for s in (1, 2, 3)] for side in (ours, theirs)]
        clean = [1 - side["clean"].item() for side in (ours, theirs)]
        plain.append(sum(errors[0]) / sum(errors[1]))
        relative.append(sum(e - clean[0] for e in errors[0]) / sum(e - clean[1] for e in errors[1]))
    assert found[f"mce[baseline={baseline}]"] == pytest.approx(np.mean(plain), abs=1e-12)
    assert found[f"relative_mce[baseline={baseline}]"] == pytest.approx(np.mean(relative), abs=1e-12)
    if encoder == baseline:
        assert found[f"mce[baseline={baseline}]"] == pytest.approx(1)


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
    for numbers, row in zip(found, values, strict=True):
        known = row[1:][np.isfinite(row[1:])]
        bounded = np.isfinite(row[0]) and len(known)
        wanted = np.quantile(known, [0.025, 0.975]) if bounded else [np.nan, np.nan]
        np.testing.assert_allclose(numbers, [row[0], *wanted], rtol=1e-14, atol=1e-14)


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


def test_failures_are_left_out_and_counted():
    table = cells(failed={("alpha", ("corruption", "fog", 2))})
    found = row(summarize(table), "alpha")
    means = by_hand(table, "alpha")["corruption"]
    assert len(means) == len(CONDITIONS) - 1
    assert found["shifted"] == pytest.approx(means.mean(), abs=1e-12)
    assert (found["n_ok"], found["n_cells"]) == (4 * 5, 4 * 6)
    # A mean corruption error over fewer conditions than the baseline's is another number: there is none.
    assert np.isnan(found["mce[baseline=pixels]"])
    assert np.isnan(found["relative_mce_high[baseline=pixels]"])
    assert np.isfinite(row(summarize(table), "zeta")["mce[baseline=pixels]"])


def test_failed_baseline_leaves_no_mce():
    summary = summarize(cells(failed={("pixels", ("corruption", "fog", 2))}))
    assert summary["mce[baseline=pixels]"].isna().all()


def test_everything_failed():
    every = {("alpha", condition) for condition in [*CONDITIONS, ("clean", "", 0), ("chance", "", 0)]}
    found = row(summarize(cells(failed=every)), "alpha")
    assert found[["clean", "shifted", "drop", "worst", "mce[baseline=pixels]"]].isna().all()
    assert (found["n_runs"], found["n_ok"], found["n_cells"]) == (0, 0, 24)


def test_a_failed_clean_split_leaves_no_drop():
    found = row(summarize(cells(failed={("alpha", ("clean", "", 0))})), "alpha")
    assert np.isnan(found["drop"])
    assert np.isfinite(found["shifted"])


def test_calibrated_drop_needs_a_clean_score_above_chance():
    table = cells({"pixels": [None]})
    lucky = table.assign(value=table["value"].where(table["shift"] != "chance", 0.95))
    assert np.isnan(row(summarize(lucky), "pixels")["calibrated_drop"])


def test_encoders_keep_their_order():
    assert list(dict.fromkeys(summarize(cells())["encoder"])) == list(ENCODERS)


def test_rows_are_clean_and_shift_but_not_chance():
    summary = summarize(cells())
    assert sorted(set(summary["shift"])) == ["clean", "corruption"]
    clean = row(summary, "zeta", "clean")
    assert np.isfinite(clean["clean"])
    assert clean["worst_case"] == ""
    assert clean[["shifted", "drop", "mce[baseline=pixels]"]].isna().all()


def test_without_the_baseline_the_columns_stay_empty():
    summary = summarize(cells({"alpha": [None]}))
    assert summary["mce[baseline=pixels]"].isna().all()


def test_encoders_without_a_training_seed_are_measured():
    assert row(summarize(cells()), "pixels")["n_runs"] == 4


def test_empty_cells_give_the_same_columns():
    assert list(summarize(cells_table([])).columns) == list(summarize(cells()).columns)
    assert len(summarize(cells_table([]))) == 0


def test_metrics_are_apart():
    table = pd.concat([cells(metric="acc"), cells(metric="ari").assign(value=0.25)])
    summary = summarize(table)
    assert set(summary["metric"]) == {"acc", "ari"}
    assert (summary[summary["metric"] == "ari"]["clean"] == 0.25).all()


def test_effective_robustness_needs_five_encoders():
    few = summarize(cells())
    assert few["effective_robustness"].isna().all()
    assert row(few, "alpha")["effective_robustness_reason"] == "needs 5 encoders with scores between 0 and 1, has 3"
    many = summarize(cells({f"e{i}": [None] for i in range(6)}))
    shifted = many[many["shift"] == "corruption"]
    expected = effective_robustness(shifted["clean"].to_numpy(), shifted["shifted"].to_numpy())
    assert shifted["effective_robustness"].to_numpy() == pytest.approx(expected)
    assert (shifted["effective_robustness_reason"] == "").all()


def test_the_same_cells_in_another_order_give_the_same_summary():
    table = cells()
    shuffled = table.sample(frac=1, random_state=3)
    ordered = pd.concat([shuffled[shuffled["encoder"] == encoder] for encoder in ENCODERS])
    pd.testing.assert_frame_equal(summarize(table), summarize(ordered), check_exact=False, rtol=1e-12)


def test_an_encoder_has_rows_for_its_own_shifts_only():
    table = cells()
    fewer = table[(table["encoder"] != "alpha") | (table["shift"] != "corruption")]
    summary = summarize(fewer)
    assert set(summary[summary["encoder"] == "alpha"]["shift"]) == {"clean"}
    assert set(summary[summary["encoder"] == "zeta"]["shift"]) == {"clean", "corruption"}


def drawn(table, resamples=60, spread=0.01, seed=0):
    """Draws around the mean over seeds of each training: common to all encoders (images), and each one's own."""
    noise = np.random.default_rng(seed)
    common = spread * noise.standard_normal(resamples)
    rows = []
    measured = table[(table["status"] == "ok") & (table["shift"] != "chance")]
    for key, values in measured.groupby(REPLICATE_KEYS, sort=False, dropna=False)["value"]:
        own = 0.1 * spread * noise.standard_normal(resamples)
        rows.append(dict(zip(REPLICATE_KEYS, key, strict=True)) | {"replicates": values.mean() + common + own})
    return replicates_table(pd.DataFrame(rows).astype({"train_seed": "Int64"}).to_dict("records"))


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


def test_lower_is_better():
    table = cells({"pixels": [None], "alpha": [None]}).assign(higher_is_better=False, metric="collapsed")
    summary = summarize(table)
    found, means = row(summary, "alpha"), by_hand(table, "alpha")
    assert found["drop"] == pytest.approx(means["corruption"].mean() - means["clean"].item())
    gained = [
        [0, *(means["corruption", name, s] - means["clean"].item() for s in (1, 2, 3))] for name in ("fog", "snow")
    ]
    assert found["area"] == pytest.approx(np.mean([trapezoid(curve) / 3 for curve in gained]))
    name, severity = means["corruption"].idxmax()
    assert (found["worst"], found["worst_case"]) == (pytest.approx(means["corruption"].max()), f"{name}-{severity}")
    assert summary[["mce[baseline=pixels]", "effective_robustness"]].isna().all(axis=None)
    assert row(summary, "alpha", "clean")["rank_clean"] == 1 + (
        by_hand(table, "pixels")["clean"].item() < means["clean"].item()
    )


def test_area_by_hand():
    table = cells()
    found, means = row(summarize(table), "pixels"), by_hand(table, "pixels")
    areas = []
    for corruption in ("fog", "snow"):
        lost = [0, *(means["clean"].item() - means["corruption", corruption, s] for s in (1, 2, 3))]
        areas.append(sum((lost[i] + lost[i + 1]) / 2 for i in range(3)) / 3)
    assert found["area"] == pytest.approx(np.mean(areas))
    assert found["area_low"] < found["area"] < found["area_high"]


def test_area_of_corruptions_with_different_severities():
    table = cells(conditions=[*CONDITIONS, ("corruption", "frost", 1), ("corruption", "frost", 4)])
    found, means = row(summarize(table), "pixels"), by_hand(table, "pixels")
    areas = []
    for corruption, severities in (("fog", (1, 2, 3)), ("snow", (1, 2, 3)), ("frost", (1, 4))):
        scores = means["clean"].item(), *(means["corruption", corruption, s] for s in severities)
        areas.append(scores[0] - trapezoid(scores, [0, *severities]) / severities[-1])
    assert found["area"] == pytest.approx(np.mean(areas))


def test_area_needs_every_severity():
    table = cells(failed={("alpha", ("corruption", "fog", 2))})
    assert np.isnan(row(summarize(table), "alpha")["area"])
    natural = [("cifar10.1", "", 0)]
    assert np.isnan(row(summarize(cells(conditions=natural)), "alpha", "cifar10.1")["area"])


def test_ranks():
    table = cells({"pixels": [None], "alpha": [None], "beta": [None]})
    level = {"pixels": (0.9, 0.3), "alpha": (0.8, 0.5), "beta": (0.8, 0.6)}
    value = [level[e][s == "corruption"] for e, s in zip(table["encoder"], table["shift"], strict=True)]
    summary = summarize(table.assign(value=value))
    ranks = {name: row(summary, name)[["rank_clean", "rank_shifted", "rank_change"]].tolist() for name in level}
    assert ranks == {"pixels": [1, 3, 2], "alpha": [2.5, 2, -0.5], "beta": [2.5, 1, -1.5]}
    assert row(summary, "beta")["rank_shifted_low"] == row(summary, "beta")["rank_shifted_high"] == 1


def test_ranks_of_encoders_that_cannot_be_told_apart_are_unsure():
    table = cells({"pixels": [None], "alpha": [None]}, seeds=8)
    found = row(summarize(table), "alpha")
    assert (found["rank_clean_low"], found["rank_clean_high"]) == (1, 2)


def test_a_failed_encoder_has_no_rank_and_takes_none():
    every = {("alpha", condition) for condition in [*CONDITIONS, ("clean", "", 0)]}
    summary = summarize(cells(failed=every))
    assert np.isnan(row(summary, "alpha")["rank_shifted"])
    assert sorted(row(summary, name)["rank_shifted"] for name in ("zeta", "pixels")) == [1, 2]


def test_effective_robustness_has_an_interval():
    summary = summarize(cells({f"e{i}": [None] for i in range(6)}))
    shifted = summary[summary["shift"] == "corruption"]
    assert (shifted["effective_robustness_low"] < shifted["effective_robustness_high"]).all()


def partial(table, shift="imagenet_r"):
    """Beside the corruption a natural shift with some classes only, and its own clean pair."""
    clean = table[table["shift"] == "clean"]
    own = {"split": f"test[{shift}]", "k": 10}
    return cells_table(
        pd.concat(
            [
                table,
                clean.assign(value=0.95, **own),
                clean.assign(shift="chance", value=0.3, **own),
                clean.assign(shift=shift, value=0.45, **own),
            ]
        )
    )


def test_a_shift_is_compared_with_the_clean_images_of_its_classes():
    table = cells()
    summary = summarize(partial(table))
    found = row(summary, "alpha", "imagenet_r")
    assert (found["split"], found["clean"], found["shifted"], found["chance"]) == pytest.approx(
        ("test[imagenet_r]", 0.95, 0.45, 0.3)
    )
    assert found["drop"] == pytest.approx(0.5)
    assert found["calibrated_drop"] == pytest.approx(0.5 / 0.65)
    assert found["worst_case"] == "imagenet_r"
    clean = summary[(summary["encoder"] == "alpha") & (summary["shift"] == "clean")]
    assert clean.set_index("split")["clean"].to_dict() == pytest.approx(
        {"test": by_hand(table, "alpha")["clean"].item(), "test[imagenet_r]": 0.95}
    )
    names = [name for name in summary if name not in ("split", "rank_clean_low", "rank_clean_high")]
    whole = row(summarize(table), "alpha")
    pd.testing.assert_series_equal(row(summary, "alpha")[names], whole[names], check_names=False)


def test_a_shift_with_fewer_clusters_keeps_its_own_clean_pair():
    table = partial(cells())
    table = cells_table(table.assign(k=table["k"].where(table["split"] == "test", 4)))
    summary = summarize(table)
    found = row(summary, "alpha", "imagenet_r")
    assert (found["k"], found["clean"], found["drop"]) == pytest.approx((4, 0.95, 0.5))


def test_keys_tell_rows_apart():
    validate("summary", summarize(partial(cells())))
