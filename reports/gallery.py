"""Pictures from ``examples/``, as data URIs: nothing on the page is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shiftbench.reports.names import label_in_words
from shiftbench.reports.style import data_uri
from shiftbench.runtime.compat import NPZ_ERRORS

THUMBNAIL = 64  # pixels; larger images are reduced
SMALL = 40  # images up to this size are shown at twice their size
CLUSTERS_SHOWN = 20
GAP = 2

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Picture:
    """One strip of images in a data URI, with the size at which it is shown."""

    uri: str
    alt: str
    width: int
    height: int
    caption: str = ""


@dataclass(frozen=True)
class Cluster:
    """A cluster's most typical images; None where it holds none."""

    name: str
    clean: Picture | None
    shifted: Picture | None


@dataclass(frozen=True)
class Examples:
    """The pictures of one encoder.

    Attributes:
        condition: how people read the shifted condition of ``typical``; empty where only clean images are known.
        typical: the clusters that hold an image.
        hidden: how many clusters are not shown.
        switching: images that change their cluster in most conditions, most restless first.
        arrays: what the archive holds, for the map.
    """

    condition: str
    typical: list[Cluster]
    hidden: int
    switching: list[Picture]
    arrays: Arrays


def load(path: Path) -> Arrays | None:
    """The arrays of an archive; None where there is none or it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except NPZ_ERRORS:
        return None


def contact_sheet(folder: Path) -> list[Picture]:
    """One strip per corruption, clean first; empty without the archive."""
    arrays = load(folder / "examples" / "corruptions.npz")
    if arrays is None:
        return []
    names = [name.replace("_", " ") for name in arrays["names"].tolist()]
    return [
        _strip(images, f"One image clean and under {name} at severities 1 to {len(images) - 1}", name)
        for name, images in zip(names, arrays["images"], strict=True)
    ]


def examples(folder: Path, encoder: Mapping[str, Any]) -> Examples | None:
    """The pictures of an encoder of ``run.json``; None where its archive is missing or damaged."""
    slug = str(encoder["slug"])
    inside = not {"/", "\\", "\0"}.intersection(slug)  # a name from a record never leads out of its folder
    arrays = load(folder / "examples" / f"{slug}.npz") if inside else None
    if arrays is None:
        return None
    switching = []
    if "switching" in arrays:
        for image, rate in zip(arrays["switching"], arrays["switching_rate"], strict=True):
            if rate > 0:
                share = f"{100 * rate:.0f} %"
                switching.append(
                    _strip(image[None], f"An image that changes its cluster in {share} of the conditions", share)
                )
    hidden = max(len(arrays.get("typical", ())) - CLUSTERS_SHOWN, 0)
    condition = shifted_condition(arrays) if "typical_shifted" in arrays else ""
    return Examples(condition, _clusters(arrays, condition), hidden, switching, arrays)


def shifted_condition(arrays: Arrays) -> str:
    """How people read the condition that moved the partitions most: ``contrast 5``; ``clean`` where none did."""
    return label_in_words(str(arrays["map_condition"]))


def _clusters(arrays: Arrays, condition: str) -> list[Cluster]:
    """The first clusters, each clean and shifted, without those that are empty on both sides."""
    clean = _typical(arrays, "typical", "clean")
    shifted = _typical(arrays, "typical_shifted", f"under {condition}")
    both = enumerate(zip_longest(clean, shifted))
    return [Cluster(str(cluster), *sides) for cluster, sides in both if any(sides)]


def _typical(arrays: Arrays, name: str, how: str) -> list[Picture | None]:
    """One strip per cluster."""
    if name not in arrays:
        return []
    strips: list[Picture | None] = []
    for images, index in list(zip(arrays[name], arrays[f"{name}_index"], strict=True))[:CLUSTERS_SHOWN]:
        known = images[index >= 0]
        count = f"{len(known)} images" if len(known) > 1 else "image"
        alt = f"The {count} nearest to the centre of cluster {len(strips)}, {how}"
        strips.append(_strip(known, alt, places=len(images)) if len(known) else None)
    return strips


def _strip(images: np.ndarray, alt: str, caption: str = "", places: int | None = None) -> Picture:
    """uint8 (n, H, W, 3) side by side, with transparent gaps, in a strip for ``places`` images."""
    tiles = [Image.fromarray(image) for image in images]
    for tile in tiles:
        tile.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    width, height = tiles[0].size
    strip = Image.new("RGBA", ((width + GAP) * (places or len(tiles)) - GAP, height), (0, 0, 0, 0))
    for place, tile in enumerate(tiles):
        strip.paste(tile, (place * (width + GAP), 0))
    scale = 2 if width <= SMALL else 1
    return Picture(data_uri(strip), alt, scale * strip.width, scale * strip.height, caption)
