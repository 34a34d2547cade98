"""Whatever is registered as a section has a template and a place, and says something of rich results."""

import re
from dataclasses import replace

import pytest

from shiftbench.errors import InputError
from shiftbench.registry import SECTIONS, Entry
from shiftbench.reports import report
from shiftbench.reports.page import render
from shiftbench.reports.section import PLACES, TEMPLATES, Chapter, Section
from shiftbench.reports.view import views
from shiftbench.results.tables import Results

REGISTERED = {name: SECTIONS.load(name) for name in SECTIONS}


@pytest.fixture(scope="module")
def rich(everything):
    """Everything, as one chapter, and as the whole page's."""
    results = Results.load(everything)
    return Chapter(results, views(results))


def shown(walker, anchor):
    """The sections of an anchor."""
    return [one for one in walker.all("section") if one["attrs"].get("id") == anchor]


@pytest.mark.parametrize("section", REGISTERED.values(), ids=REGISTERED)
def test_a_section_is_whole(section):
    assert isinstance(section, Section)
    assert section.place in PLACES
    assert section.template.is_file()
    assert re.fullmatch(r"[a-z][a-z-]*|", section.anchor)
    assert section.anchor or not section.title  # the menu has to lead somewhere
    assert callable(section.content)


@pytest.mark.parametrize(("name", "section"), REGISTERED.items(), ids=REGISTERED)
def test_a_section_alone_makes_a_page(rich, monkeypatch, walk, name, section):
    """It says something of rich results, and needs no other section for it."""
    monkeypatch.setattr(SECTIONS, "_entries", {name: SECTIONS[name]})
    walker = walk(render(rich.results).html)
    (element,) = walker.all("section")
    assert element["attrs"].get("id", "") == section.anchor
    assert len(element["text"].split()) > 3
    links = [one["attrs"]["href"] for one in walker.all("a") if "nav" in one["inside"]]
    assert links == [f"#{section.anchor}"] * bool(section.title)


def test_each_file_of_the_templates_is_used():
    """A section's, or one that is named in the page's code or in another template."""
    named = "".join(
        path.read_text(encoding="utf-8") for path in [*TEMPLATES.glob("*.html"), TEMPLATES.parent / "page.py"]
    )
    used = {section.template.name for section in REGISTERED.values()}
    assert all(path.name in used or f'"{path.name}"' in named for path in TEMPLATES.iterdir())


def test_sections_stand_in_the_order_of_the_registry(everything_page, walk):
    """Within their places, which follow one another; the first of an anchor has it."""
    ids = [one["attrs"]["id"] for one in walk(everything_page).all("section") if "id" in one["attrs"]]
    in_order = [section.anchor for place in PLACES for section in REGISTERED.values() if section.place == place]
    assert ids == [anchor for anchor in dict.fromkeys(in_order) if anchor]


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": (), "label_free": ("entropy",)},
        {"corruptions": (), "seeds": 1, "probes": ("probe:knn",)},
        {"corruptions": (), "natural": ("outdoors",)},
        {"seeds": 1, "replicates": False, "failed": [("pixels", "fog-2")]},
    ],
    ids=str,
)
def test_the_menu_leads_to_sections(page, walk, changes):
    walker = walk(page(**changes))
    links = [one["attrs"]["href"].removeprefix("#") for one in walker.all("a") if "nav" in one["inside"]]
    assert len(links) == len(set(links)) > 2
    assert all(len(shown(walker, anchor)) == 1 for anchor in links)


def test_what_a_section_needs_is_looked_at_first(rich):
    def content(chapter):
        raise AssertionError("asked without need")

    bare = Section("top", TEMPLATES / "verdict.html", content, needs=("metrics", "probes"))
    view = rich.view
    without = Chapter(rich.results, [type("Bare", (), {"metrics": view.metrics, "probes": view.probes[:0]})()])
    assert bare.content_of(without) is None
    with pytest.raises(AssertionError, match="asked without need"):
        bare.content_of(rich)


def test_a_place_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"Unknown place of a section 'fot'\. Did you mean 'foot'\?"):
        Section("fot", TEMPLATES / "verdict.html", lambda chapter: None)


def test_something_else_is_no_section(rich, monkeypatch):
    monkeypatch.setattr(SECTIONS, "_entries", {"odd": Entry("math:pi", "a number")})
    with pytest.raises(InputError, match=r"The report section 'odd' is a float, not a Section\."):
        render(rich.results)


def test_a_section_of_somebody_elses_package(rich, tmp_path, monkeypatch, walk):
    """One module, its own template wherever it lies, and a line in the registry."""
    (tmp_path / "guest.html").write_text(
        '{% from "macros.html" import sheet %}\n'
        "<section{{ id }}>\n<h2>Guest</h2>\n{{ sheet(table, 'guest-%d' % chapter.number) }}\n</section>\n"
    )
    (tmp_path / "guest_section.py").write_text(
        """
from pathlib import Path
from shiftbench.reports.section import Section
from shiftbench.reports.sheets import SheetCell, SheetColumn, SheetRow, sheet_or_none

def content(chapter):
    columns = [SheetColumn("Encoder"), SheetColumn("Class", key="class")]
    rows = [SheetRow([SheetCell(name, name), SheetCell(label, label)], {"class": label})
            for name in chapter.view.recall["encoder"].unique() for label in ("<0>", "1")]
    return {"table": sheet_or_none("Guests", columns, rows, {})}

SECTION = Section("tables", Path(__file__).with_name("guest.html"), content, ("recall",), "guest", "Guests")
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    added = Entry("guest_section:SECTION", "a guest's")
    monkeypatch.setattr(SECTIONS, "_entries", {"glossary": SECTIONS["glossary"], "guest": added})
    walker = walk(render(rich.results).html)
    (element,) = shown(walker, "guest")
    assert "<0>" in element["text"]
    assert "#guest" in [one["attrs"]["href"] for one in walker.all("a") if "nav" in one["inside"]]
    (choices,) = walker.all("div", **{"data-scope": "guest-1"})
    (buttons,) = [one for one in walker.all("div", role="group") if choices in one["parents"]]
    assert buttons["attrs"]["aria-label"] == "Class"
    lean = replace(rich.results, recall=rich.results.recall[:0])
    assert not shown(walk(render(lean).html), "guest")


def test_a_section_may_stay_out_of_the_menu(rich, monkeypatch, walk):
    unlisted = replace(REGISTERED["glossary"], is_listed=lambda content: len(content["definitions"]) < 2)
    monkeypatch.setattr(SECTIONS, "_entries", {"glossary": SECTIONS["glossary"]})
    monkeypatch.setattr(SECTIONS, "load", lambda name: unlisted)
    walker = walk(render(rich.results).html)
    assert shown(walker, unlisted.anchor)
    assert not [one for one in walker.all("a") if "nav" in one["inside"]]


def test_the_menu_is_of_the_first_chapter(build, tmp_path, walk):
    """The second data set has sections of the same anchors; none of them is there twice."""
    folders = [build("first", corruptions=()), build("second", data="other", natural=("outdoors",))]
    walker = walk(report(folders, tmp_path / "both").read_text(encoding="utf-8"))
    ids = [one["attrs"]["id"] for one in walker.elements if "id" in one["attrs"]]
    assert len(ids) == len(set(ids))
    assert not shown(walker, "severity")
    assert [one["text"] for one in walker.all("h2")].count("Stability") == 2
