"""Pictures from ``examples/``, as data URIs: nothing on the page is fetched."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

THUMBNAIL = 64  # pixels; larger images are reduced
SMALL = 40  # images up to this size are shown at twice their size
CLUSTERS_SHOWN = 20
GAP = 2

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Picture:
    """One strip of images as a PNG in a data URI, with the size at which it is shown."""

    uri: str
    alt: str
    width: int
    height: int
    caption: str = ""


@dataclass(frozen=True)
class Examples:
    """The pictures of one encoder.

    Attributes:
        typical: one strip per cluster.
        hidden: how many clusters are not shown.
        switching: images that change their cluster in most conditions, most restless first.
        arrays: what the archive holds, for the map.
    """

    typical: list[Picture]
    hidden: int
    switching: list[Picture]
    arrays: Arrays


def load(path: Path) -> Arrays | None:
    """The arrays of an archive; None where there is none or it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
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
    arrays = load(folder / "examples" / f"{encoder['slug']}.npz")
    if arrays is None:
        return None
    typical, switching = [], []
    if "typical" in arrays:
        for cluster, (images, index) in enumerate(zip(arrays["typical"], arrays["typical_index"], strict=True)):
            known = images[index >= 0]
            if len(known) and cluster < CLUSTERS_SHOWN:
                alt = f"The {len(known)} images nearest to the centre of cluster {cluster}"
                typical.append(_strip(known, alt, f"{cluster}", places=len(images)))
    if "switching" in arrays:
        for image, rate in zip(arrays["switching"], arrays["switching_rate"], strict=True):
            if rate > 0:
                share = f"{100 * rate:.0f} %"
                switching.append(
                    _strip(image[None], f"An image that changes its cluster in {share} of the conditions", share)
                )
    hidden = max(len(arrays.get("typical", ())) - CLUSTERS_SHOWN, 0)
    return Examples(typical, hidden, switching, arrays)


def _strip(images: np.ndarray, alt: str, caption: str, places: int | None = None) -> Picture:
    """uint8 (n, H, W, 3) side by side, with transparent gaps, in a strip for ``places`` images."""
    tiles = [Image.fromarray(image) for image in images]
    for tile in tiles:
        tile.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    width, height = tiles[0].size
    strip = Image.new("RGBA", ((width + GAP) * (places or len(tiles)) - GAP, height), (0, 0, 0, 0))
    for place, tile in enumerate(tiles):
        strip.paste(tile, (place * (width + GAP), 0))
    file = io.BytesIO()
    strip.save(file, format="PNG", optimize=True)
    uri = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    scale = 2 if width <= SMALL else 1
    return Picture(uri, alt, scale * strip.width, scale * strip.height, caption)
