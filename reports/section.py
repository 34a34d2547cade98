"""What a section of the page is, and what it is made from.

A section is one file: it makes the tables and figures, and its ``SECTION`` names their template and their place. The
registry lists all of them in the order of the page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from shiftbench.errors import unknown
from shiftbench.reports.headline import MAX_ROWS
from shiftbench.reports.merge import encoders
from shiftbench.reports.standings import Standing, baseline_of, standings
from shiftbench.reports.view import View
from shiftbench.results.tables import Results

TEMPLATES = Path(__file__).parent / "templates"
PLACES = {
    "top": "the beginning of a chapter",
    "figures": "what the choices of metric, protocol and shift act on",
    "tables": "tables and pictures below the figures",
    "foot": "the end of a chapter",
    "end": "the end of the page, once",
}
Content = Mapping[str, Any]


@dataclass(frozen=True)
class Chapter:
    """What sections speak of: one data set and way to choose k; at the end of the page, everything.

    Attributes:
        results: all of the report.
        views: one per clusterer.
        number: its place among the chapters of the page, from 1.
        count: how many chapters the page has.
    """

    results: Results
    views: Sequence[View]
    number: int = 1
    count: int = 1

    @property
    def view(self) -> View:
        """Of the first clusterer, which the figures show."""
        return self.views[0]

    @property
    def baseline(self) -> str:
        """The encoder that normalises mCE."""
        return baseline_of(self.results.summary)

    @cached_property
    def encoders(self) -> list[dict[str, Any]]:
        """The records of the encoders that were scored on this data set."""
        return [encoder for encoder in encoders(self.results) if encoder["data"] == self.view.data]

    @cached_property
    def metrics(self) -> list[str]:
        """Those of the overview."""
        view = self.view
        per_metric = len(view.candidates) * len(view.protocols) * max(len(view.shifts), 1) * len(self.views)
        return view.metrics if per_metric * len(view.metrics) <= MAX_ROWS else view.headline

    @cached_property
    def standings(self) -> list[Standing]:
        """The rows of the overview, of all clusterers."""
        return [row for view in self.views for row in standings(view, self.metrics)]


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Attributes:
        place: one of ``PLACES``.
        template: a Jinja template of one ``<section{{ id }}>``. It sees ``chapter``, what ``content`` gives, and the macros
            of ``macros.html``, which it imports.
        content: what the template shows of a chapter; None leaves the section out.
        needs: attributes of the chapter's view that must hold something, else the section is left out.
        anchor: where links lead; the first section of that anchor has it, in the first chapter.
        title: what the menu calls it; empty where the menu has no link to it.
        is_listed: whether the menu has that link, given the content.

    Raises:
        InputError: there is no such place.
    """

    place: str
    template: Path
    content: Callable[[Chapter], Content | None]
    needs: tuple[str, ...] = ()
    anchor: str = ""
    title: str = ""
    is_listed: Callable[[Content], bool] = bool

    def __post_init__(self) -> None:
        if self.place not in PLACES:
            raise unknown("place of a section", self.place, PLACES)

    def content_of(self, chapter: Chapter) -> Content | None:
        """What the template shows of a chapter; None where something is missing or there is nothing to show."""
        if not all(len(getattr(chapter.view, need)) for need in self.needs):
            return None
        return self.content(chapter)
