"""Drawings are valid SVG whatever names they hold, the same every time, and legible in both themes."""

import base64
import io
import itertools
import re
import warnings
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from shiftbench.reports import figures, points, style
from shiftbench.reports.points import embedding
from shiftbench.reports.style import CSS_COLOURS, Look, data_uri, looks
from shiftbench.reports.view import Curve

NAMES = ["plain", "a$b$c_{d}", "<b>&\"'", "模型", "_hidden", "x" * 80, "v0.123456789"]


def curve(label, look):
    mean = np.array([0.9, 0.612345678, 0.4])
    return Curve(label, look, [0, 1, 2], mean, mean - 0.05, mean + 0.05)


def drawn(names=NAMES):
    lines = [curve(name, look) for name, look in zip(names, looks([False] * len(names)), strict=True)]
    return figures.curves("a-figure", "A $title$ & <more>", lines, what="ACC", labelled=True)


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(one, other):
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_any_name_is_text_in_valid_svg():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the reader's browser has the letters
        root = ElementTree.fromstring(drawn().inline())
    texts = [node.text for node in root.iter() if node.tag.endswith("text")]
    assert "A $title$ & <more>" in texts
    for name in ["plain", "a$b$c_{d}", "<b>&\"'", "模型", "_hidden", "v0.123456789"]:
        assert f"{name} 40.0" in texts
    assert f"{'x' * 11}…{'x' * 12} 40.0" in texts
    assert "plain goes from 90.0 (clean) to 40.0 (2)" in root.attrib["aria-label"]


def test_characters_that_xml_lacks_are_left_out():
    svg = drawn(["a\x01b\x1bc"]).files()["a-figure.svg"]
    assert "abc 40.0" in [node.text for node in ElementTree.fromstring(svg).iter()]


def test_groups_that_say_nothing_are_left_out():
    drawing = drawn()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        plain, short = (ElementTree.fromstring(svg) for svg in (drawing._svg(), drawing.inline()))

    def marks(root):
        return [(node.tag, node.text) for node in root.iter() if node.tag.rpartition("}")[2] in ("path", "use", "text")]

    assert marks(short) == marks(plain)
    groups = [node for node in short.iter() if node.tag.endswith("}g")]
    assert groups
    assert all(node.attrib and len(node) for node in groups)


def test_colours_are_variables_and_numbers_are_short():
    svg = drawn(["plain"]).inline()
    assert "var(--series-0)" in svg
    assert "var(--ink)" in svg
    assert not [colour for colour in style._VARIABLES if colour in svg]
    assert ".612345678" not in svg
    assert "width=" not in svg.partition(">")[0]


def test_a_drawing_is_the_same_every_time_and_its_identifiers_hang_on_its_name():
    first, second = drawn(["plain"]), drawn(["plain"])
    assert first.inline() == second.inline()
    assert first.files() == second.files()
    other = style.Drawing("another", first.alt, second.figure)
    identifiers = [
        {node.attrib["id"] for node in ElementTree.fromstring(one.inline()).iter() if "id" in node.attrib}
        for one in (first, other)
    ]
    assert identifiers[0]
    assert not identifiers[0] & identifiers[1]


def test_saved_files_have_real_colours():
    files = drawn(["plain"]).files()
    assert set(files) == {"a-figure.svg", "a-figure.png"}
    assert b"var(--" not in files["a-figure.svg"]
    ElementTree.fromstring(files["a-figure.svg"])


def test_a_dozen_encoders_look_different():
    found = looks([False] * 12 + [True] * 3)
    assert len({(one.colour, one.marker) for one in found}) == 15  # points have no dashes
    assert all(isinstance(one, Look) and one.dashes for one in found[12:])  # floors are dashed grey
    assert {one.variable for one in found[12:]} == {"--floor-0", "--floor-1"}


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("role", [role for role in CSS_COLOURS if role not in ("paper", "line")])
def test_colours_stand_out(role, theme):
    """WCAG: 4.5 to 1 for text, 3 to 1 for lines and marks."""
    needed = 4.5 if role in ("ink", "muted") else 3
    assert contrast(CSS_COLOURS[role][theme], CSS_COLOURS["paper"][theme]) >= needed


def test_heat_map_shows_what_is_missing():
    values = np.array([[0.9, 0.5], [0.9, np.nan]])
    drawing = figures.heatmap(
        "h", "x", values, what="ACC", rows=["fog", "snow"], columns=["clean", "1"], low=0.1, high=1.0
    )
    texts = [node.text for node in ElementTree.fromstring(drawing.inline()).iter() if node.tag.endswith("text")]
    assert texts.count("90") == 2
    assert "–" in texts
    assert "Lowest, 50.0, for fog, severity 1." in drawing.alt


def test_strips_and_dumbbells_tell_their_numbers():
    (look,) = looks([False])
    strip = points.strips("s", "clean", [points.Strip("mine", look, np.array([0.7, 0.8]))], what="ACC")
    assert "mine 75.0 (from 70.0 to 80.0)" in strip.alt
    frozen, refit = np.array([0.5, 0.6]), np.array([0.7, 0.6])
    pair = points.dumbbells("d", "mine", frozen, refit, what="ACC", rows=["a", "b"], limits=(0.5, 0.7), look=look)
    assert "by 10.0 points on average, from 0.0 to 20.0." in pair.alt


@pytest.mark.parametrize("top", [0.5, 1.0])
def test_names_at_the_ends_stay_beside_the_axis_and_apart(top):
    lines = [curve(f"encoder {i}", look) for i, look in enumerate(looks([False] * 12))]
    lines = [replace(line, mean=line.mean * 0.3 * top) for line in lines]
    drawing = figures.curves("c", "x", lines, what="ACC", size=(390, 260), labelled=True, top=top)
    (axes,) = drawing.figure.axes
    heights = sorted(text.xy[1] for text in axes.texts)
    assert len(heights) == 12
    assert -0.05 * top < heights[0]
    assert heights[-1] <= top
    assert np.diff(heights).min() > 0.06 * top


def test_pictures_are_what_was_drawn():
    """Photographs up to the loss of their format, drawings up to 64 colours."""
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.integers(0, 256, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    for drawn, most in ((False, 12), (True, 24)):
        kind, _, text = data_uri(Image.fromarray(smooth), drawn=drawn).partition(";base64,")
        assert kind in ("data:image/webp", "data:image/png")
        again = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))
        assert np.abs(again.astype(int) - smooth).mean() < most


def test_a_rasterised_part_stays_in_the_svg():
    points = np.random.default_rng(0).normal(size=(50, 2))
    limits = np.array([points.min(axis=0), points.max(axis=0)])
    drawing = embedding("m", "clean", points, who="x", clusters=np.arange(50) % 3, limits=limits)
    found = re.findall(r"data:image/(\w+);base64,([\w+/=]+)", drawing.inline())
    assert found
    for _, text in found:
        colours = Image.open(io.BytesIO(base64.b64decode(text))).convert("RGBA").getcolors(1 << 20)
        assert 3 < len(colours) <= 64


@pytest.mark.parametrize("heights", [[], [0.3], [0.1, 0.11, 0.12], [0.2, 0.9, 0.95, 0.99]])
def test_names_are_moved_apart_in_their_order(heights):
    moved = style.apart(heights, 0.1, 1.0)
    assert len(moved) == len(heights)
    assert all(low + 0.1 <= high + 1e-12 for low, high in itertools.pairwise(moved))
    assert max(moved, default=0) <= 1
    assert style.apart([0.1, 0.5, 0.99, 1.0], 0.1, 1.0) == [0.1, 0.5, 0.9, 1.0]  # who has room stays
