"""One HTML file that holds everything: no network, no other file, readable without JavaScript."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape

from shiftbench.reports import across, gallery, severity, sheets, stability, unlabelled
from shiftbench.reports.glossary import QUANTITIES, REFERENCES, TERMS
from shiftbench.reports.groups import Group, file_name
from shiftbench.reports.merge import encoders, sources
from shiftbench.reports.names import metric_name
from shiftbench.reports.overview import Failure, Row, baseline_of, failures, overview
from shiftbench.reports.points import embedding
from shiftbench.reports.sheets import Sheet
from shiftbench.reports.style import CSS_COLOURS, Drawing
from shiftbench.reports.verdict import caveats, verdict
from shiftbench.reports.view import View, views
from shiftbench.results.tables import Results

TEMPLATES = Path(__file__).parent / "templates"
MAX_ROWS = 1000  # of the overview; beyond them it keeps to the metrics of the figures


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
    """All that the page says about one data set and way to choose k.

    Attributes:
        view: of the first clusterer, which the figures show.
        metrics: those of the overview.
        others: by the name of each further clusterer, its severity curves.
    """

    view: View
    clusterers: list[str]
    metrics: list[str]
    verdict: list[str]
    caveats: list[str]
    longest: str
    readers: list[across.Reader]
    rows: list[Row]
    sheets: Mapping[str, Sheet | None]
    figures: Mapping[str, list[Group]]
    others: Mapping[str, list[Group]]
    contact_sheet: list[gallery.Picture]
    galleries: list[Gallery]
    failures: list[Failure]


FIGURES = {
    "mean": severity.mean_curves,
    "corruptions": severity.corruption_curves,
    "refit": severity.frozen_against_refit,
    "heat": severity.heatmaps,
    "pairs": across.clean_pairs,
    "versus": across.clean_against_shifted,
    "probes": across.probe_curves,
    "runs": stability.seed_spread,
    "agreement": stability.agreement_curves,
    "label_free": unlabelled.drop_against_agreement,
}


def render(results: Results, title: str | None = None) -> Page:
    """The page of a result; galleries come from the folders that ``results.run`` names."""
    blocks = [_block(part, results) for part in _together(views(results))]
    drawings = _Names()
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "metric": metric_name,
        "quiet_intervals": _quiet_intervals,
        "in_words": _in_words,
        "inline": lambda drawing: Markup(drawings.distinct(drawing).inline()),
        "pretty": lambda value: json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False),
    }
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    html = environment.get_template("report.html").render(
        title=title or _title(blocks),
        blocks=blocks,
        baseline=baseline_of(results.summary),
        sources=sources(results),
        encoders=encoders(results),
        glossary=[(quantity.heading, quantity.definition) for quantity in QUANTITIES.values()] + list(TERMS.items()),
        references=[*REFERENCES, *_citations(results)],
        colours=CSS_COLOURS,
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return Page(html.strip() + "\n", drawings.found)


def _together(found: Sequence[View]) -> list[list[View]]:
    """The clusterers of one data set and way to choose k stand under one heading."""
    parts: dict[tuple[str, str, int], list[View]] = {}
    for view in found:
        parts.setdefault((view.data, view.setting.k_source, view.setting.k), []).append(view)
    return list(parts.values())


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


def _block(part: Sequence[View], results: Results) -> Block:
    view, *others = part
    here = [encoder for encoder in encoders(results) if encoder["data"] == view.data]
    folders = [Path(encoder["folder"]) for encoder in here if encoder["folder"]]
    contact_sheets = (gallery.contact_sheet(folder) for folder in dict.fromkeys(folders))
    per_metric = len(view.candidates) * len(view.protocols) * max(len(view.shifts), 1) * len(part)
    metrics = view.metrics if per_metric * len(view.metrics) <= MAX_ROWS else view.headline
    rows = [row for one in part for row in overview(one, metrics)]
    cells, stability_rows = ([getattr(one, name) for one in part] for name in ("cells", "stability"))
    return Block(
        view,
        [one.clusterer for one in part],
        metrics,
        verdict(view, [row for row in rows if row.clusterer == view.clusterer]),
        caveats(view),
        stability.longest(view),
        across.readers(view),
        rows,
        {
            "overview": sheets.overview_sheet(view, rows, baseline_of(results.summary)),
            "probes": sheets.probes_sheet(view),
            "stability": sheets.stability_sheet(view),
            "label_free": sheets.label_free_sheet(view),
            "rankings": sheets.rankings_sheet(view),
        },
        {name: draw(view) for name, draw in FIGURES.items()},
        {one.clusterer: curves for one in others if (curves := severity.mean_curves(one))},
        next((sheet for sheet in contact_sheets if sheet), []),
        [found for encoder in here if (found := _gallery(view, encoder))],
        failures(cells, stability_rows),
    )


def _gallery(view: View, encoder: Mapping[str, Any]) -> Gallery | None:
    """Pictures of an encoder, for the encoders that figures show."""
    if not encoder["folder"] or encoder["name"] not in {candidate.encoder for candidate in view.drawn}:
        return None
    examples = gallery.examples(Path(encoder["folder"]), encoder)
    if examples is None:
        return None
    seed = "" if encoder["train_seed"] is None else f", training seed {encoder['train_seed']}"
    label = f"{encoder['name']}{seed}"
    return Gallery(label, examples, _maps(view, label, examples.arrays))


def _maps(view: View, label: str, arrays: gallery.Arrays) -> list[Drawing]:
    """The features of one encoder on two axes, clean and under the shift that moves them most."""
    if not {"map_clean", "map_shifted", "map_cluster"} <= set(arrays):
        return []
    clean, shifted, clusters = (arrays[name] for name in ("map_clean", "map_shifted", "map_cluster"))
    titles = {"clean": clean}
    titles.setdefault(gallery.shifted_condition(arrays), shifted)
    limits = np.array([clean.min(axis=0), clean.max(axis=0)])
    return [
        embedding(file_name("map", view, label, title), title, points, who=label, clusters=clusters, limits=limits)
        for title, points in titles.items()
    ]


def _citations(results: Results) -> list[str]:
    """What the shifts of a result ask to be cited as."""
    shifts = [shift for source in sources(results) for shift in source.get("shifts", ())]
    return list(dict.fromkeys(f"{one['citation']} (the shift {one['name']})." for one in shifts if one.get("citation")))


def _title(blocks: list[Block]) -> str:
    names = " and ".join(dict.fromkeys(block.view.data for block in blocks))
    shifted = any(block.view.shifts for block in blocks)
    return f"Clusterings of {names or 'nothing'}{' under shift' if shifted else ''}"


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
    """The sentence with its intervals set back; no line ends before a percent sign."""
    sentence = sentence.replace(" %", "\N{NO-BREAK SPACE}%")
    found = re.sub(r"\((−?[\d.]+ to −?[\d.]+)\)", r'<span class="interval">(\1)</span>', str(escape(sentence)))
    return Markup(found)
