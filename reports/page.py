"""One HTML file that holds everything: no network, no other file, readable without JavaScript."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from shiftbench.errors import InputError
from shiftbench.registry import SECTIONS
from shiftbench.reports.names import metric_name
from shiftbench.reports.panels import figure_filters
from shiftbench.reports.section import PLACES, TEMPLATES, Chapter, Content, Section
from shiftbench.reports.style import CSS_COLOURS, Drawing
from shiftbench.reports.view import View, views
from shiftbench.results.tables import Results


@dataclass(frozen=True)
class Page:
    """A rendered report.

    Attributes:
        html: the file's content.
        drawings: its figures, each with a name of its own.
    """

    html: str
    drawings: list[Drawing]


def render(results: Results, title: str | None = None) -> Page:
    """The page of a result: the sections of the registry in their order, each in its place."""
    everything = views(results)
    parts = _by_data(everything)
    chapters = [Chapter(results, part, number, len(parts)) for number, part in enumerate(parts, 1)]
    writer = _Writer()
    *places, end = PLACES
    written = [(chapter, {place: writer.sections(chapter, place) for place in places}) for chapter in chapters]
    at_the_end = writer.sections(Chapter(results, everything), end)
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    html = writer.environment.get_template("report.html").render(
        title=title or _title(chapters),
        chapters=[(chapter, figure_filters(chapter.view), sections) for chapter, sections in written],
        end=at_the_end,
        menu=writer.menu,
        colours=CSS_COLOURS,
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return Page(html.strip() + "\n", writer.drawings)


class _Writer:
    """Renders sections one after the other.

    Attributes:
        menu: the sections to which it has a link, of those that were rendered so far.
        drawings: the figures in them, each with a name of its own: identifiers inside an SVG hang on it.
    """

    def __init__(self) -> None:
        self.environment = Environment(
            loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
        )
        self.environment.filters |= {"metric": metric_name, "inline": self._inline}
        self.menu: list[Section] = []
        self.drawings: list[Drawing] = []
        self._names: set[str] = set()
        self._anchors: set[str] = set()
        self._sections = [
            (section, self.environment.from_string(section.template.read_text(encoding="utf-8")))
            for section in map(_section, SECTIONS)
        ]

    def sections(self, chapter: Chapter, place: str) -> list[Markup]:
        """The sections of one place that have something to say of a chapter."""
        rendered = []
        for section, template in self._sections:
            content = section.content_of(chapter) if section.place == place else None
            if content is not None:
                anchor = self._anchor(section, content) if chapter.number == 1 else ""
                rendered.append(Markup(template.render(chapter=chapter, id=anchor, **content)))
        return rendered

    def _anchor(self, section: Section, content: Content) -> str:
        """The ``id`` of a section, as HTML; empty where it has none, or another one of the same anchor came before."""
        if not section.anchor or section.anchor in self._anchors:
            return ""
        self._anchors.add(section.anchor)
        if section.title and section.is_listed(content):
            self.menu.append(section)
        return Markup(' id="{}"').format(section.anchor)

    def _inline(self, drawing: Drawing) -> Markup:
        """A drawing as SVG, under a name that no other one has."""
        name, count = drawing.name, 1
        while name in self._names:
            count += 1
            name = f"{drawing.name}-{count}"
        self._names.add(name)
        self.drawings.append(replace(drawing, name=name))
        return Markup(self.drawings[-1].inline())


def _section(name: str) -> Section:
    section = SECTIONS.load(name)
    if not isinstance(section, Section):
        raise InputError(f"The report section {name!r} is a {type(section).__name__}, not a Section.")
    return section


def _by_data(everything: Sequence[View]) -> list[list[View]]:
    """The clusterers of one data set and way to choose k stand under one heading."""
    parts: dict[tuple[str, str, int], list[View]] = {}
    for view in everything:
        parts.setdefault((view.data, view.setting.k_source, view.setting.k), []).append(view)
    return list(parts.values())


def _title(chapters: Sequence[Chapter]) -> str:
    names = " and ".join(dict.fromkeys(chapter.view.data for chapter in chapters))
    shifted = any(chapter.view.shifts for chapter in chapters)
    return f"Clusterings of {names or 'nothing'}{' under shift' if shifted else ''}"
