"""The short tables of the terminal, of Markdown and of LaTeX."""

import re

import pytest
from rich.console import Console

from shiftbench.reports import latex_table, markdown_table, terminal_table
from shiftbench.reports.standings import standings
from shiftbench.reports.tables import MARK, NOTE, short_tables
from shiftbench.reports.view import views
from shiftbench.results.tables import Results


def printed(results, width=100):
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(terminal_table(results))
    return capture.get()


def test_terminal_table_fits_and_says_all(demo):
    results = Results.load(demo)
    demo_rows = standings(views(results)[0])
    lines = printed(results).splitlines()
    assert max(map(len, lines)) <= 100
    text = "\n".join(lines)
    assert "…" not in text
    for table in ("corruption · frozen clusters", "corruption · refit clusters", "stab.", "agree."):
        assert table in text
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
    assert any(line.startswith("robustbench:") for line in lines)
    found = re.search(r"(?s)robustbench:.*?ResNeXt", "\n".join(line.partition(" ")[0] for line in lines))
    assert found
    assert found[0].replace("\n", "") == long


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
        assert "stab." in text
        assert "mCE" not in text
    if not changes.get("corruptions", True):
        assert "clean" in text
        assert "drop" not in text
    assert "nan" not in text


def numbers(text):
    return re.findall(r"\d+\.\d", text)


def test_markdown_and_latex_have_the_terminals_numbers(everything):
    results = Results.load(everything)
    assert numbers(markdown_table(results)) == numbers(latex_table(results)) == numbers(printed(results, 200))


def test_every_number_of_the_short_tables_is_in_the_summary(everything):
    results = Results.load(everything)
    known = {f"{100 * value:.1f}" for value in results.summary.select_dtypes("float").stack()}
    known |= {f"{100 * value:.1f}" for value in results.stability["mean"]}
    for table in short_tables(results):
        for line in table.rows:
            for column, cell in zip(table.columns, line.cells, strict=True):
                if column.key != "agreement":  # a mean over conditions
                    assert cell == "–" or cell.replace("−", "-").partition("±")[0].split()[0] in known


def test_probes_have_tables_of_their_own(everything):
    found = short_tables(Results.load(everything))
    titles = [table.title for table in found]
    assert titles.count("kmeans · corruption · frozen clusters") == titles.count("gmm · outdoors · refit clusters") == 1
    probes = [table for table in found if "probes" in table.title]
    assert [table.title.partition(" · ")[0] for table in probes] == ["corruption", "outdoors", "elsewhere9"]
    assert [column.heading for column in probes[0].columns] == [
        "k-NN clean", "k-NN shifted", "linear clean", "linear shifted",
    ]  # fmt: skip
    assert {line.label.removesuffix(MARK) for table in found for line in table.rows} == {
        line.label for line in probes[0].rows
    }


def test_what_was_skipped_has_no_table(everything):
    assert not [table for table in short_tables(Results.load(everything)) if "imagenet_r" in table.title]


def test_markdown_leaves_no_name_its_power(build):
    text = markdown_table(Results.load(build(encoders=[("a|b", 0, 0.8), ("<b>*x*", 0, 0.7)])))
    assert "a\\|b" in text
    assert "\\<b\\>\\*x\\*" in text
    assert {line.count("|") - line.count("\\|") for line in text.splitlines() if line.startswith("|")} == {8}


def test_names_of_several_lines_stay_in_theirs(build):
    results = Results.load(build(encoders=[("a\nb\x01c", 0, 0.8), ("[x]", 0, 0.7), ("*y", 0, 0.6)]))
    assert "| a b c |" in markdown_table(results)
    lines = latex_table(results).splitlines()
    assert [line.partition(" & ")[0] for line in lines if line.endswith(r"\\")] == ["Encoder", "a b c", "{}[x]", "{}*y"]


def test_incomplete_rows_are_marked(build):
    folder = build(encoders=[("whole", 0, 0.8), ("gaps", 0, 0.7)], failed=[("gaps", "fog-5")])
    results = Results.load(folder)
    for text in (markdown_table(results), printed(results, 200)):
        assert "gaps †" in text
        assert "whole †" not in text
        assert text.count(NOTE) == 1
    assert r"gaps \textdagger{}" in latex_table(results)
    assert NOTE not in markdown_table(Results.load(build("complete")))


def test_latex_is_escaped_and_balanced(build):
    text = latex_table(Results.load(build(encoders=[("a_b & 100% $x$ \\end{table}", 0, 0.8)])))
    assert r"a\_b \& 100\% \$x\$ \textbackslash{}end\{table\}" in text
    for part in ("table", "tabular"):
        assert text.count(rf"\begin{{{part}}}") == text.count(rf"\end{{{part}}}") == 1
    (layout,) = re.findall(r"begin{tabular}{(\w+)}", text)
    assert {line.count(" & ") for line in text.splitlines() if line.endswith(r"\\")} == {len(layout) - 1}
