"""What a reader can choose to see of a table or of the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shiftbench.reports.names import metric_name

FILTER_NAMES = {"metric": "Metric", "protocol": "Clusters", "shift": "Shift"}
"""What the reader calls a key; in a table other keys are called as their column."""

_MOST_BUTTONS = 4
_LONG = ("shift", "axis")  # their values are too long for a row of buttons


@dataclass(frozen=True)
class Filter:
    """A choice among the values that rows or panels have for one key.

    Attributes:
        key: what it chooses by, such as "metric"; HTML carries it as ``data-metric``.
        name: what the reader calls it.
        values: at least two.
        chosen: the value that is shown first; None for all of them.
    """

    key: str
    name: str
    values: Sequence[str]
    chosen: str | None = None

    @property
    def is_menu(self) -> bool:
        """Whether the values fold into a menu; else each has a button."""
        return len(self.values) > _MOST_BUTTONS or self.key in _LONG

    def text(self, value: str) -> str:
        """How people read a value."""
        return metric_name(value) if self.key == "metric" else value
