"""One HTML file that holds everything: no network, no other file, readable without JavaScript."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape

from shiftbench.reports import gallery, sections
from shiftbench.reports.glossary import QUANTITIES, REFERENCES, TERMS
from shiftbench.reports.merge import encoders, sources
from shiftbench.reports.sections import Group
from shiftbench.reports.style import CSS_COLOURS, Drawing
from shiftbench.reports.tables import (
    Failure,
    Number,
    Row,
    baseline_of,
    failures,
    overview,
    quantities_of,
)
from shiftbench.reports.verdict import caveats, verdict
from shiftbench.reports.view import Entrant, View, metric_name, percent, views
from shiftbench.results import Results

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Page:
    """A rendered report.

    Attributes:
        html: the file's content.
        drawings: its figures, each with a name of its own.
    """

    html: str
    drawings: list[Drawing]


@dataclass(frozen=True)
class Gallery:
    """What is known of one encoder besides its numbers."""

    label: str
    examples: gallery.Examples
    maps: list[Drawing]


@dataclass(frozen=True)
class Block:
    """All that the page says about one view."""

    view: View
    drawn: list[Entrant]
    verdict: list[str]
    caveats: list[str]
    rows: list[Row]
    figures: Mapping[str, list[Group]]
    contact_sheet: list[gallery.Picture]
    galleries: list[Gallery]
    failures: list[Failure]


FIGURES = {
    "mean": sections.mean_curves,
    "corruptions": sections.corruption_curves,
    "refit": sections.frozen_against_refit,
    "heat": sections.heatmaps,
    "runs": sections.seed_spread,
    "agreement": sections.agreement_curves,
    "label_free": sections.drop_against_agreement,
}


def render(results: Results, title: str | None = None) -> Page:
    """The page of a result; galleries come from the folders that ``results.run`` names."""
    blocks = [_block(view, results) for view in views(results)]
    drawings = _Names()
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "percent": percent,
        "bounds": _bounds,
        "metric": metric_name,
        "object_id": id,
        "quiet_intervals": _quiet_intervals,
        "in_words": _in_words,
        "inline": lambda drawing: Markup(drawings.distinct(drawing).inline()),
        "pretty": lambda value: json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False),
    }
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    html = environment.get_template("report.html").render(
        title=title or _title(blocks),
        blocks=blocks,
        quantities=quantities_of([row for block in blocks for row in block.rows]),
        baseline=baseline_of(results.summary),
        spans={id(row): span for block in blocks for row in block.rows if (span := _span(row))},
        sources=sources(results),
        encoders=encoders(results),
        glossary=[(quantity.heading, quantity.definition) for quantity in QUANTITIES.values()] + list(TERMS.items()),
        references=REFERENCES,
        colours=CSS_COLOURS,
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return Page(html.strip() + "\n", drawings.found)


class _Names:
    """Gives each drawing a name of its own: identifiers inside an SVG hang on it."""

    def __init__(self) -> None:
        self.found: list[Drawing] = []
        self._taken: set[str] = set()

    def distinct(self, drawing: Drawing) -> Drawing:
        name, count = drawing.name, 1
        while name in self._taken:
            count += 1
            name = f"{drawing.name}-{count}"
        self._taken.add(name)
        self.found.append(replace(drawing, name=name))
        return self.found[-1]


def _block(view: View, results: Results) -> Block:
    here = [encoder for encoder in encoders(results) if encoder["data"] == view.data]
    folders = [Path(encoder["folder"]) for encoder in here if encoder["folder"]]
    sheets = (gallery.contact_sheet(folder) for folder in dict.fromkeys(folders))
    rows = overview(view)
    return Block(
        view,
        sections.drawn(view),
        verdict(view, rows),
        caveats(view),
        rows,
        {name: draw(view) for name, draw in FIGURES.items()},
        next((sheet for sheet in sheets if sheet), []),
        [found for encoder in here if (found := _gallery(view, encoder))],
        failures(view),
    )


def _gallery(view: View, encoder: Mapping[str, Any]) -> Gallery | None:
    """Pictures of an encoder, for the encoders that figures show."""
    shown = {entrant.encoder for entrant in sections.drawn(view)}
    if not encoder["folder"] or encoder["name"] not in shown:
        return None
    examples = gallery.examples(Path(encoder["folder"]), encoder)
    if examples is None:
        return None
    seed = "" if encoder["train_seed"] is None else f", training seed {encoder['train_seed']}"
    label = f"{encoder['name']}{seed}"
    return Gallery(label, examples, sections.maps(view, label, examples.arrays))


def _title(blocks: list[Block]) -> str:
    names = " and ".join(dict.fromkeys(block.view.data for block in blocks))
    shifted = any(block.view.shifts for block in blocks)
    return f"Clusterings of {names or 'nothing'}{' under shift' if shifted else ''}"


def _bounds(number: Number) -> str:
    """The interval as people read it; empty without one."""
    if not math.isfinite(number.low):
        return ""
    return f"{percent(number.low)}{' to ' if number.low < 0 else '–'}{percent(number.high)}"


def _in_words(record: Mapping[str, Any] | None) -> str:
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


def _quiet_intervals(sentence: str) -> Markup:
    """The sentence with its intervals set back."""
    found = re.sub(r"\((−?[\d.]+ to −?[\d.]+)\)", r'<span class="interval">(\1)</span>', str(escape(sentence)))
    return Markup(found)


def _span(row: Row) -> dict[str, float] | None:
    """Worst, mean shifted and clean, for the small picture in the table; None where one is missing."""
    span = {key: 100 * row.number(key).value for key in ("worst", "shifted", "clean")}
    return span if all(map(math.isfinite, span.values())) else None
