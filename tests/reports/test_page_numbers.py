"""Every number on the page is that of its table."""

import math
import re

import pytest
from page_tables import METRIC, sheet, words

from shiftbench.reports.names import AXIS_NAMES, decimal, metric_name, percent, score
from shiftbench.reports.standings import column_of
from shiftbench.reports.terms import QUANTITIES
from shiftbench.results.tables import Results, ok

ENDS = ("", "_low", "_high")


AXIS = {words: axis for axis, words in AXIS_NAMES.items()}


def check(cell, value, low=math.nan, high=math.nan, of=percent, note=""):
    """A cell holds a number in full, and shows it and its bounds as people read them."""
    assert float(cell["attrs"]["data-value"]) == pytest.approx(value, abs=1e-12, nan_ok=True)
    bounds = f"{of(low)}{' to ' if low < 0 else '–'}{of(high)}" if math.isfinite(low) else ""
    assert cell["text"] == of(value) + bounds + note


def test_every_number_of_the_overview(everything, everything_walked):
    results = Results.load(everything)
    summary = results.summary.set_index(["encoder", "shift", "clusterer", "protocol", "metric"]).sort_index()
    keys = ["encoder", "protocol", "clusterer", "axis", "metric", "shift", "split"]
    stability = results.stability.set_index(keys).sort_index()
    heads, rows = sheet(everything_walked, "overview")
    assert len(rows) == 7 * 2 * 2 * 3 * 2  # encoders, metrics, protocols, shifts, clusterers
    for cells in rows:
        said = words(cells)
        encoder, protocol, clusterer, shift = (said[name] for name in ("Encoder", "Clusters", "Algorithm", "Shift"))
        line = summary.loc[encoder, shift, clusterer, protocol, METRIC[said["Metric"]]]
        for key, quantity in QUANTITIES.items():
            head = next((head for head in heads if head.removesuffix("pixels = 100") == quantity.heading), None)
            if key in ("stability", "agreement"):
                where = ("initialization", "ari", "clean") if key == "stability" else ("shift", "ari", shift)
                found = stability.loc[[(encoder, protocol, clusterer, *where, line["split"])]]
                found = found[found["status"] == "ok"]
                bounds = found.iloc[0][["ci_low", "ci_high"]] if len(found) == 1 else (math.nan, math.nan)
                check(cells[head], found["mean"].mean(), *bounds)
            elif head is None:
                assert math.isnan(line[column_of(key, "pixels")])
            else:
                case = re.sub("[_-]", " ", line["worst_case"]) if key == "worst" else ""
                check(cells[head], *(line[column_of(f"{key}{end}", "pixels")] for end in ENDS), note=case)


def test_every_number_of_the_probes(everything, everything_walked):
    summary = Results.load(everything).summary.query("metric == 'acc'")
    summary = summary.set_index(["encoder", "shift", "clusterer", "protocol"]).sort_index()
    readers = {
        "frozen clusters": ("kmeans", "frozen"), "refit clusters": ("kmeans", "refit"),
        "k-NN probe": ("probe:knn", "frozen"), "linear probe": ("probe:linear", "frozen"),
    }  # fmt: skip
    _, rows = sheet(everything_walked, "probes-table")
    assert len(rows) == 7 * 3 * 4
    for cells in rows:
        said = words(cells)
        line = summary.loc[(said["Encoder"], said["Shift"], *readers[said["Read by"]])]
        for key, head in (("clean", "Clean"), ("shifted", "Mean shifted"), ("drop", "Drop")):
            check(cells[head], *(line[f"{key}{end}"] for end in ENDS))


def test_every_number_of_stability(everything, everything_walked):
    table = ok(Results.load(everything).stability).query("clusterer == 'kmeans'")
    table = table.set_index(["encoder", "protocol", "axis", "shift", "metric"]).sort_index()
    heads, rows = sheet(everything_walked, "stability-table")
    assert {words(cells)["Agreement"] for cells in rows} == {AXIS_NAMES[axis] for axis in set(table.index.levels[2])}
    for cells in rows:
        said = words(cells)
        where = said["Encoder"], said["Clusters"], AXIS[said["Agreement"]], said["Images"]
        for head in heads[4:]:
            found = table.loc[where]
            found = found[(found.index == METRIC[head]) & ((found["split"] == "test") | (where[-1] != "clean"))]
            if len(found) == 1:
                check(cells[head], *found.iloc[0][["mean", "ci_low", "ci_high"]])
            else:
                check(cells[head], found["mean"].mean())


def test_every_number_without_labels(everything, everything_walked):
    summary = Results.load(everything).summary.query("clusterer == 'kmeans'")
    summary = summary.set_index(["encoder", "shift", "protocol", "metric"]).sort_index()
    _, rows = sheet(everything_walked, "label-free-table")
    assert {METRIC[words(cells)["Metric"]] for cells in rows} == {"silhouette", "entropy", "collapsed", "drift"}
    for cells in rows:
        said = words(cells)
        metric = METRIC[said["Metric"]]
        line = summary.loc[said["Encoder"], said["Shift"], said["Of"], metric]
        for key, head in (("clean", "Clean"), ("shifted", "Mean shifted"), ("worst", "Worst")):
            case = re.sub("[_-]", " ", line["worst_case"]) if key == "worst" else ""
            numbers = (line[f"{key}{end}"] for end in ENDS)
            check(cells[head], *numbers, of=lambda value, metric=metric: score(value, metric), note=case)


def test_every_rank_correlation(everything, everything_walked):
    table = Results.load(everything).proxies.query("clusterer == 'kmeans' and shift == 'all'")
    table = table.set_index(["encoder", "protocol", "metric", "proxy"]).sort_index()
    heads, rows = sheet(everything_walked, "rankings-table")
    names = {metric_name(name): name for name in set(table.index.levels[3])}
    count = 0
    for cells in rows:
        said = words(cells)
        for head in heads[3:]:
            line = table.loc[head, said["Clusters"], METRIC[said["Drop in"]], names[said["Without labels"]]]
            check(cells[head], *(line[f"spearman{end}"] for end in ENDS), of=decimal)
            count += math.isfinite(line["spearman"])
    assert count > 100


def test_what_figures_say_is_in_the_summary(everything, everything_walked):
    """The alternative texts name the numbers that are drawn."""
    results = Results.load(everything)
    known = {percent(value) for name in ("clean", "shifted") for value in results.summary[name]}
    texts = [one["attrs"]["aria-label"] for one in everything_walked.all("svg", role="img")]
    for kind in ("clean and shifted. ", "clean and mean shifted: "):
        mine = [text.partition(kind)[2].partition(". A line")[0] for text in texts if kind in text]
        assert mine
        for text in mine:
            # Names hold digits too: numbers have a decimal point.
            assert set(re.findall(r"(?<![\w.])−?\d+\.\d(?!\d)", text)) <= known


def test_verdict_numbers_are_in_the_summary(demo, walked):
    line = Results.load(demo).summary.query(
        "encoder == 'concurl' and protocol == 'frozen' and metric == 'acc' and shift == 'corruption'"
    )
    (lead,) = walked.all("p", class_="lead")
    for key in ("clean", "shifted", "drop"):
        value, low, high = (percent(line[f"{key}{end}"].item()) for end in ("", "_low", "_high"))
        assert re.search(rf"{value}\s(% |points )(ACC )?\({low} to {high}\)", lead["text"])
    assert "concurl reaches" in lead["text"]
    assert "3 corruptions at 5 severities" in lead["text"]
