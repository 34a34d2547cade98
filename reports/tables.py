"""The overview as text: for the terminal, a README and a paper."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from shiftbench.reports.names import metric_name, percent, probe_name
from shiftbench.reports.overview import Number, Row, number_of, overview
from shiftbench.reports.view import View, views
from shiftbench.results.tables import Results

MARK = " †"
NOTE = "† Not all cells were measured: means over the others, not comparable with those of complete rows."


@dataclass(frozen=True)
class Column:
    """A quantity of a metric, or of a probe's accuracy."""

    key: str
    metric: str
    heading: str

    @property
    def is_word(self) -> bool:
        """Whether a name stands beside its number."""
        return self.key == "worst"


@dataclass(frozen=True)
class Line:
    """One encoder, or one probe on its features."""

    label: str
    is_floor: bool
    cells: list[str]


@dataclass(frozen=True)
class Section:
    """One small table: the clusterings of one protocol under one shift, or the probes under one shift."""

    title: str
    columns: list[Column]
    lines: list[Line]

    @property
    def note(self) -> str:
        """What the mark behind a name means, where there is one."""
        return NOTE if any(line.label.endswith(MARK) for line in self.lines) else ""


def terminal_table(results: Results) -> Table:
    """The short tables of the terminal: ACC and ARI in percent, ``±`` half the interval.

    One for each protocol and shift, and one for the probes; they fit 100 columns, long names of encoders fold.
    """
    grid = Table.grid()
    for section in sections(results):
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        table.add_column("", min_width=12, overflow="fold")
        for column in section.columns:
            heading = column.heading.replace(" ", "\n", 1)
            if column.is_word:
                table.add_column(heading, no_wrap=True, vertical="bottom")
            else:
                table.add_column(heading, justify="right", no_wrap=True, vertical="bottom")
        for line in section.lines:
            table.add_row(Text(line.label, style="dim" if line.is_floor else ""), *map(Text, line.cells))
        if grid.row_count:
            grid.add_row()
        grid.add_row(Text(section.title, style="bold"))
        grid.add_row(table)
        if section.note:
            grid.add_row(Text(section.note, style="dim"))
    return grid


def markdown_table(results: Results) -> str:
    """The same tables in GitHub's Markdown."""
    return "\n".join(
        f"**{_markdown(section.title)}**\n\n"
        + _markdown_row(["encoder", *(column.heading for column in section.columns)])
        + _markdown_row(["---", *("---" if column.is_word else "---:" for column in section.columns)])
        + "".join(_markdown_row([line.label, *line.cells]) for line in section.lines)
        + (f"\n{section.note}\n" if section.note else "")
        for section in sections(results)
    )


def latex_table(results: Results) -> str:
    """The same tables in LaTeX, for ``\\usepackage{booktabs}``."""
    parts = ["% \\usepackage{booktabs}\n"]
    for section in sections(results):
        layout = "".join("l" if column.is_word else "r" for column in section.columns)
        rows = [["Encoder", *(column.heading for column in section.columns)]]
        rows += [[line.label, *line.cells] for line in section.lines]
        head, *body = map(_latex_row, rows)
        lines = [r"\begin{table}", r"\centering", rf"\caption{{{_latex(section.title)}}}"]
        lines += [rf"\begin{{tabular}}{{l{layout}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
        note = [rf"\\{_latex(section.note)}"] if section.note else []
        parts.append("\n".join([*lines, r"\end{tabular}", *note, r"\end{table}", ""]))
    return "\n".join(parts)


def sections(results: Results) -> list[Section]:
    """Each protocol and shift of each view, then the probes of each data set."""
    found: list[Section] = []
    probed: set[str] = set()
    several = views(results)
    for view in several:
        where = view.data if len({one.data for one in several}) > 1 else ""
        how = view.clusterer if len({one.clusterer for one in several}) > 1 else ""
        rows = overview(view, view.headline)
        for protocol in view.protocols:
            for shift in view.shifts or ["clean"]:
                here = [row for row in rows if (row.protocol, row.shift) == (protocol, shift)]
                title = " · ".join(filter(None, [where, how, shift, f"{protocol} clusters"]))
                found += _clusterings(view, title, here)
        last = view.data not in {one.data for one in several[several.index(view) + 1 :]}
        if last and view.data not in probed:
            probed.add(view.data)
            for shift in view.shifts or ["clean"]:
                title = " · ".join(filter(None, [where, shift, "ACC of probes, classifiers on the same features"]))
                found += _probes(view, title, shift)
    return found


def _clusterings(view: View, title: str, rows: Sequence[Row]) -> Iterator[Section]:
    wanted = []
    for metric in view.headline:
        name = metric_name(metric)
        wanted += [Column("clean", metric, f"{name} clean"), Column("shifted", metric, f"{name} shifted")]
        if metric == view.headline[0]:
            wanted += [Column("worst", metric, "worst condition"), Column("drop", metric, "drop")]
            wanted += [Column("mce", metric, "mCE")]
    wanted += [Column("stability", view.headline[0] if view.headline else "", "stab.")]
    wanted += [Column("agreement", view.headline[0] if view.headline else "", "agree.")]
    by_key = {(row.candidate.key, row.metric): row for row in rows}
    columns = [
        column
        for column in wanted
        if any(math.isfinite(row.number(column.key).value) for row in rows if row.metric == column.metric)
        and not (column.is_word and all(row.worst_case == row.shift for row in rows))
    ]
    lines = [
        Line(
            candidate.label + MARK * any(not row.is_complete for row in rows if row.candidate is candidate),
            candidate.floor,
            [_cell(by_key.get((candidate.key, column.metric)), column, view.headline) for column in columns],
        )
        for candidate in dict.fromkeys(row.candidate for row in rows)
    ]
    if lines:
        yield Section(title, columns, lines)


def _probes(view: View, title: str, shift: str) -> Iterator[Section]:
    names = sorted(view.probes["clusterer"].unique())
    keys = ["clean"] if shift == "clean" else ["clean", "shifted"]
    columns = [
        Column(key, probe, f"{probe_name(probe).removesuffix(' probe')} {key}") for probe in names for key in keys
    ]
    lines = []
    for candidate in view.candidates:
        found = {probe: view.line(candidate, shift, "frozen", "acc", probe) for probe in names}
        if any(line is not None for line in found.values()):
            cells = [_with_half(number_of(found[column.metric], column.key)) for column in columns]
            lines.append(Line(candidate.label, candidate.floor, cells))
    if lines:
        yield Section(title, columns, lines)


def _cell(row: Row | None, column: Column, headline: Sequence[str]) -> str:
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
