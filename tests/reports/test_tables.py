"""The overview's rows against the summary and the stability table, and the short tables made of them."""

import math

import pytest
from rich.console import Console

from shiftbench.reports import markdown_table, terminal_table
from shiftbench.reports.glossary import QUANTITIES
from shiftbench.reports.tables import RANKED, baseline_of, column_of, failures, overview, quantities_of
from shiftbench.reports.view import views
from shiftbench.results import Results
from shiftbench.summary import summarize


def only_view(folder):
    (view,) = views(Results.load(folder))
    return view


def printed(results, width=100):
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(terminal_table(results))
    return capture.get()


@pytest.fixture(scope="module")
def demo_rows(demo):
    return overview(only_view(demo))


def test_every_number_is_in_the_summary(demo, demo_rows):
    summary = Results.load(demo).summary.query("shift == 'corruption'")
    summary = summary.set_index(["encoder", "protocol", "metric"])
    assert len(demo_rows) == len(summary) == 3 * 2 * 5
    for row in demo_rows:
        line = summary.loc[row.entrant.encoder, row.protocol, row.metric]
        for key in ("clean", "shifted", "worst", "drop", "calibrated_drop", "mce", "relative_mce"):
            columns = [column_of(part, "pixels") for part in (key, f"{key}_low", f"{key}_high")]
            number = row.number(key)
            assert [number.value, number.low, number.high] == [line[column] for column in columns]
        assert "effective_robustness" not in row.numbers  # needs five encoders
        assert row.worst_case == line["worst_case"].replace("_", " ").replace("-", " ")


def test_agreement_numbers_are_in_the_stability_table(demo, demo_rows):
    stability = Results.load(demo).stability.query("metric == 'ari'").set_index(["encoder", "protocol"]).sort_index()
    for row in demo_rows:
        mine = stability.loc[row.entrant.encoder, row.protocol]
        clean = mine[(mine["axis"] == "initialization") & (mine["shift"] == "clean")].iloc[0]
        number = row.number("stability")
        assert (number.value, number.low, number.high) == (clean["mean"], clean["ci_low"], clean["ci_high"])
        shifted = mine[(mine["axis"] == "shift") & (mine["shift"] == "corruption")]["mean"]
        assert row.number("agreement").value == pytest.approx(shifted.mean(), abs=1e-12)


def test_trained_encoders_come_before_floors(build):
    folder = build(encoders=[("pixels", None, 0.7), ("random:resnet18", None, 0.6), ("mine", 0, 0.8)])
    assert [one.label for one in only_view(folder).entrants] == ["mine", "pixels", "random:resnet18"]


def test_several_training_seeds_are_one_row(build):
    folder = build(encoders=[("concurl", 0, 0.9), ("concurl", 1, 0.8), ("pixels", None, 0.7)])
    results = Results.load(folder)
    row = overview(views(results)[0])[0]
    assert row.n_runs == 6
    stability = results.stability.query(
        "encoder == 'concurl' and axis == 'initialization' and shift == 'clean' and metric == 'ari'"
    )
    assert len(stability) == 2
    number = row.number("stability")
    assert number.value == pytest.approx(stability["mean"].mean())
    assert math.isnan(number.low)  # two intervals have no mean interval


def test_the_best_leads_only_where_its_interval_overlaps_no_other(demo_rows):
    for row in demo_rows:
        rivals = [
            other
            for other in demo_rows
            if (other.protocol, other.metric) == (row.protocol, row.metric) and other.entrant != row.entrant
        ]
        for key in QUANTITIES:
            mine = row.number(key)
            if QUANTITIES[key].higher_is_better:
                ahead = all(mine.low > rival.number(key).high for rival in rivals)
            else:
                ahead = all(mine.high < rival.number(key).low for rival in rivals)
            assert (key in row.leads) == (key in RANKED and ahead)


def test_equal_encoders_do_not_lead(build):
    rows = overview(only_view(build(encoders=[("one", 0, 0.8), ("two", 0, 0.8)])))
    assert [row.leads for row in rows] == [set(), set()]


def test_a_lone_encoder_leads_nothing(build):
    (row,) = overview(only_view(build(encoders=[("concurl", 0, 0.8)])))
    assert not row.leads


def test_one_run_leads_nothing(build):
    assert not any(row.leads for row in overview(only_view(build(seeds=1))))


def test_terminal_table_fits_and_says_all(demo, demo_rows):
    results = Results.load(demo)
    lines = printed(results).splitlines()
    assert max(map(len, lines)) <= 100
    text = "\n".join(lines)
    assert "…" not in text
    for section in ("ACC · frozen", "ACC · refit", "ARI · frozen", "ARI · refit"):
        assert section in text
    row = next(row for row in demo_rows if row.metric == "acc")
    first = next(line for line in lines if line.startswith("concurl"))
    clean, shifted = row.number("clean"), row.number("shifted")
    assert f"{100 * clean.value:.1f}±{50 * (clean.high - clean.low):.1f}" in first
    assert f"{100 * shifted.value:.1f}±{50 * (shifted.high - shifted.low):.1f}" in first
    assert f"{100 * row.number('worst').value:.1f} contrast 5" in first
    assert first.split()[-1] == f"{100 * row.number('agreement').value:.1f}"


def test_terminal_table_fits_with_long_names(build):
    long = "robustbench:cifar10/corruptions/Hendrycks2020AugMix_ResNeXt"
    corruptions = ("elastic_transform",)
    results = Results.load(build(encoders=[(long, None, 0.8), ("pixels", None, 0.7)], corruptions=corruptions))
    lines = printed(results).splitlines()
    assert max(map(len, lines)) <= 100
    assert "…" not in "\n".join(lines)
    assert "".join(line[:16].strip() for line in lines).count(long) == 1


@pytest.mark.parametrize(
    "changes",
    [{"metrics": ()}, {"corruptions": ()}, {"seeds": 1}, {"encoders": [("[bold]x[/bold]", 0, 0.8)]}],
    ids=["no labels", "clean only", "one seed", "markup"],
)
def test_terminal_table_of_what_there_is(build, changes):
    text = printed(Results.load(build(**changes)))
    if "encoders" in changes:
        assert "[bold]x[/bold]" in text
    if not changes.get("metrics", True):
        assert "stabil." in text
        assert "mCE" not in text
    if not changes.get("corruptions", True):
        assert "clean" in text
        assert "drop" not in text
    assert "nan" not in text


def test_markdown_table_has_the_terminals_numbers(demo):
    results = Results.load(demo)
    lines = markdown_table(results).splitlines()
    widths = {line.count("|") for line in lines}
    assert len(widths) == 1
    assert len(lines) == 2 + 12
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells[:3] == ["ACC", "frozen", "concurl"]
    text = printed(results)
    assert all(cell in text for cell in cells[3:])


def test_markdown_escapes_pipes(build):
    text = markdown_table(Results.load(build(encoders=[("a|b", 0, 0.8)])))
    assert "a\\|b" in text


def test_failures_are_gathered_by_reason(build):
    view = only_view(build(failed=[("pixels", "fog-3"), ("pixels", "fog-4")]))
    (failure,) = failures(view)
    assert (failure.encoder, failure.status) == ("pixels", "failed")
    assert failure.reason == "ValueError: features are not finite"
    assert failure.conditions == ["fog 3", "fog 4"]


def test_incomplete_rows_say_so(build):
    rows = overview(only_view(build(failed=[("pixels", "fog-3")])))
    assert [(row.n_ok, row.n_cells) for row in rows] == [(30, 30), (27, 30), (30, 30)]


def test_baseline_is_read_from_the_columns(build):
    results = Results.load(build())
    assert baseline_of(results.summary) == "pixels"
    assert baseline_of(summarize(results.cells, "random:small_cnn")) == "random:small_cnn"


def test_only_known_quantities_are_shown(build):
    shown = {quantity.key for quantity in quantities_of(overview(only_view(build(corruptions=()))))}
    assert shown == {"clean", "stability"}
