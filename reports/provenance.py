"""The section "Provenance": of which encoders, data and evaluations the numbers are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from shiftbench.reports.merge import encoders, sources
from shiftbench.reports.section import TEMPLATES, Chapter, Content, Section


def content(chapter: Chapter) -> Content:
    """The records of all encoders and evaluations, and how they are written."""
    return {
        "encoders": encoders(chapter.results),
        "sources": sources(chapter.results),
        "in_words": in_words,
        "indented": lambda value: json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False),
    }


SECTION = Section("end", TEMPLATES / "provenance.html", content, anchor="provenance", title="Provenance")


def in_words(record: Mapping[str, Any] | None) -> str:
    """A nested record on one line, without repetition, hashes by their first letters: ``method concurl, epochs 40``."""

    def parts(items: Mapping[str, Any]) -> Iterator[str]:
        for key, value in items.items():
            if isinstance(value, Mapping):
                yield from parts(value)
            elif value not in (None, ""):
                words = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
                words = f"{words[:12]}…" if re.fullmatch("[0-9a-f]{40,}", words) else words
                yield f"{key.replace('_', ' ')} {words}"

    return ", ".join(dict.fromkeys(parts(record or {})))
