"""Results folders that look like real ones, made without torch and without an encoder."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_results import EVERYTHING, Recipe, make

from shiftbench.reports import report

VOID = {"meta", "img", "br", "hr", "input", "link", "line", "circle", "path", "use", "image"}


class Walker(HTMLParser):
    """Collects elements with their text, and checks that tags are closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self._open = [], []
        self.feed(text)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "attrs": dict(attrs), "text": "", "inside": [one["tag"] for one in self._open]}
        element["parents"] = list(self._open)
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1]["tag"] == tag, f"</{tag}> closes <{self._open[-1]['tag']}>"
        self._open.pop()

    def handle_data(self, data):
        for element in self._open:
            element["text"] += data

    def all(self, tag, **attrs):
        return [
            one
            for one in self.elements
            if one["tag"] == tag and all(one["attrs"].get(key.rstrip("_")) == value for key, value in attrs.items())
        ]


@pytest.fixture(scope="session")
def walk():
    """``walk(html)``: a page's elements, see :class:`Walker`."""
    return Walker


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    """Three encoders, 3 corruptions x 5 severities, 10 seeds, examples; read it, do not write into it."""
    folder = tmp_path_factory.mktemp("results") / "digits-demo"
    make(Recipe(corruptions=("gaussian_noise", "frost", "contrast")), folder)
    return folder


@pytest.fixture(scope="session")
def everything(tmp_path_factory) -> Path:
    """All that a page can show: see ``EVERYTHING``; read it, do not write into it."""
    folder = tmp_path_factory.mktemp("results") / "everything"
    make(EVERYTHING, folder)
    return folder


@pytest.fixture(scope="session")
def everything_page(everything) -> str:
    """The page of everything."""
    return report(everything, everything.parent / "page").read_text(encoding="utf-8")


@pytest.fixture
def full(tmp_path) -> Path:
    """As the demo, with all 15 corruptions."""
    make(Recipe(), tmp_path / "full")
    return tmp_path / "full"


@pytest.fixture(scope="session")
def demo_page(demo) -> str:
    """The page of the demo."""
    return report(demo, demo.parent / "page").read_text(encoding="utf-8")


@pytest.fixture
def build(tmp_path):
    """``build(name, **changes) -> folder`` of a small evaluation: 2 corruptions, 3 seeds, ACC, frozen, no examples."""
    small = Recipe(
        corruptions=("gaussian_noise", "fog"), seeds=3, metrics=("acc",), protocols=("frozen",), examples=False
    )

    def build(name: str = "results", **changes) -> Path:
        make(replace(small, **changes), tmp_path / name)
        return tmp_path / name

    return build


@pytest.fixture
def plain(build):
    """The smallest results folder: one encoder, clean only."""
    return build("plain", encoders=[("concurl", 0, 0.8)], corruptions=())


@pytest.fixture
def page(build):
    """``page(**changes) -> str``: the page of a small evaluation of two encoders."""
    two = Recipe().encoders[:2]

    def page(**changes) -> str:
        return report(build(**{"encoders": two, **changes})).read_text(encoding="utf-8")

    return page


@pytest.fixture
def edit_run():
    """Changes entries of a folder's run.json."""

    def edit(folder: Path, **changes) -> None:
        run = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps(run | changes))

    return edit


@pytest.fixture(scope="module")
def walked(demo_page, walk):
    """The demo's page, walked."""
    return walk(demo_page)


@pytest.fixture(scope="module")
def everything_walked(everything_page, walk):
    """The page of everything, walked."""
    return walk(everything_page)
