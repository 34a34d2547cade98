"""Does a label-free quantity follow the drop: against scipy, on tables with a known answer."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from shiftbench.results.proxies import ALL, MIN_CONDITIONS, proxies
from shiftbench.results.schema import PROXIES, PROXY_KEYS, validate
from shiftbench.results.tables import cells_table, stability_table

CONDITIONS = [("corruption", f"c{i}", severity) for i in range(4) for severity in (1, 2, 3)]
NOISE = np.random.default_rng(0)
HARM = {(e, *c): h for (e, c), h in zip(itertools.product("ab", CONDITIONS), NOISE.random(24), strict=True)}
OTHER = {key: value + 0.3 * NOISE.standard_normal() for key, value in HARM.items()}


def cell(encoder, condition, metric, value, **changes):
    shift, corruption, severity = condition
    return {
        "encoder": encoder, "train_seed": None, "data": "digits", "split": "test", "shift": shift,
        "corruption": corruption, "severity": severity, "table": "cifar", "feature": "backbone",
        "clusterer": "kmeans", "k": 10, "k_source": "true", "seed": 0, "protocol": "frozen", "fit_split": "train",
        "selection": "last", "metric": metric, "value": value, "higher_is_better": True, "n": 9, "status": "ok",
        "reason": "",
    } | changes  # fmt: skip


def measured(harm=HARM, other=OTHER, conditions=CONDITIONS, encoders="ab"):
    rows = []
    clean = ("clean", "", 0)
    of_features = {"clusterer": "features", "k": 0, "k_source": "", "protocol": "", "fit_split": ""}
    for encoder in encoders:
        rows += [cell(encoder, clean, "acc", 0.9), cell(encoder, clean, "silhouette", 0.7)]
        rows += [cell(encoder, clean, "collapsed", 1, higher_is_better=False)]
        for condition in conditions:
            key = (encoder, *condition)
            rows += [
                cell(encoder, condition, "acc", 0.9 - 0.5 * harm[key]),
                cell(encoder, condition, "silhouette", 0.7 - other[key]),
                cell(encoder, condition, "collapsed", 1 + 3 * harm[key], higher_is_better=False),
                cell(encoder, condition, "frechet", harm[key] ** 2, higher_is_better=False, **of_features),
            ]
    stability = [
        {key: value for key, value in cell(e, c, "ari", 0).items() if key not in ("seed", "fit_split", "selection")}
        | {"axis": "shift", "mean": 1 - harm[(e, *c)] / 2, "sd": 0.1, "ci_low": 0.1, "ci_high": 0.2, "n_pairs": 3}
        for e, c in itertools.product(encoders, conditions)
    ]
    return cells_table(rows), stability_table(stability)


def found(table, encoder, proxy, shift="corruption"):
    rows = table[(table["encoder"] == encoder) & (table["proxy"] == proxy) & (table["shift"] == shift)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_one_row_per_encoder_and_quantity():
    table = proxies(*measured())
    assert list(table.columns) == PROXIES
    assert sorted(set(table["proxy"])) == ["collapsed", "frechet", "shift_ari", "silhouette"]
    assert list(dict.fromkeys(table["encoder"])) == ["a", "b", ALL]
    assert len(table) == 3 * 4
    assert set(table["metric"]) == {"acc"}
    validate("proxies", table)


def test_rows_are_in_the_order_of_their_keys():
    cells, stability = measured(encoders="ba")
    shuffled = cells.iloc[np.argsort(cells["metric"] != "silhouette", kind="stable")]
    table = proxies(pd.concat([shuffled, shuffled.assign(clusterer="average")]), stability)
    assert list(dict.fromkeys(table["encoder"])) == ["b", "a", ALL]
    keys = [key for key in PROXY_KEYS if key != "encoder"]
    for _, part in table.groupby("encoder", sort=False):
        assert part[keys].apply(tuple, axis=1).is_monotonic_increasing


@pytest.mark.parametrize("encoder", ["a", "b"])
def test_coefficients_as_scipy(encoder):
    one = found(proxies(*measured()), encoder, "silhouette")
    keys = [key for key in HARM if key[0] == encoder]
    pairs = [[source[key] for key in keys] for source in (HARM, OTHER)]
    assert one["spearman"] == pytest.approx(stats.spearmanr(*pairs).statistic)
    assert one["kendall"] == pytest.approx(stats.kendalltau(*pairs).statistic)
    assert one["spearman_low"] < one["spearman"] < one["spearman_high"]
    assert one["kendall_low"] < one["kendall"] < one["kendall_high"]
    assert (one["n"], one["reason"]) == (12, "")


def test_all_encoders_in_one_order():
    one = found(proxies(*measured()), ALL, "silhouette")
    assert one["spearman"] == pytest.approx(stats.spearmanr(list(HARM.values()), list(OTHER.values())).statistic)
    assert one["n"] == 12  # conditions, which are what is drawn
    assert (one["feature"], one["selection"]) == (ALL, ALL)


@pytest.mark.parametrize("proxy", ["collapsed", "frechet", "shift_ari"])
@pytest.mark.parametrize("encoder", ["a", "b", ALL])
def test_what_follows_the_drop_has_one_whatever_its_direction(encoder, proxy):
    """More clusters collapsed, a larger distance, less agreement: each is worse."""
    one = found(proxies(*measured()), encoder, proxy)
    numbers = ["spearman", "spearman_low", "spearman_high", "kendall", "kendall_low", "kendall_high"]
    assert one[numbers].tolist() == pytest.approx([1] * 6)


def test_agreement_among_starts_is_compared_with_that_on_clean_images():
    cells, stability = measured()
    starts = stability.assign(axis="initialization")
    clean = starts[starts["corruption"] == "c0"].drop_duplicates("encoder")
    clean = clean.assign(shift="clean", corruption="", severity=0, mean=[0.9, 0.1])
    stability = stability_table(pd.concat([starts, clean]))
    table = proxies(cells, stability)
    assert found(table, "a", "initialization_ari")["spearman"] == pytest.approx(1)
    # Over all encoders it is the drop that counts, and b starts from 0.1.
    drops = [(0.9 if key[0] == "a" else 0.1) - (1 - harm / 2) for key, harm in HARM.items()]
    expected = stats.spearmanr(list(HARM.values()), drops).statistic
    assert found(table, ALL, "initialization_ari")["spearman"] == pytest.approx(expected)


def test_several_shifts_have_a_row_over_all_of_them():
    conditions = [*CONDITIONS[:6], *(("cifar10.1", "", 0), ("cinic10", "", 0))]
    harm = {(e, *c): 0.1 + i / 20 for e in "ab" for i, c in enumerate(conditions)}
    table = proxies(*measured(harm, harm, conditions))
    assert sorted(set(table["shift"])) == [ALL, "cifar10.1", "cinic10", "corruption"]
    assert found(table, "a", "silhouette", ALL)["n"] == 8
    assert found(table, "a", "silhouette", ALL)["spearman"] == pytest.approx(1)
    few = found(table, "a", "silhouette", "cinic10")
    assert np.isnan(few["spearman"])
    assert few["reason"] == f"needs {MIN_CONDITIONS} conditions, has 1"


def test_a_constant_quantity_predicts_nothing():
    one = found(proxies(*measured(other=dict.fromkeys(OTHER, 0.2))), "a", "silhouette")
    assert np.isnan(one[["spearman", "kendall", "spearman_low"]].astype(float)).all()
    assert one["reason"] == "one of the two does not vary"


def test_failed_conditions_are_left_out():
    cells, stability = measured()
    broken = (cells["corruption"] == "c0") & (cells["metric"] == "acc") & (cells["encoder"] == "a")
    cells = cells.assign(status=np.where(broken, "failed", "ok"), value=cells["value"].mask(broken))
    table = proxies(cells, stability)
    assert found(table, "a", "silhouette")["n"] == 9
    assert found(table, "b", "silhouette")["n"] == 12


def test_without_labels_there_is_nothing_to_predict():
    cells, stability = measured()
    table = proxies(cells[cells["metric"] != "acc"], stability)
    assert table.empty
    assert list(table.columns) == PROXIES
    assert proxies(cells_table([]), stability_table([])).empty


def test_without_anything_else_there_is_no_row():
    cells, stability = measured()
    assert proxies(cells[cells["metric"] == "acc"], stability.iloc[:0]).empty
