"""The section "Glossary": what every number means."""

from __future__ import annotations

from shiftbench.reports.section import TEMPLATES, Chapter, Content, Section
from shiftbench.reports.terms import definitions


def content(chapter: Chapter) -> Content:
    """All terms, whether the page uses them or not."""
    return {"definitions": definitions()}


SECTION = Section("end", TEMPLATES / "glossary.html", content, anchor="glossary", title="Glossary")
