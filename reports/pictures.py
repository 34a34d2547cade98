"""The section "Pictures": what the clusters of each encoder hold, and the corruptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shiftbench.reports import gallery, points
from shiftbench.reports.panels import file_name
from shiftbench.reports.section import TEMPLATES, Chapter, Content, Section
from shiftbench.reports.style import Drawing
from shiftbench.reports.view import View


def content(chapter: Chapter) -> Content | None:
    """The galleries of the encoders that figures show, and the first sheet of corruptions that there is."""
    folders = dict.fromkeys(Path(encoder["folder"]) for encoder in chapter.encoders if encoder["folder"])
    contact_sheet = next((sheet for folder in folders if (sheet := gallery.contact_sheet(folder))), [])
    galleries = [shown for encoder in chapter.encoders if (shown := gallery_of(chapter.view, encoder))]
    return {"galleries": galleries, "contact_sheet": contact_sheet} if galleries or contact_sheet else None


SECTION = Section("tables", TEMPLATES / "pictures.html", content, anchor="pictures", title="Pictures")


@dataclass(frozen=True)
class Gallery:
    """What is known of one encoder besides its numbers."""

    label: str
    examples: gallery.Examples
    maps: list[Drawing]


def gallery_of(view: View, encoder: Mapping[str, Any]) -> Gallery | None:
    """The pictures of an encoder of ``run.json``; None where figures do not show it or it has none."""
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
    planes = {"clean": clean}
    planes.setdefault(gallery.shifted_condition(arrays), shifted)
    limits = np.array([clean.min(axis=0), clean.max(axis=0)])
    return [
        points.embedding(
            file_name("map", view, label, title), title, plane, who=label, clusters=clusters, limits=limits
        )
        for title, plane in planes.items()
    ]
