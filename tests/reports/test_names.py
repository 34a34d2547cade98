"""What is known of a metric, an axis or a probe comes from the registry and the tables, and needs no edit of the reports."""

from dataclasses import replace

import pytest

from shiftbench.registry import METRICS, Metric
from shiftbench.reports import markdown_table
from shiftbench.reports.headline import HEADLINE
from shiftbench.reports.names import (
    AXIS_NAMES,
    axis_name,
    is_fraction,
    known_first,
    label_in_words,
    metric_name,
    probe_name,
    score,
)
from shiftbench.reports.page import render
from shiftbench.reports.standings import standings
from shiftbench.reports.terms import TERMS, definitions
from shiftbench.reports.view import views
from shiftbench.results.derive import derive
from shiftbench.results.tables import Results
from shiftbench.stability.axes import AXES

TABLES = ("cells", "recall", "stability", "replicates")


@pytest.fixture
def register(monkeypatch):
    """``register(name, **about)`` of a metric that the reports have never heard of."""

    def register(name, **about):
        metric = Metric("guest:score", "what a guest counts", **about)
        monkeypatch.setattr(METRICS, "_entries", dict(METRICS.items()) | {name: metric})

    return register


def renamed(folder, column, names, **changes):
    """The results of a folder with other names in a column."""
    results = Results.load(folder)
    measured = {name: getattr(results, name) for name in TABLES}
    for name, table in measured.items():
        if column in table:
            measured[name] = table.assign(**{column: table[column].replace(names)})
    measured["cells"] = measured["cells"].assign(**changes)
    return replace(derive(measured), run=results.run, folder=results.folder)


def rows_of(walker, table, name):
    """The rows of a table that have a cell of this name."""
    (element,) = walker.all("table", id=table)
    cells = [one for one in walker.elements if element in one["parents"] and one["attrs"].get("data-value") == name]
    return [one["parents"][-1] for one in cells]


def test_a_new_metric_with_labels_is_in_the_overview_and_the_glossary(build, register, walk):
    register("fowlkes_mallows", needs=("table",), range=(0.0, 1.0))
    results = renamed(build(metrics=("acc", "purity")), "metric", {"purity": "fowlkes_mallows"})
    walker = walk(render(results).html)
    assert rows_of(walker, "overview-1", "Fowlkes mallows")
    assert "Fowlkes mallows" in {one["text"] for one in walker.all("dt")}
    assert "What a guest counts." in {one["text"] for one in walker.all("dd")}


def test_figures_show_a_new_metric_where_there_is_no_other(build, register, walk):
    register("fowlkes_mallows", needs=("table",), range=(0.0, 1.0))
    results = renamed(build(metrics=("purity",), corruptions=("fog",)), "metric", {"purity": "fowlkes_mallows"})
    titles = {one["text"] for one in walk(render(results).html).all("text")}
    assert "Fowlkes mallows, frozen clusters" in titles
    assert "Fowlkes mallows clean" in markdown_table(results)


def test_a_new_score_without_an_upper_limit_is_a_plain_number(build, register, walk):
    register("pairs_counted", needs=("table",), range=(0.0, float("inf")))
    results = renamed(build(metrics=("acc", "purity")), "metric", {"purity": "pairs_counted"})
    (row, *_) = rows_of(walk(render(results).html), "overview-1", "Pairs counted")
    line = results.summary.query("metric == 'pairs_counted' and encoder == 'concurl' and shift == 'corruption'")
    assert f"{line['clean'].item():.2f}{line['clean_low'].item():.2f}–{line['clean_high'].item():.2f}" in "".join(
        row["text"].split()
    )


@pytest.mark.parametrize(("limits", "unit"), [((0.0, 1.0), 100), ((0.0, float("inf")), 1)])
def test_a_new_metric_without_labels_is_in_its_table(build, register, walk, limits, unit):
    register("davies_bouldin", needs=("features", "partition"), range=limits, higher_is_better=False)
    folder = build(label_free=("silhouette",))
    results = renamed(folder, "metric", {"silhouette": "davies_bouldin"})
    rows = rows_of(walk(render(results).html), "label-free-table-1", "Davies bouldin")
    assert rows
    summary = results.summary.query("metric == 'davies_bouldin' and encoder == 'concurl'")
    shown = f"{unit * summary['clean'].iloc[0]:.{1 if unit == 100 else 2}f}"
    assert any(shown in row["text"] for row in rows)


def test_where_lower_is_better_the_lowest_leads(build, register):
    register("variation", needs=("table",), range=(0.0, 1.0), higher_is_better=False)
    folder = build(encoders=[("high", 0, 0.9), ("low", 0, 0.4)])
    results = renamed(folder, "metric", {"acc": "variation"}, higher_is_better=False)
    (view,) = views(results)
    leaders = {row.candidate.encoder for row in standings(view) if row.leads}
    assert leaders == {"low"}


def test_a_new_axis_and_a_new_measure_are_in_their_table(build, walk):
    results = renamed(build(), "axis", {"shift": "new_axis"})
    table = results.stability
    results.stability = table.assign(metric=table["metric"].replace({"matched_acc": "new_measure"}))
    walker = walk(render(results).html)
    assert rows_of(walker, "stability-table-1", "new axis")
    assert "new_measure" in {one["text"] for one in walker.all("th", scope="col")}


@pytest.mark.parametrize("axis", AXES)
def test_every_axis_has_words(axis):
    assert axis_name(axis) == AXIS_NAMES[axis]
    assert axis_name("of_a_guest") == "of a guest"


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_explained_and_shown_in_its_unit(metric):
    assert metric_name(metric) in definitions()
    assert is_fraction(metric) or METRICS[metric].range != (0, 1)
    assert float(score(0.5, metric)) == (50 if is_fraction(metric) else 0.5)


def test_a_text_of_ours_stands_before_the_registrys():
    assert definitions()["ACC"] == TERMS["ACC"]
    assert set(TERMS) < set(definitions())


def test_the_headline_is_registered():
    assert set(HEADLINE) <= set(METRICS)


def test_probes():
    assert probe_name("probe:knn") == "k-NN probe"
    assert probe_name("probe:of_a_guest") == "of_a_guest probe"


@pytest.mark.parametrize(
    ("label", "words"),
    [("impulse_noise-5", "impulse noise 5"), ("clean", "clean"), ("imagenet-r", "imagenet-r"), ("", "")],
)
def test_labels_of_conditions(label, words):
    assert label_in_words(label) == words


def test_what_is_known_comes_first():
    assert known_first(["d", "b", "c", "b", "a"], ["a", "b", "x"]) == ["a", "b", "d", "c"]
