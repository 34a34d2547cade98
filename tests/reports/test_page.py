"""The page as a reader or a parser meets it: every number, nothing from outside, nothing that data can break."""

import base64
import hashlib
import itertools
import re

import numpy as np
import pytest
from page_tables import METRIC

from shiftbench.registry import CORRUPTIONS
from shiftbench.reports import report
from shiftbench.reports.terms import QUANTITIES
from shiftbench.results.summary import summarize
from shiftbench.results.tables import Results, cells_table, stability_table

EVIL = "<script>alert(1)</script>\"'&${x}$_{y}"


def test_nothing_comes_from_outside(walked):
    links = [
        value
        for one in walked.elements
        for key, value in one["attrs"].items()
        if key in ("src", "href", "xlink:href", "action", "data", "poster", "srcset")
    ]
    assert links
    assert all(re.match("#|data:image/(webp|png);base64,", link) for link in links)
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


def test_what_the_page_of_everything_explains(everything_walked):
    terms = {one["text"] for one in everything_walked.all("dt")}
    assert {quantity.heading for quantity in QUANTITIES.values()} <= terms
    shown = {name for name in METRIC if name in everything_walked.all("main")[0]["text"]}
    assert shown <= terms


def test_parts_that_only_some_results_have(everything_walked):
    headings = {one["text"] for one in everything_walked.all("h3")}
    assert {"The same with gmm", "Which of it follows the drop?", "First to change cluster"} <= headings


def test_skipped_shifts_are_listed_and_nothing_else(everything_walked):
    text = everything_walked.all("section", id="failures")[0]["text"]
    assert "2 classes in common, 3 are needed" in text
    assert "imagenet_r" in text
    assert "imagenet_r" not in everything_walked.all("table", id="overview-1")[0]["text"]


def test_provenance_is_complete(demo, walked):
    run = Results.load(demo).run
    text = walked.all("section", id="provenance")[0]["text"]
    assert run["command"] in text
    for encoder in run["encoders"]:
        assert encoder["fingerprint"][:12] in text
    assert "torch 2.15.0" in text
    assert "A processor, 2 cores" in text
    assert "cells 31.2" in text
    assert "cells 28.0" in text  # CPU seconds
    assert "5,760 images encoded" in text
    assert "corruption (corruption, made on the fly)" in text
    assert "Hendrycks 2019 (the shift corruption)." in walked.all("section", id="cite")[0]["text"]
    assert "head, 128-d" in text
    assert "sha256 abababababab…, epochs 40, method concurl" in text


@pytest.mark.slow
def test_a_page_of_all_corruptions(full, walk):
    path = report(full)
    assert path.stat().st_size < 4e6
    titles = {one["text"] for one in walk(path.read_text()).all("text")}
    assert {name.replace("_", " ") for name in CORRUPTIONS.names("common")} <= titles


def test_names_are_text(build, edit_run, walk):
    folder = build(encoders=[(EVIL, 0, 0.8)], data=EVIL, failed=[(EVIL, "fog-2")])
    shift = {"name": EVIL, "kind": EVIL, "source": EVIL, "citation": EVIL}
    edit_run(folder, commands=[f"shiftbench evaluate {EVIL}"], config={"name": EVIL}, shifts=[shift])
    text = report(folder).read_text(encoding="utf-8")
    walker = walk(text)
    assert len(walker.all("script")) == 1
    assert "alert(1)</script>\"'" not in text
    labels = [one["attrs"]["data-value"] for one in walker.all("th", scope="row") if "data-value" in one["attrs"]]
    assert EVIL in labels
    assert f"shiftbench evaluate {EVIL}" in walker.all("section", id="provenance")[0]["text"]
    assert f"{EVIL} (the shift {EVIL})." in walker.all("section", id="cite")[0]["text"]
    # Also in figures, where a dollar sign would begin a formula and an underscore an index.
    assert any(one["text"].startswith("<script>al") for one in walker.all("text"))


def test_names_that_look_alike_do_not_share_identifiers(page, walk):
    text = page(encoders=[("a/b", 0, 0.8), ("a-b", 0, 0.7)], corruptions=("fog",))
    ids = [one["attrs"]["id"] for one in walk(text).elements if "id" in one["attrs"]]
    assert len(ids) == len(set(ids))


def test_empty_results(plain, tmp_path, walk):
    run = Results.load(plain).run | {"encoders": []}
    empty = Results(cells_table([]), stability_table([]), summarize(cells_table([])), run=run)
    text = report(empty, tmp_path / "out").read_text(encoding="utf-8")
    assert "There is nothing in these results" in walk(text).all("section", id="verdict")[0]["text"]
    assert (tmp_path / "out" / "summary.md").read_text() == ""


def test_one_encoder(page, walk):
    text = page(encoders=[("concurl", 0, 0.85)])
    verdict = walk(text).all("section", id="verdict")[0]["text"]
    assert "It is the only encoder here" in verdict
    assert "mCE needs the baseline “pixels”" in text


def test_relative_mce_without_harm_to_the_baseline(page):
    text = page(harshness=-0.1)
    assert "Relative mCE is empty where some corruption does not raise the error of the baseline “pixels”." in text


def test_one_seed(page, walk):
    walker = walk(page(seeds=1, replicates=False))
    verdict = walker.all("section", id="verdict")[0]["text"]
    assert " to " not in walker.all("p", class_="lead")[0]["text"]
    assert "One run per encoder: nothing here has an interval" in verdict
    assert "one run cannot tell whether by luck" in verdict
    assert not [one for one in walker.all("td") if one["attrs"].get("class") == "lead-value"]


def test_clean_only(page, walk):
    walker = walk(page(corruptions=()))
    assert "Clusterings of digits" in walker.all("h1")[0]["text"]
    assert "under shift" not in walker.all("h1")[0]["text"]
    assert "on clean digits, with clusters frozen on clean data." in walker.all("p", class_="lead")[0]["text"]
    ids = {one["attrs"].get("id") for one in walker.all("section")}
    assert "severity" not in ids
    assert "stability" in ids
    heads = [one["text"] for one in walker.all("th", scope="col")]
    assert "Drop" not in heads


def test_without_labels(page, walk):
    walker = walk(page(metrics=()))
    verdict = walker.all("section", id="verdict")[0]["text"]
    assert "No labels: what was measured is how partitions look and how far they agree." in verdict
    assert "stay closest to those of the same clean images" in verdict
    heads = [one["text"] for one in walker.all("th", scope="col")]
    assert "Agreement under shift" in heads
    assert "Clean" not in heads
    assert "no labels" in walker.all("section", id="provenance")[0]["text"]


def test_failures_are_listed(page, walk):
    walker = walk(page(failed=[("pixels", "fog-2"), ("pixels", "fog-3")]))
    text = walker.all("section", id="failures")[0]["text"]
    assert "ValueError: features are not finite" in text
    assert "fog 2, fog 3" in text
    assert "24 of 30 cells" in walker.all("table", id="overview-1")[0]["text"]
    assert "6 of 66 cells were not measured" in walker.all("section", id="verdict")[0]["text"]


def test_nothing_but_failures(page, walk):
    every = ["clean", *(f"{name}-{severity}" for name in ("gaussian_noise", "fog") for severity in range(1, 6))]
    walker = walk(page(encoders=[("concurl", 0, 0.8)], failed=[("concurl", label) for label in every]))
    assert "Nothing could be measured; the reasons are listed below." in walker.all("p", class_="lead")[0]["text"]
    assert "features are not finite" in walker.all("section", id="failures")[0]["text"]
    assert "nan" not in walker.all("table", id="overview-1")[0]["text"]


@pytest.mark.parametrize("damage", [None, b"", b"PK\x03\x04 half a zip"])
def test_without_or_with_damaged_examples(build, damage):
    folder = build(examples=True, encoders=[("concurl", 0, 0.8)], corruptions=("fog",))
    for file in (folder / "examples").iterdir():
        file.unlink() if damage is None else file.write_bytes(damage)
    assert "Pictures</h2>" not in report(folder).read_text()


def test_examples_without_a_shift(page, walk):
    text = page(examples=True, corruptions=(), encoders=[("concurl", 0, 0.8)])
    headings = [one["text"] for one in walk(text).all("h3")]
    assert "What the clusters hold" in headings
    assert "First to change cluster" not in headings
    assert "The corruptions" not in headings


def test_clusters_are_shown_clean_and_shifted(build, walk):
    walker = walk(report(build(examples=True, encoders=[("concurl", 0, 0.8)], corruptions=("fog",))).read_text())
    (box,) = walker.all("div", class_="strips sides")
    (heads,) = walker.all("p", class_="heads")
    assert heads["text"] == "cleancontrast 5"
    strips = [one for one in walker.all("figure", class_="strip") if box in one["parents"]]
    found = [[one["attrs"].get("alt") for one in walker.all("img") if strip in one["parents"]] for strip in strips]
    assert found[0] == [
        "The 8 images nearest to the centre of cluster 0, clean",
        "The 8 images nearest to the centre of cluster 0, under contrast 5",
    ]
    assert found[3] == ["The 8 images nearest to the centre of cluster 3, clean"]
    assert strips[3]["text"] == "3cleancontrast 5no image under contrast 5"
    assert [len(one) for one in found] == [2, 2, 2, 1, 2, 2, 2, 2, 2, 2]


def test_examples_written_before_clusters_were_shown_shifted(build, walk):
    folder = build(examples=True, encoders=[("concurl", 0, 0.8)], corruptions=("fog",))
    archive = folder / "examples" / "concurl-seed0.npz"
    with np.load(archive) as file:
        kept = {name: file[name] for name in file.files if not name.startswith("typical_shifted")}
    np.savez(archive, **kept)
    walker = walk(report(folder).read_text())
    assert not walker.all("p", class_="heads")
    (strips,) = walker.all("div", class_="strips")
    alts = [one["attrs"]["alt"] for one in walker.all("img") if strips in one["parents"]]
    assert alts[0] == "The 8 images nearest to the centre of cluster 0, clean"
    assert len(alts) == 10


def test_clusters_empty_on_both_sides_are_left_out(build, walk):
    folder = build(examples=True, encoders=[("concurl", 0, 0.8)], corruptions=("fog",))
    archive = folder / "examples" / "concurl-seed0.npz"
    with np.load(archive) as file:
        arrays = dict(file)
    arrays["typical_index"][[3, 4]] = -1
    np.savez(archive, **arrays)
    walker = walk(report(folder).read_text())
    strips = [one["text"] for one in walker.all("figure", class_="strip") if "clean" in one["text"]]
    assert [text[0] for text in strips] == list("012456789")
    assert strips[3] == "4cleanno image cleancontrast 5"


def test_large_example_images_become_thumbnails(build, walk):
    folder = build(examples=True, encoders=[("concurl", 0, 0.8)], corruptions=("fog",))
    noise = np.random.default_rng(0).integers(0, 256, (10, 8, 224, 224, 3), np.uint8)
    np.savez(folder / "examples" / "concurl-seed0.npz", typical=noise, typical_index=np.arange(80).reshape(10, 8))
    images = walk(report(folder).read_text()).all("img")
    assert max(int(one["attrs"]["height"]) for one in images) == 64
    assert (folder / "report.html").stat().st_size < 4e6


@pytest.mark.slow
def test_many_encoders_are_all_in_the_table_and_the_best_in_the_figures(build, walk):
    encoders = [(f"encoder-{i}", 0, 0.5 + 0.02 * i) for i in range(14)] + [("pixels", None, 0.7)]
    walker = walk(report(build(encoders=encoders, corruptions=("fog",), seeds=2)).read_text())
    rows = [
        one for one in walker.all("tr") if "data-filter" in one["attrs"] and walker.all("table")[0] in one["parents"]
    ]
    assert len(rows) == 15
    titles = {one["text"] for one in walker.all("text")}
    assert {"encoder-13", "encoder-3", "pixels"} <= titles
    assert "encoder-0" not in titles
