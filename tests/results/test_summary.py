"""The summary against numbers worked out in plain pandas and loops."""

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import trapezoid
from summary_cells import CONDITIONS, ENCODERS, by_hand, cells, row

from shiftbench.metrics.robustness import effective_robustness
from shiftbench.results.schema import validate
from shiftbench.results.summary import summarize
from shiftbench.results.tables import cells_table


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


def test_a_failed_encoder_has_no_rank_and_takes_none():
    every = {("alpha", condition) for condition in [*CONDITIONS, ("clean", "", 0)]}
    summary = summarize(cells(failed=every))
    assert np.isnan(row(summary, "alpha")["rank_shifted"])
    assert sorted(row(summary, name)["rank_shifted"] for name in ("zeta", "pixels")) == [1, 2]


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
