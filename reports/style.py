"""How figures look, and how matplotlib's SVG becomes part of a page that can be light or dark.

Figures are drawn in the colours of the light page. Every colour below has a CSS variable of the same role,
which replaces it when the SVG is set into the page; so one drawing serves both themes.
"""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image, features

INK, MUTED, LINE, PAPER = "#1c2128", "#5b6470", "#dfe3e8", "#fefefe"

# The hues of Okabe & Ito (2008), darkened until each has a contrast of 3:1 on white; neighbours differ in lightness.
SERIES = ("#0072b2", "#d55e00", "#008060", "#b8608f", "#9c7400", "#3a94cc")
FLOORS = ("#4d5560", "#878f9a")  # what has learned nothing is grey
DASHES = ((), (4, 1.6), (1.2, 1.2), (5, 1.4, 1.2, 1.4))
MARKERS = ("o", "s", "D", "^", "v", "P")
ROW_HEIGHT = 19  # pixels per line of text beside an axis
WIDE = 390, 260  # pixels of a panel with names at the ends of its lines
HEAT = sns.color_palette("mako", as_cmap=True)  # perceptually uniform, readable without colour vision
PICTURE = "WEBP" if features.check("webp") else "PNG"  # a fifth of the size; Pillow may be built without it
# Tol (2021), "muted": clusters on a map; the marker changes when the colours begin again.
CLUSTERS = ("#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#cc6677", "#882255", "#aa4499")

# The same colours on the dark page, lighter where they would sink.
_DARK = ("#e8ebef", "#9ba4b0", "#2b323b", "#14181d")
_DARK_SERIES = ("#4fa8e0", "#f0803c", "#35c495", "#dd95bb", "#e9b03a", "#86cdf2")
_DARK_FLOORS = ("#a9b1bb", "#78818c")

_ROLES = ["ink", "muted", "line", "paper", *(f"series-{i}" for i in range(6)), "floor-0", "floor-1"]
_VARIABLES = dict(zip((INK, MUTED, LINE, PAPER, *SERIES, *FLOORS), _ROLES, strict=True))
CSS_COLOURS = {
    role: (light, dark)
    for (light, role), dark in zip(_VARIABLES.items(), (*_DARK, *_DARK_SERIES, *_DARK_FLOORS), strict=True)
}

Style = dict[str, Any]
"""Keyword arguments of matplotlib."""

_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # an encoder's name may hold a dollar sign
    "axes.unicode_minus": True,
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.linewidth": 0.7,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "grid.color": LINE,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}


@dataclass(frozen=True)
class Look:
    """How one encoder is drawn, in every figure alike."""

    colour: str
    dashes: tuple[float, ...]
    marker: str

    @property
    def variable(self) -> str:
        """The CSS variable of its colour."""
        return f"--{_VARIABLES[self.colour]}"

    @property
    def line(self) -> Style:
        """Keyword arguments of a matplotlib line."""
        return {"color": self.colour, "linewidth": 1.8} | ({"dashes": self.dashes} if self.dashes else {})


def looks(floors: list[bool]) -> list[Look]:
    """One look per encoder, given which are floors; colours begin again with other dashes and markers."""
    assigned, counts = [], {True: 0, False: 0}
    for floor in floors:
        palette = FLOORS if floor else SERIES
        turn, place = divmod(counts[floor], len(palette))
        dashes = DASHES[(turn + floor) % len(DASHES)]  # floors are never solid
        assigned.append(Look(palette[place], dashes, MARKERS[(place + turn) % len(MARKERS)]))
        counts[floor] += 1
    return assigned


@dataclass(frozen=True)
class Drawing:
    """One panel, ready to be set into a page or saved.

    Attributes:
        name: unique on the page, and the file's name when figures are saved.
        alt: what it shows, in words.
        figure: the matplotlib figure.
    """

    name: str
    alt: str
    figure: Figure

    def inline(self) -> str:
        """The SVG element, as wide as its place, themed through CSS variables."""
        return _inline(self._svg(), self.alt)

    def _svg(self) -> str:
        with drawing(salt=self.name):
            file = io.StringIO()
            FigureCanvasSVG(self.figure).print_svg(file, metadata={"Date": None, "Creator": None})
        return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "", file.getvalue())  # XML has no such characters

    def files(self) -> dict[str, bytes]:
        """What ``report(figures=True)`` saves: file name to content, as SVG and PNG on white."""
        png = io.BytesIO()
        with drawing(salt=self.name):
            self.figure.savefig(png, format="png", dpi=216, facecolor="white", metadata={"Software": None})
        return {f"{self.name}.svg": self._svg().encode(), f"{self.name}.png": png.getvalue()}


@contextmanager
def drawing(salt: str = "shiftbench") -> Iterator[None]:
    """matplotlib with this module's settings; identifiers inside an SVG hang on ``salt`` and content alone."""
    with warnings.catch_warnings(), matplotlib.rc_context(_RC | {"svg.hashsalt": salt}):
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)  # the reader's browser has the letters
        yield


def panel(
    width: float, height: float, *, left: float = 30, right: float = 10, bottom: float = 22, top: float = 28
) -> Figure:
    """A figure of so many CSS pixels, with margins of so many, for :func:`headed`."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=180)  # of rasterised parts; an SVG has 72 units per inch
    figure.subplots_adjust(left=left / width, right=1 - right / width, bottom=bottom / height, top=1 - top / height)
    return figure


def headed(figure: Figure, text: str) -> Axes:
    """The figure's axes, below a title that begins at its left edge."""
    height = figure.get_figheight() * 72
    figure.text(0.004, 1 - 4 / height, text, va="top", fontsize=10.5, fontweight="bold")
    return figure.add_subplot()


def percent_label(value: float, _: float) -> str:
    """A fraction as a tick of an axis."""
    return f"{100 * value + 0.0:g}".replace("-", "−")


def percent_ticks(axes: Axes, which: str, limits: tuple[float, float]) -> None:
    """Limits and ticks of the axis ``which``, in percent."""
    low, high = limits
    step = 0.25 if high - low > 0.5 else 0.1
    ticks = [tick for tick in step * np.arange(-10, 11) if low - 1e-9 <= tick <= high + 1e-9]
    labels = [percent_label(round(tick, 2), 0) for tick in ticks]
    axes.set(**{f"{which}lim": (low - 0.01 * (which == "x"), high + 0.03)})
    axes.set(**{f"{which}ticks": ticks, f"{which}ticklabels": labels})


def apart(heights: Sequence[float], gap: float, top: float) -> list[float]:
    """Heights in rising order, moved up until a ``gap`` lies between each two; those above ``top`` push others down."""
    moved = list(heights)
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + gap)
    return [min(height, top - above * gap) for above, height in zip(reversed(range(len(moved))), moved, strict=True)]


def bare(axes: Axes) -> None:
    """Neither grid nor frame."""
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def room(names: Sequence[str], more: float = 12) -> float:
    """Pixels that names beside an axis take; only the reader's browser knows how wide its letters are."""
    return more + 5.6 * max(map(len, names), default=0)


def short(label: str) -> str:
    """A long name with its middle left out."""
    return label if len(label) <= 24 else f"{label[:11]}…{label[-12:]}"


def severity_name(severity: int) -> str:
    """A severity as a tick of an axis."""
    return str(severity) if severity else "clean"


def data_uri(image: Image.Image, *, drawn: bool = False) -> str:
    """A picture as part of the page; a ``drawn`` one keeps its sharp edges, in 64 colours."""
    file = io.BytesIO()
    if drawn:
        image = image.quantize(64, Image.Quantize.FASTOCTREE).convert("RGBA")
    image.save(file, format=PICTURE, quality=90, lossless=drawn)
    return f"data:image/{PICTURE.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def _smaller(match: re.Match[str]) -> str:
    """matplotlib's PNG, as :func:`data_uri` has it."""
    return data_uri(Image.open(io.BytesIO(base64.b64decode(match[1]))), drawn=True)


def _inline(svg: str, alt: str) -> str:
    body = svg[svg.index("<svg") :].strip()
    body = re.sub(r"data:image/png;base64,([\w+/=\s]+)", _smaller, body)
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.S)
    body = _unwrapped(re.sub(r"<g id=\"[^\"]*\"", "<g", body))
    body = re.sub(r"<[^>]+>", _themed, body)
    viewbox = re.search(r'viewBox="([^"]+)"', body)
    assert viewbox, "matplotlib writes a viewBox"
    head = f'<svg role="img" aria-label="{escape(alt)}" viewBox="{viewbox[1]}" xmlns="http://www.w3.org/2000/svg"'
    return re.sub(r"\n\s*", "\n", head + ' xmlns:xlink="http://www.w3.org/1999/xlink">' + body.partition(">")[2])


def _unwrapped(svg: str) -> str:
    """Without the groups that say nothing, one around every artist; a page of many figures opens sooner."""
    kept: list[bool] = []

    def kept_tag(match: re.Match[str]) -> str:
        tag = match[0]
        if tag == "</g>":
            return tag if kept.pop() else ""
        if not tag.endswith("/>"):
            kept.append(tag != "<g>")
        return "" if tag in ("<g>", "<g/>") else tag

    return re.sub(r"</?g\b[^>]*>", kept_tag, svg)


def _themed(tag: re.Match[str]) -> str:
    """One SVG tag: shorter numbers, CSS variables for colours. Text between tags is data and stays."""
    text = re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0])
    return re.sub(r"#[0-9a-f]{6}\b", lambda c: f"var(--{_VARIABLES[c[0]]})" if c[0] in _VARIABLES else c[0], text)
