"""The overview as text: for the terminal, a README and a paper."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from shiftbench.reports.headline import FROZEN, PROBED
from shiftbench.reports.names import metric_name, percent, probe_name
from shiftbench.reports.standings import Number, Standing, number_of, standings
from shiftbench.reports.view import View, views
from shiftbench.results.tables import Results

MARK = " †"
NOTE = "† Not all cells were measured: means over the others, not comparable with those of complete rows."


@dataclass(frozen=True)
class ShortColumn:
    """A quantity of a metric, or of a probe's accuracy."""

    key: str
    metric: str
    heading: str

    @property
    def is_word(self) -> bool:
        """Whether a name stands beside its number."""
        return self.key == "worst"


@dataclass(frozen=True)
class ShortRow:
    """One encoder, or one probe on its features."""

    label: str
    is_floor: bool
    cells: list[str]


@dataclass(frozen=True)
class ShortTable:
    """One small table: the clusterings of one protocol under one shift, or the probes under one shift."""

    title: str
    columns: list[ShortColumn]
    rows: list[ShortRow]

    @property
    def note(self) -> str:
        """What the mark behind a name means, where there is one."""
        return NOTE if any(row.label.endswith(MARK) for row in self.rows) else ""


def terminal_table(results: Results) -> Table:
    """The short tables of the terminal: ACC and ARI in percent, ``±`` half the interval.

    One for each protocol and shift, and one for the probes; they fit 100 columns, long names of encoders fold.
    """
    grid = Table.grid()
    for short in short_tables(results):
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        table.add_column("", min_width=12, overflow="fold")
        for column in short.columns:
            heading = column.heading.replace(" ", "\n", 1)
            if column.is_word:
                table.add_column(heading, no_wrap=True, vertical="bottom")
            else:
                table.add_column(heading, justify="right", no_wrap=True, vertical="bottom")
        for row in short.rows:
            table.add_row(Text(row.label, style="dim" if row.is_floor else ""), *map(Text, row.cells))
        if grid.row_count:
            grid.add_row()
        grid.add_row(Text(short.title, style="bold"))
        grid.add_row(table)
        if short.note:
            grid.add_row(Text(short.note, style="dim"))
    return grid


def markdown_table(results: Results) -> str:
    """The same tables in GitHub's Markdown."""
    return as_markdown(short_tables(results))


def latex_table(results: Results) -> str:
    """The same tables in LaTeX, for ``\\usepackage{booktabs}``."""
    return as_latex(short_tables(results))


def as_markdown(tables: Sequence[ShortTable]) -> str:
    """Short tables in GitHub's Markdown."""
    return "\n".join(
        f"**{_markdown(short.title)}**\n\n"
        + _markdown_row(["encoder", *(column.heading for column in short.columns)])
        + _markdown_row(["---", *("---" if column.is_word else "---:" for column in short.columns)])
        + "".join(_markdown_row([row.label, *row.cells]) for row in short.rows)
        + (f"\n{short.note}\n" if short.note else "")
        for short in tables
    )


def as_latex(tables: Sequence[ShortTable]) -> str:
    """Short tables in LaTeX, for ``\\usepackage{booktabs}``."""
    parts = ["% \\usepackage{booktabs}\n"]
    for short in tables:
        layout = "".join("l" if column.is_word else "r" for column in short.columns)
        cells = [["Encoder", *(column.heading for column in short.columns)]]
        cells += [[row.label, *row.cells] for row in short.rows]
        head, *body = map(_latex_row, cells)
        lines = [r"\begin{table}", r"\centering", rf"\caption{{{_latex(short.title)}}}"]
        lines += [rf"\begin{{tabular}}{{l{layout}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
        note = [rf"\\{_latex(short.note)}"] if short.note else []
        parts.append("\n".join([*lines, r"\end{tabular}", *note, r"\end{table}", ""]))
    return "\n".join(parts)


def short_tables(results: Results) -> list[ShortTable]:
    """Each protocol and shift of each view, then the probes of each data set."""
    tables: list[ShortTable] = []
    everything = views(results)
    last = {view.data: view for view in everything}
    for view in everything:
        where = view.data if len(last) > 1 else ""
        how = view.clusterer if len({other.clusterer for other in everything}) > 1 else ""
        rows = standings(view, view.headline)
        for protocol in view.protocols:
            for shift in view.shifts or ["clean"]:
                here = [row for row in rows if (row.protocol, row.shift) == (protocol, shift)]
                title = " · ".join(filter(None, [where, how, shift, f"{protocol} clusters"]))
                tables += _clusterings(view, title, here)
        if view is last[view.data]:
            for shift in view.shifts or ["clean"]:
                what = f"{metric_name(PROBED)} of probes, classifiers on the same features"
                tables += _probes(view, " · ".join(filter(None, [where, shift, what])), shift)
    return tables


def _clusterings(view: View, title: str, rows: Sequence[Standing]) -> Iterator[ShortTable]:
    wanted = []
    for metric in view.headline:
        name = metric_name(metric)
        wanted += [ShortColumn("clean", metric, f"{name} clean"), ShortColumn("shifted", metric, f"{name} shifted")]
        if metric == view.headline[0]:
            wanted += [ShortColumn("worst", metric, "worst condition"), ShortColumn("drop", metric, "drop")]
            wanted += [ShortColumn("mce", metric, "mCE")]
    wanted += [ShortColumn("stability", view.headline[0] if view.headline else "", "stab.")]
    wanted += [ShortColumn("agreement", view.headline[0] if view.headline else "", "agree.")]
    by_key = {(row.candidate.key, row.metric): row for row in rows}
    columns = [
        column
        for column in wanted
        if any(row.has(column.key) for row in rows if row.metric == column.metric)
        and not (column.is_word and all(row.worst_case == row.shift for row in rows))
    ]
    short_rows = [
        ShortRow(
            candidate.label + MARK * any(not row.is_complete for row in rows if row.candidate is candidate),
            candidate.floor,
            [_cell(by_key.get((candidate.key, column.metric)), column, view.headline) for column in columns],
        )
        for candidate in dict.fromkeys(row.candidate for row in rows)
    ]
    if short_rows:
        yield ShortTable(title, columns, short_rows)


def _probes(view: View, title: str, shift: str) -> Iterator[ShortTable]:
    probes = sorted(view.probes["clusterer"].unique())
    keys = ["clean"] if shift == "clean" else ["clean", "shifted"]
    columns = [
        ShortColumn(key, probe, f"{probe_name(probe).removesuffix(' probe')} {key}") for probe in probes for key in keys
    ]
    rows = []
    for candidate in view.candidates:
        lines = {probe: view.line(candidate, shift, FROZEN, PROBED, probe) for probe in probes}
        if any(line is not None for line in lines.values()):
            cells = [_with_half(number_of(lines[column.metric], column.key)) for column in columns]
            rows.append(ShortRow(candidate.label, candidate.floor, cells))
    if rows:
        yield ShortTable(title, columns, rows)


def _cell(row: Standing | None, column: ShortColumn, headline: Sequence[str]) -> str:
    if row is None:
        return "–"
    number = row.number(column.key)
    if column.is_word and row.worst_case:
        return f"{percent(number.value)} {row.worst_case}"
    if column.key in ("clean", "shifted") and column.metric == headline[0]:
        return _with_half(number)
    return percent(number.value)


def _with_half(number: Number) -> str:
    return f"{percent(number.value)}±{percent(number.half)}" if math.isfinite(number.half) else percent(number.value)


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_markdown, cells))} |\n"


def _markdown(text: str) -> str:
    """Text that Markdown and HTML leave as it is; the dashes of a table's ruler too."""
    if re.fullmatch("-+:?", text):
        return text
    return re.sub(r"([\\`*_\[\]<>|$#~&@])", r"\\\1", _one_line(text))


def _one_line(text: str) -> str:
    return re.sub(r"[\s\x00-\x1f\x7f]+", " ", text)


_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$", "–": "--",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "·": r"$\cdot$", "†": r"\textdagger{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}  # fmt: skip


def _latex_row(cells: Sequence[str]) -> str:
    text = " & ".join(map(_latex, cells)) + r" \\"
    return "{}" + text if text.startswith(("[", "*")) else text  # else it would belong to the \\ of the row before


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in _one_line(text))
