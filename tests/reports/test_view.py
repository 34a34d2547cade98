"""The numbers that figures are drawn from, against the cells."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from shiftbench.reports import prediction, stability
from shiftbench.reports.names import condition_name, is_floor, percent
from shiftbench.reports.view import views
from shiftbench.results.tables import Results


@pytest.fixture
def results(build):
    return Results.load(build(protocols=("frozen", "refit"), failed=[("pixels", "fog-3")]))


@pytest.fixture
def view(results):
    (view,) = views(results)
    return view


def measured(results, **wanted):
    table = results.cells[results.cells["status"] == "ok"]
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table["value"]


def test_a_curve_is_the_mean_of_the_cells(results, view):
    concurl = view.candidates[0]
    curve = view.score_curve(concurl, "frozen", "acc", "corruption", view.corruptions())
    assert curve.severities == [0, 1, 2, 3, 4, 5]
    wanted = {"encoder": "concurl", "protocol": "frozen"}
    assert curve.mean[0] == pytest.approx(measured(results, shift="clean", **wanted).mean())
    for severity in range(1, 6):
        cells = measured(results, shift="corruption", severity=severity, **wanted)
        assert curve.mean[severity] == pytest.approx(cells.mean())
    assert (curve.low <= curve.mean).all()
    assert (curve.mean <= curve.high).all()


def test_a_curve_leaves_failures_out(results, view):
    curve = view.score_curve(view.candidates[1], "refit", "acc", "corruption", view.corruptions())
    left = measured(results, encoder="pixels", protocol="refit", corruption="gaussian_noise", severity=3)
    assert curve.mean[3] == pytest.approx(left.mean())
    alone = view.score_curve(view.candidates[1], "refit", "acc", "corruption", ["fog"])
    assert np.isnan(alone.mean[3])
    assert np.isfinite(np.delete(alone.mean, 3)).all()


def test_chance_is_its_mean_over_encoders(results, view):
    assert view.chance("frozen", "acc", "corruption") == pytest.approx(
        measured(results, shift="chance", protocol="frozen").mean(), abs=1e-12
    )


def test_agreement_curves(results, view):
    concurl = view.candidates[0]
    mine = results.stability.query("encoder == 'concurl' and protocol == 'frozen' and metric == 'ari'")
    starts = view.agreement_curve(concurl, "frozen", "initialization", "corruption")
    moved = view.agreement_curve(concurl, "frozen", "shift", "corruption")
    assert starts.severities == [0, 1, 2, 3, 4, 5]
    assert moved.severities == [1, 2, 3, 4, 5]
    for curve, axis in ((starts, "initialization"), (moved, "shift")):
        expected = mine[mine["axis"] == axis].groupby("severity")["mean"].mean()
        assert curve.mean == pytest.approx(expected[curve.severities].to_numpy())


def test_dots_of_drop_against_agreement(results, view):
    points = prediction.drops(view, view.candidates[1], "frozen", "acc")
    assert len(points) == 9  # one of ten conditions failed
    clean = measured(results, encoder="pixels", protocol="frozen", shift="clean").mean()
    shifted = measured(results, encoder="pixels", protocol="frozen", shift="corruption")
    assert points["drop"].mean() == pytest.approx(clean - shifted.mean())


def test_runs_of_a_strip(results, view):
    values = stability.per_run(view, view.candidates[0], "frozen", "acc", "corruption")
    cells = results.cells.query("encoder == 'concurl' and protocol == 'frozen' and shift == 'corruption'")
    assert values == pytest.approx(cells.groupby("seed")["value"].mean().to_numpy())


def test_corruptions_and_metrics_keep_the_registrys_order(build):
    folder = build(corruptions=("fog", "gaussian_noise"), metrics=("purity", "ari", "acc"))
    (view,) = views(Results.load(folder))
    assert view.corruptions() == ["gaussian_noise", "fog"]
    assert view.metrics == ["acc", "ari", "purity"]
    assert view.headline == ["acc", "ari"]


def test_two_features_of_one_encoder_are_two_candidates(results):
    both = [
        pd.concat([table, table[table["encoder"] == "concurl"].assign(feature="backbone")], ignore_index=True)
        for table in (results.cells, results.stability, results.summary)
    ]
    (view,) = views(Results(*both, run=results.run))
    assert [candidate.label for candidate in view.candidates] == [
        "concurl · head",
        "concurl · backbone",
        "pixels",
        "random:small_cnn",
    ]


def test_names():
    assert is_floor("pixels")
    assert is_floor("random:resnet50")
    assert not is_floor("randomised")
    assert condition_name("impulse_noise", 5) == "impulse noise 5"
    assert condition_name("", 0, "clean") == "clean"


@pytest.mark.parametrize(
    ("value", "text"), [(0.8912, "89.1"), (-0.031, "−3.1"), (-0.0001, "0.0"), (1, "100.0"), (np.nan, "–")]
)
def test_percent(value, text):
    assert percent(value) == text


def test_the_scale_ends_half_way_where_no_score_is_higher(results, view):
    assert view.top == 1.0
    low = results.cells.assign(value=results.cells["value"] * 0.4)
    probes = results.summary.assign(clean=results.summary["clean"] * 0.4, shifted=results.summary["shifted"] * 0.4)
    (halved,) = views(replace(results, cells=low, summary=probes))
    assert halved.top == 0.5
