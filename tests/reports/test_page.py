"""The page as a reader or a parser meets it: every number, nothing from outside, nothing that data can break."""

import base64
import hashlib
import itertools
import math
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from shiftbench.errors import InputError
from shiftbench.registry import CORRUPTIONS
from shiftbench.reports import report
from shiftbench.reports.glossary import QUANTITIES
from shiftbench.reports.tables import column_of
from shiftbench.results import Results

VOID = {"meta", "img", "br", "hr", "input", "link", "line", "circle", "path", "use", "image"}
EVIL = "<script>alert(1)</script>\"'&${x}$_{y}"


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


@pytest.fixture(scope="module")
def walked(demo_page):
    """The demo's page, walked."""
    return Walker(demo_page)


def overview_table(walker):
    """Headings and, per row, (data attributes, cells) of the overview table."""
    tables = [one for one in walker.all("table") if one["attrs"].get("class") == "overview"]
    rows = []
    heads = [one["text"] for one in walker.all("th", scope="col") if tables[0] in one["parents"]]
    for row in walker.all("tr"):
        if tables[0] in row["parents"] and "data-metric" in row["attrs"]:
            cells = [one for one in walker.elements if one["tag"] in ("td", "th") and row in one["parents"]]
            rows.append((row["attrs"], cells))
    return heads, rows


def shown(value):
    return f"{100 * value:.1f}".replace("-", "−") if math.isfinite(value) else "–"


def test_every_number_of_the_overview(demo, walked):
    results = Results.load(demo)
    summary = results.summary.query("shift == 'corruption'").set_index(["encoder", "protocol", "metric"])
    stability = results.stability.query("metric == 'ari'").set_index(["encoder", "protocol"]).sort_index()
    heads, rows = overview_table(walked)
    assert len(rows) == 30
    first = heads.index("Clean")
    keys = ["clean", "shifted", "worst", "drop", "calibrated_drop", "mce", "relative_mce", "stability", "agreement"]
    assert [head.removesuffix("pixels = 100") for head in heads[first:]] == [QUANTITIES[key].heading for key in keys]
    for attrs, cells in rows:
        encoder, protocol, metric = cells[0]["text"], attrs["data-protocol"], attrs["data-metric"]
        line, agreements = summary.loc[encoder, protocol, metric], stability.loc[encoder, protocol]
        expected = {
            key: [line[column_of(part, "pixels")] for part in (key, f"{key}_low", f"{key}_high")] for key in keys[:7]
        }
        clean = agreements[(agreements["axis"] == "initialization") & (agreements["shift"] == "clean")].iloc[0]
        expected["stability"] = [clean["mean"], clean["ci_low"], clean["ci_high"]]
        expected["agreement"] = [agreements[agreements["axis"] == "shift"]["mean"].mean(), math.nan, math.nan]
        for key, cell in zip(keys, cells[first:], strict=True):
            value, low, high = expected[key]
            assert float(cell["attrs"]["data-value"]) == pytest.approx(value, abs=1e-12)
            bounds = f"{shown(low)}–{shown(high)}" if math.isfinite(low) else ""
            case = line["worst_case"].replace("_", " ").replace("-", " ") if key == "worst" else ""
            assert cell["text"] == shown(value) + bounds + case


def test_verdict_numbers_are_in_the_summary(demo, walked):
    line = Results.load(demo).summary.query(
        "encoder == 'concurl' and protocol == 'frozen' and metric == 'acc' and shift == 'corruption'"
    )
    (lead,) = walked.all("p", class_="lead")
    for key in ("clean", "shifted", "drop"):
        value, low, high = (shown(line[f"{key}{end}"].item()) for end in ("", "_low", "_high"))
        assert re.search(rf"{value} (% |points )(ACC )?\({low} to {high}\)|{value} % \({low} to {high}\)", lead["text"])
    assert "concurl reaches" in lead["text"]
    assert "4 corruptions at 5 severities" in lead["text"]


def test_nothing_comes_from_outside(walked):
    links = [
        value
        for one in walked.elements
        for key, value in one["attrs"].items()
        if key in ("src", "href", "xlink:href", "action", "data", "poster", "srcset")
    ]
    assert links
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    assert not walked.all("link")
    assert not walked.all("iframe")
    style = walked.all("style")[0]["text"]
    assert "url(" not in style.replace("url(#", "")
    assert "@import" not in style


def test_content_security_policy_allows_just_this_script(walked):
    (policy,) = [one["attrs"]["content"] for one in walked.all("meta") if "http-equiv" in one["attrs"]]
    (script,) = walked.all("script")
    digest = base64.b64encode(hashlib.sha256(script["text"].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_identifiers_are_unique_and_links_lead_somewhere(demo_page, walked):
    ids = [one["attrs"]["id"] for one in walked.elements if "id" in one["attrs"]]
    assert len(ids) == len(set(ids))
    inner = [one["attrs"]["href"] for one in walked.all("a")]
    inner += re.findall(r"url\((#[^)]+)\)", demo_page)
    inner += [one["attrs"]["xlink:href"] for one in walked.all("use")]
    assert {link[1:] for link in inner} <= set(ids)


def test_pictures_have_words(walked):
    assert all(one["attrs"].get("alt") for one in walked.all("img"))
    drawings = [one for one in walked.all("svg") if one["attrs"].get("role") == "img"]
    assert len(drawings) > 60
    assert all(len(one["attrs"]["aria-label"]) > 30 for one in drawings)
    others = [one for one in walked.all("svg") if one["attrs"].get("role") != "img"]
    assert all(one["attrs"].get("aria-hidden") == "true" for one in others)


def test_structure_is_accessible(walked):
    (root,) = walked.all("html")
    assert root["attrs"]["lang"] == "en"
    assert len(walked.all("h1")) == 1
    levels = [int(one["tag"][1]) for one in walked.elements if re.fullmatch("h[1-6]", one["tag"])]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(one["attrs"].get("scope") for one in walked.all("th"))
    assert all(one["attrs"].get("type") == "button" for one in walked.all("button"))


def test_without_a_script_everything_is_shown(walked):
    hidden = [one for one in walked.elements if "hidden" in one["attrs"]]
    assert hidden
    assert all(
        one["attrs"].get("id") == "theme" or one["attrs"].get("class", "").startswith("choices") for one in hidden
    )


def test_sections_of_a_full_report(walked):
    ids = {one["attrs"].get("id") for one in walked.all("section")}
    wanted = {"verdict", "overview", "severity", "stability", "pictures", "provenance", "glossary", "cite"}
    assert wanted <= ids
    assert "failures" not in ids
    headings = [one["text"] for one in walked.elements if one["tag"] in ("h2", "h3")]
    for heading in (
        "Frozen or refitted clusters",
        "Every condition",
        "Does agreement tell the drop, without labels?",
        "First to change cluster",
        "The features on a plane",
        "The corruptions",
    ):
        assert heading in headings
    terms = {one["text"] for one in walked.all("dt")}
    assert {quantity.heading for quantity in QUANTITIES.values()} <= terms


def test_provenance_is_complete(demo, walked):
    run = Results.load(demo).run
    text = walked.all("section", id="provenance")[0]["text"]
    assert run["command"] in text
    for encoder in run["encoders"]:
        assert encoder["fingerprint"][:12] in text
    assert "torch 2.15.0" in text
    assert "A processor, 2 cores" in text
    assert "cells 31.2" in text
    assert "head, 128-d" in text


@pytest.mark.slow
def test_a_page_of_all_corruptions(full):
    path = report(full)
    assert path.stat().st_size < 4e6
    titles = {one["text"] for one in Walker(path.read_text()).all("text")}
    assert {name.replace("_", " ") for name in CORRUPTIONS.names("common")} <= titles


def test_same_results_same_page(build, tmp_path):
    folder = build(examples=True, encoders=[("concurl", 0, 0.8)], corruptions=("fog",))
    first, second = (report(folder, tmp_path / name).read_bytes() for name in ("first", "second"))
    assert first == second


def test_a_folder_of_its_own_gets_the_tables_too(plain, tmp_path):
    path = report(plain, tmp_path / "out")
    assert path == tmp_path / "out" / "report.html"
    for name in ("cells", "stability", "summary"):
        assert (path.parent / f"{name}.csv").read_bytes() == (plain / f"{name}.csv").read_bytes()
    assert report(path.parent).read_text() == path.read_text()


def test_in_its_own_folder_only_the_page_is_written(plain):
    before = {path.name: path.stat().st_mtime_ns for path in plain.iterdir()}
    assert report(plain) == plain / "report.html"
    assert {path.name: path.stat().st_mtime_ns for path in plain.iterdir() if path.suffix != ".html"} == before


def test_another_baseline_rewrites_the_summary(build):
    folder = build(corruptions=("fog",))
    text = report(folder, baseline="random:small_cnn").read_text()
    assert "random:small_cnn = 100" in text
    assert "mce[baseline=random:small_cnn]" in Results.load(folder).summary


def test_results_in_memory_need_a_folder(plain, tmp_path):
    loaded = Results.load(plain)
    memory = Results(loaded.cells, loaded.stability, loaded.summary, run=loaded.run)
    with pytest.raises(InputError, match="need a folder"):
        report(memory)
    assert report(memory, tmp_path / "out").is_file()
    assert memory.folder is None


def test_several_results_need_a_folder(plain):
    with pytest.raises(InputError, match="need a folder"):
        report([plain, plain])


def test_nothing_to_report():
    with pytest.raises(InputError, match="Nothing to report"):
        report([])


def test_no_results_folder(tmp_path):
    with pytest.raises(InputError, match="No results folder"):
        report(tmp_path / "missing")


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(plain, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(OSError, match="Permission denied"):
        report(plain, tmp_path / "locked" / "out")


def test_a_file_in_the_way(plain, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=re.escape(str(tmp_path / "file"))):
        report(plain, tmp_path / "file")


def test_title(plain):
    text = report(plain, title="A & B <i>").read_text()
    assert "<h1>A &amp; B &lt;i&gt;</h1>" in text
    assert Walker(text).all("h1")[0]["text"] == "A & B <i>"


def test_figures_are_saved(build):
    path = report(build(corruptions=("fog",), encoders=[("concurl", 0, 0.8)]), figures=True)
    saved = sorted((path.parent / "figures").iterdir())
    names = {file.stem for file in saved}
    assert {file.suffix for file in saved} == {".svg", ".png"}
    assert "severity-digits-acc-frozen-fog" in names
    assert len(saved) == 2 * len(names)
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in saved if file.suffix == ".png")
    drawings = [one for one in Walker(path.read_text()).all("svg") if one["attrs"].get("role") == "img"]
    assert len(drawings) == len(names)


# ---- what data can do --------------------------------------------------------------------------------------------


def test_names_are_text(build, edit_run):
    folder = build(encoders=[(EVIL, 0, 0.8)], data=EVIL, failed=[(EVIL, "fog-2")])
    edit_run(folder, command=f"shiftbench evaluate {EVIL}", config={"name": EVIL})
    text = report(folder).read_text(encoding="utf-8")
    walker = Walker(text)
    assert len(walker.all("script")) == 1
    assert "alert(1)</script>\"'" not in text
    labels = [one["attrs"]["data-value"] for one in walker.all("th", scope="row") if "data-value" in one["attrs"]]
    assert EVIL in labels
    assert f"shiftbench evaluate {EVIL}" in walker.all("section", id="provenance")[0]["text"]
    # Also in figures, where a dollar sign would begin a formula and an underscore an index.
    assert any(one["text"].startswith("<script>al") for one in walker.all("text"))


def test_names_that_look_alike_do_not_share_identifiers(page):
    text = page(encoders=[("a/b", 0, 0.8), ("a-b", 0, 0.7), ("a b", 0, 0.6)])
    ids = [one["attrs"]["id"] for one in Walker(text).elements if "id" in one["attrs"]]
    assert len(ids) == len(set(ids))


def test_one_encoder(page):
    text = page(encoders=[("concurl", 0, 0.85)])
    verdict = Walker(text).all("section", id="verdict")[0]["text"]
    assert "It is the only encoder here" in verdict
    assert "mCE needs the baseline “pixels”" in text


def test_relative_mce_without_harm_to_the_baseline(page):
    text = page(harshness=-0.1)
    assert "Relative mCE is empty where some corruption does not raise the error of the baseline “pixels”." in text


def test_one_seed(page):
    walker = Walker(page(seeds=1))
    verdict = walker.all("section", id="verdict")[0]["text"]
    assert " to " not in walker.all("p", class_="lead")[0]["text"]
    assert "One run per encoder: nothing here has an interval" in verdict
    assert "one run cannot tell whether by luck" in verdict
    assert not [one for one in walker.all("td") if one["attrs"].get("class") == "lead-value"]


def test_clean_only(page):
    walker = Walker(page(corruptions=()))
    assert "Clusterings of digits" in walker.all("h1")[0]["text"]
    assert "under shift" not in walker.all("h1")[0]["text"]
    assert "on clean digits, with clusters frozen on clean data." in walker.all("p", class_="lead")[0]["text"]
    ids = {one["attrs"].get("id") for one in walker.all("section")}
    assert "severity" not in ids
    assert "stability" in ids
    heads = [one["text"] for one in walker.all("th", scope="col")]
    assert "Drop" not in heads


def test_without_labels(page):
    walker = Walker(page(metrics=()))
    verdict = walker.all("section", id="verdict")[0]["text"]
    assert "No labels: only agreement between partitions could be measured." in verdict
    assert "stay closest to those of the same clean images" in verdict
    heads = [one["text"] for one in walker.all("th", scope="col")]
    assert "Agreement under shift" in heads
    assert "Clean" not in heads
    assert "no labels" in walker.all("section", id="provenance")[0]["text"]


def test_failures_are_listed(page):
    walker = Walker(page(failed=[("pixels", "fog-2"), ("pixels", "fog-3")]))
    text = walker.all("section", id="failures")[0]["text"]
    assert "ValueError: features are not finite" in text
    assert "fog 2, fog 3" in text
    assert "24 of 30 cells" in walker.all("table", class_="overview")[0]["text"]
    assert "6 of 99 cells were not measured" in walker.all("section", id="verdict")[0]["text"]


def test_nothing_but_failures(page):
    every = ["clean", *(f"{name}-{severity}" for name in ("gaussian_noise", "fog") for severity in range(1, 6))]
    walker = Walker(page(encoders=[("concurl", 0, 0.8)], failed=[("concurl", label) for label in every]))
    assert "Nothing could be measured; the reasons are listed below." in walker.all("p", class_="lead")[0]["text"]
    assert "features are not finite" in walker.all("section", id="failures")[0]["text"]
    assert "nan" not in walker.all("table", class_="overview")[0]["text"]


@pytest.mark.parametrize("damage", [None, b"", b"PK\x03\x04 half a zip"])
def test_without_or_with_damaged_examples(build, damage):
    folder = build(examples=True, encoders=[("concurl", 0, 0.8)], corruptions=("fog",))
    for file in (folder / "examples").iterdir():
        file.unlink() if damage is None else file.write_bytes(damage)
    assert "Pictures</h2>" not in report(folder).read_text()


def test_examples_without_a_shift(page):
    text = page(examples=True, corruptions=(), encoders=[("concurl", 0, 0.8)])
    headings = [one["text"] for one in Walker(text).all("h3")]
    assert "What the clusters hold" in headings
    assert "First to change cluster" not in headings
    assert "The corruptions" not in headings


def test_large_example_images_become_thumbnails(build):
    folder = build(examples=True, encoders=[("concurl", 0, 0.8)], corruptions=("fog",))
    noise = np.random.default_rng(0).integers(0, 256, (10, 8, 224, 224, 3), np.uint8)
    np.savez(folder / "examples" / "concurl-seed0.npz", typical=noise, typical_index=np.arange(80).reshape(10, 8))
    images = Walker(report(folder).read_text()).all("img")
    assert max(int(one["attrs"]["height"]) for one in images) == 64
    assert (folder / "report.html").stat().st_size < 4e6


@pytest.mark.slow
def test_many_encoders_are_all_in_the_table_and_the_best_in_the_figures(build):
    encoders = [(f"encoder-{i}", 0, 0.5 + 0.02 * i) for i in range(14)] + [("pixels", None, 0.7)]
    walker = Walker(report(build(encoders=encoders, corruptions=("fog",), seeds=2)).read_text())
    rows = [one for one in walker.all("tr") if "data-metric" in one["attrs"]]
    assert len(rows) == 15
    titles = {one["text"] for one in walker.all("text")}
    assert {"encoder-13", "encoder-3", "pixels"} <= titles
    assert "encoder-0" not in titles


def test_no_torch():
    code = (
        "import sys\n"
        "import shiftbench\n"
        "shiftbench.report\n"
        "import shiftbench.reports, shiftbench.results, shiftbench.summary\n"
        "print('torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
