"""The overview's rows against the summary, the stability and the comparisons table."""

import math
from dataclasses import replace

import numpy as np
import pytest

from shiftbench.reports.failures import failures
from shiftbench.reports.standings import (
    SIGNIFICANCE,
    TESTED,
    baseline_of,
    column_of,
    quantities_of,
    standings,
)
from shiftbench.reports.verdict import verdict
from shiftbench.reports.view import views
from shiftbench.results.derive import derive
from shiftbench.results.summary import summarize
from shiftbench.results.tables import Results


def only_view(folder):
    (view,) = views(Results.load(folder))
    return view


@pytest.fixture(scope="module")
def demo_rows(demo):
    return standings(only_view(demo))


def test_every_number_is_in_the_summary(demo, demo_rows):
    summary = Results.load(demo).summary.query("shift == 'corruption'")
    summary = summary.set_index(["encoder", "protocol", "metric"])
    assert len(demo_rows) == len(summary) == 3 * 2 * 5
    for row in demo_rows:
        line = summary.loc[row.candidate.encoder, row.protocol, row.metric]
        for key in ("clean", "shifted", "worst", "drop", "calibrated_drop", "mce", "relative_mce"):
            columns = [column_of(part, "pixels") for part in (key, f"{key}_low", f"{key}_high")]
            number = row.number(key)
            assert [number.value, number.low, number.high] == [line[column] for column in columns]
        assert "effective_robustness" not in row.numbers  # needs five encoders
        assert row.worst_case == line["worst_case"].replace("_", " ").replace("-", " ")


def test_agreement_numbers_are_in_the_stability_table(demo, demo_rows):
    stability = Results.load(demo).stability.query("metric == 'ari'").set_index(["encoder", "protocol"]).sort_index()
    for row in demo_rows:
        mine = stability.loc[row.candidate.encoder, row.protocol]
        clean = mine[(mine["axis"] == "initialization") & (mine["shift"] == "clean")].iloc[0]
        number = row.number("stability")
        assert (number.value, number.low, number.high) == (clean["mean"], clean["ci_low"], clean["ci_high"])
        shifted = mine[(mine["axis"] == "shift") & (mine["shift"] == "corruption")]["mean"]
        assert row.number("agreement").value == pytest.approx(shifted.mean(), abs=1e-12)


def test_trained_encoders_come_before_floors(build):
    folder = build(encoders=[("pixels", None, 0.7), ("random:resnet18", None, 0.6), ("mine", 0, 0.8)])
    assert [one.label for one in only_view(folder).candidates] == ["mine", "pixels", "random:resnet18"]


def test_several_training_seeds_are_one_row(build):
    folder = build(encoders=[("concurl", 0, 0.9), ("concurl", 1, 0.8), ("pixels", None, 0.7)])
    results = Results.load(folder)
    row = standings(views(results)[0])[0]
    assert row.n_runs == 6
    stability = results.stability.query(
        "encoder == 'concurl' and axis == 'initialization' and shift == 'clean' and metric == 'ari'"
    )
    assert len(stability) == 2
    number = row.number("stability")
    assert number.value == pytest.approx(stability["mean"].mean())
    assert math.isnan(number.low)  # two intervals have no mean interval


def test_the_best_leads_only_where_every_paired_test_says_so(everything):
    results = Results.load(everything)
    pairs = results.comparisons.set_index(["shift", "split", "clusterer", "protocol", "metric"]).sort_index()
    led = 0
    for view in views(results):
        for row in (rows := standings(view)):
            rivals = [
                one
                for one in rows
                if (one.shift, one.protocol, one.metric) == (row.shift, row.protocol, row.metric) and one is not row
            ]
            for key in ("clean", "shifted"):
                shift = row.shift if key == "shifted" else "clean"
                table = pairs.loc[(shift, view.split(row.shift), row.clusterer, row.protocol, row.metric)]
                name = row.candidate.encoder
                mine = table[(table["encoder_a"] == name) | (table["encoder_b"] == name)]
                sign = np.where(mine["encoder_a"] == name, 1, -1)
                ahead = ((sign * mine["difference"] > 0) & (mine["p_joint"] <= SIGNIFICANCE)).sum() == len(rivals)
                assert (key in row.leads) == ahead
                led += ahead
            assert row.leads <= set(TESTED)
    assert led  # somebody does


def test_equal_encoders_do_not_lead(build):
    rows = standings(only_view(build(encoders=[("one", 0, 0.8), ("two", 0, 0.8)])))
    assert [row.leads for row in rows] == [set(), set()]


def test_a_lone_encoder_leads_nothing(build):
    (row,) = standings(only_view(build(encoders=[("concurl", 0, 0.8)])))
    assert not row.leads


def test_one_run_leads_nothing(build):
    assert not any(row.leads for row in standings(only_view(build(seeds=1, replicates=False))))


def test_estimated_k_leads_only_where_everybody_was_met(build):
    """One pair of encoders has a test for each k that both have; who has another k has none."""
    encoders = [("a", 0, 0.9), ("a", 1, 0.9), ("b", 0, 0.5), ("b", 1, 0.5), ("c", 0, 0.85)]
    results = Results.load(build(encoders=encoders))
    tables = {
        name: getattr(results, name).assign(k_source="estimated") for name in ("cells", "stability", "replicates")
    }
    for table in tables.values():
        table.loc[table["train_seed"] == 0, "k"] = 8
    apart = {name: table.assign(k=table["k"].mask(table["encoder"] == "c", 12)) for name, table in tables.items()}
    together = {name: table.assign(k=10) for name, table in tables.items()}
    leads = []
    for measured in (apart, together):
        (view,) = views(replace(derive(measured | {"recall": results.recall}), run=results.run))
        rows = standings(view, ["acc"])
        assert max(rows, key=lambda row: row.number("shifted").value).candidate.encoder == "a"
        leads.append(next(row.leads for row in rows if row.candidate.encoder == "a"))
        said = verdict(view, rows)[1]
        assert ("no test compares the two" in said) == (measured is apart)
    assert leads == [set(), {"clean", "shifted"}]


def test_failures_are_gathered_by_reason(build):
    view = only_view(build(failed=[("pixels", "fog-3"), ("pixels", "fog-4")]))
    (failure,) = failures([view.cells], [view.stability])
    assert (failure.encoder, failure.status, failure.what) == ("pixels", "failed", "")
    assert failure.reason == "ValueError: features are not finite"
    assert failure.conditions == ["fog 3", "fog 4"]


def test_incomplete_rows_say_so(build):
    rows = standings(only_view(build(failed=[("pixels", "fog-3")])))
    assert [(row.n_ok, row.n_cells) for row in rows] == [(30, 30), (27, 30), (30, 30)]


def test_baseline_is_read_from_the_columns(build):
    results = Results.load(build())
    assert baseline_of(results.summary) == "pixels"
    assert baseline_of(summarize(results.cells, "random:small_cnn")) == "random:small_cnn"


def test_only_known_quantities_are_shown(build):
    shown = {quantity.key for quantity in quantities_of(standings(only_view(build(corruptions=()))))}
    assert shown == {"clean", "stability"}
