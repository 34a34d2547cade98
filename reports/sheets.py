"""The page's tables: what is shown, what it is sorted by, and how its rows are chosen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shiftbench.reports.candidates import ShownCandidate
from shiftbench.reports.filters import FILTER_NAMES, Filter
from shiftbench.reports.names import metric_name, percent
from shiftbench.reports.standings import Number
from shiftbench.reports.style import Look


@dataclass(frozen=True)
class SheetColumn:
    """A column's heading.

    Attributes:
        kind: how it sorts, "text" or "number"; empty if it does not.
        key: what its cells say of the row; rows can be chosen by it unless ``can_filter`` is off.
        definition: shown on hover.
        note: in small type below.
        is_optional: whether the column is left out where all its rows say the same.
    """

    text: str
    kind: str = "text"
    key: str = ""
    definition: str = ""
    note: str = ""
    can_filter: bool = True
    is_optional: bool = False


@dataclass(frozen=True)
class SheetCell:
    """A cell: what is shown, what it is sorted by, and what stands below in small type."""

    text: str
    value: str | float = ""
    small: Sequence[str] = ()
    strong: bool = False
    span: Mapping[str, float] | None = None

    @property
    def is_number(self) -> bool:
        """Whether it holds a number."""
        return isinstance(self.value, float)


@dataclass(frozen=True)
class SheetRow:
    """A row, which the filters show or hide; the first cell is its heading."""

    cells: list[SheetCell]
    keys: Mapping[str, str] = field(default_factory=dict)
    candidate: ShownCandidate | None = None

    @property
    def look(self) -> Look | None:
        """Of the candidate that the row is about."""
        return self.candidate.look if self.candidate else None


@dataclass(frozen=True)
class Sheet:
    """A table of the page.

    Attributes:
        caption: what it is, for readers who do not see it.
        filters: by what its rows can be chosen.
    """

    caption: str
    columns: list[SheetColumn]
    rows: list[SheetRow]
    filters: list[Filter]

    @property
    def chosen(self) -> set[str]:
        """The keys of which one value is shown at a time: their columns say nothing new and are hidden."""
        return {choice.key for choice in self.filters if choice.chosen is not None}

    @classmethod
    def of(
        cls, caption: str, columns: Sequence[SheetColumn], rows: Sequence[SheetRow], chosen: Mapping[str, str]
    ) -> Sheet:
        """A table without optional columns that say the same in every row.

        Args:
            caption: what it is.
            columns: the heading first, then those with a key, then numbers.
            rows: each with a cell for every column, and a value for every key.
            chosen: by key, the value that is shown first where there are several.
        """
        kept = [
            place for place, column in enumerate(columns) if not column.is_optional or len(_values(column, rows)) > 1
        ]
        columns = [columns[place] for place in kept]
        rows = [SheetRow([row.cells[place] for place in kept], row.keys, row.candidate) for row in rows]
        filters = [
            Filter(column.key, FILTER_NAMES.get(column.key, column.text), values, chosen.get(column.key))
            for column in columns
            if column.can_filter and len(values := _values(column, rows)) > 1
        ]
        return cls(caption, columns, rows, filters)


def _values(column: SheetColumn, rows: Sequence[SheetRow]) -> list[str]:
    """The distinct values of a column's key, as they come."""
    return list(dict.fromkeys(row.keys[column.key] for row in rows)) if column.key else []


def sheet_or_none(
    caption: str, columns: Sequence[SheetColumn], rows: Sequence[SheetRow], chosen: Mapping[str, str]
) -> Sheet | None:
    """:meth:`Sheet.of`; None without rows."""
    return Sheet.of(caption, columns, rows, chosen) if rows else None


def heading_cell(candidate: ShownCandidate, small: Sequence[str] = ()) -> SheetCell:
    """The first cell of a row about a candidate."""
    return SheetCell(candidate.label, candidate.label, small)


def word_cells(keys: Mapping[str, str], columns: Iterable[SheetColumn]) -> list[SheetCell]:
    """The cells of the columns that have a key."""
    words = [
        metric_name(keys[column.key]) if column.key == "metric" else keys[column.key]
        for column in columns
        if column.key
    ]
    return [SheetCell(word, word) for word in words]


def number_cell(
    number: Number, shown: Callable[[float], str] = percent, small: Sequence[str] = (), *, strong: bool = False
) -> SheetCell:
    """The cell of a number with its interval below, and ``small`` below that."""
    bounds = []
    if math.isfinite(number.low):
        bounds = [f"{shown(number.low)}{' to ' if number.low < 0 else '–'}{shown(number.high)}"]
    return SheetCell(shown(number.value), number.value, [*bounds, *small], strong)
