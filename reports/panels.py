"""Panels that belong together, how they are chosen and how they are named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from shiftbench.reports.filters import FILTER_NAMES, Filter
from shiftbench.reports.names import metric_name
from shiftbench.reports.style import Drawing
from shiftbench.reports.view import View


@dataclass(frozen=True)
class PanelGroup:
    """Panels that are shown when their metric, protocol and shift are chosen; empty means always."""

    panels: list[Drawing]
    metric: str = ""
    protocol: str = ""
    shift: str = ""

    @property
    def label(self) -> str:
        """What is shown, for readers who see all groups."""
        return " · ".join(part for part in (metric_name(self.metric), self.protocol, self.shift) if part)


def figure_filters(view: View) -> list[Filter]:
    """By what the panels of a view can be chosen; one of each is shown at a time."""
    values = {"metric": view.headline, "protocol": view.protocols, "shift": view.graded}
    return [Filter(key, FILTER_NAMES[key], known, known[0]) for key, known in values.items() if len(known) > 1]


def choices(view: View) -> Iterator[tuple[str, str]]:
    """Each metric of the figures with each protocol."""
    for metric in view.headline:
        for protocol in view.protocols:
            yield metric, protocol


def shift_choice(view: View, shift: str) -> str:
    """The shift by which a panel is chosen: none where only one has severities."""
    return shift if len(view.graded) > 1 else ""


def filled(groups: Iterable[PanelGroup]) -> list[PanelGroup]:
    """The groups that have a panel."""
    return [group for group in groups if group.panels]


def file_name(*parts: str | View) -> str:
    """A file's name of letters, digits, dots and dashes."""
    words = [f"{part.data}-{part.clusterer}" if isinstance(part, View) else part for part in parts]
    name = "-".join("".join(c if c.isalnum() or c in "._" else "-" for c in word) for word in words)
    if len(name.encode()) > 120:  # of the 255 bytes that a file system takes
        name = f"{name.encode()[:100].decode(errors='ignore')}-{crc32(name.encode()):08x}"
    return name


def tenths(values: np.ndarray) -> tuple[float, float]:
    """The tenths around all values: what panels of one group share."""
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0, 1.0
    return float(np.floor(known.min() * 10) / 10), float(np.ceil(known.max() * 10) / 10)
