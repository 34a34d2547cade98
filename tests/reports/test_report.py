"""What ``report`` takes, what it writes and where, and what it says when it cannot."""

import csv
import gc
import os
import re
import subprocess
import sys
from importlib import import_module

import pandas as pd
import pytest

from shiftbench.errors import InputError
from shiftbench.reports import latex_table, markdown_table, report
from shiftbench.results.tables import TABLES, Results


def test_same_results_same_page(build, tmp_path):
    folder = build(examples=True, encoders=[("concurl", 0, 0.8)], corruptions=("fog",))
    first, second = (report(folder, tmp_path / name).read_bytes() for name in ("first", "second"))
    assert first == second


def test_a_folder_of_its_own_gets_the_tables_too(plain, tmp_path):
    path = report(plain, tmp_path / "out")
    assert path == tmp_path / "out" / "report.html"
    for name in set(TABLES) - {"replicates"}:
        assert (path.parent / f"{name}.csv").read_bytes() == (plain / f"{name}.csv").read_bytes()
    assert report(path.parent).read_text() == path.read_text()


def test_in_its_own_folder_only_the_page_and_its_texts_are_written(plain):
    before = {path.name: path.stat().st_mtime_ns for path in plain.iterdir()}
    assert report(plain) == plain / "report.html"
    after = {path.name: path.stat().st_mtime_ns for path in plain.iterdir()}
    assert after.keys() - before.keys() == {"report.html", "summary.md", "summary.tex"}
    assert before.items() <= after.items()


def test_the_texts_are_the_short_tables(plain, tmp_path):
    folder = report(plain, tmp_path / "out").parent
    results = Results.load(folder)
    assert (folder / "summary.md").read_text(encoding="utf-8") == markdown_table(results)
    assert (folder / "summary.tex").read_text(encoding="utf-8") == latex_table(results)


@pytest.mark.filterwarnings("ignore:Glyph")  # the reader's browser has the letters
def test_no_cell_of_a_csv_is_a_formula(build, tmp_path):
    names = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "plain"]
    folder = report(build(encoders=[(name, None, 0.8) for name in names]), tmp_path / "out").parent
    for name in set(TABLES) - {"replicates"}:
        with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            head, *rows = csv.reader(file)
        for row in rows:
            for column, cell in zip(head, row, strict=True):
                assert cell[:1] not in "=+@\t" or not cell, (column, cell)
                assert cell[:1] != "-" or float(cell) <= 0, (column, cell)
    results = Results.load(folder)
    assert list(dict.fromkeys(results.cells["encoder"])) == names  # Parquet has them as they are
    written = pd.read_csv(folder / "cells.csv")["encoder"]
    assert list(dict.fromkeys(written)) == [name if name == "plain" else f"'{name}" for name in names]


def test_a_notebook_shows_the_summary(everything, build, walk):
    results = Results.load(everything)
    text = results._repr_html_()
    line = results.summary.query(
        "encoder == 'method-4' and shift == 'outdoors' and metric == 'acc' and protocol == 'refit'"
    )
    shifted = line[line["clusterer"] == "gmm"]["shifted"].item()
    assert f"<td>{100 * shifted:.1f}</td>" in text
    assert "probe" not in text
    walk(text)
    evil = Results.load(build("evil", encoders=[("<script>x</script>", None, 0.8)]))._repr_html_()
    assert "<script>" not in evil
    assert "<td>" in Results.load(build("bare", metrics=(), label_free=("entropy",)))._repr_html_()


def test_another_baseline_rewrites_the_summary(build):
    folder = build(corruptions=("fog",))
    before = Results.load(folder).run
    text = report(folder, baseline="random:small_cnn").read_text()
    assert Results.load(folder).run == before  # an evaluation can go on there
    assert "random:small_cnn = 100" in text
    assert "mce[baseline=random:small_cnn]" in Results.load(folder).summary


def test_the_folder_of_an_evaluation_is_its_own(build, tmp_path):
    one, two = (build(name, encoders=[(name, 0, 0.8)], corruptions=("fog",)) for name in ("one", "two"))
    before = {path: path.read_bytes() for path in one.iterdir() if path.is_file()}
    with pytest.raises(InputError, match="is one of the evaluations to be merged: name another folder with -o"):
        report([one, two], one)
    assert {path: path.read_bytes() for path in one.iterdir() if path.is_file()} == before
    report([one, two], tmp_path / "both")
    report([tmp_path / "both", two], tmp_path / "both")  # what was merged may be merged anew


def test_nothing_is_written_before_the_page_is_made(build, tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("no figure")

    monkeypatch.setattr(import_module("shiftbench.reports.report"), "render", broken)
    with pytest.raises(RuntimeError, match="no figure"):
        report([build("one", corruptions=("fog",))], tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    assert gc.isenabled()


def test_loaded_results_are_not_read_again(build, monkeypatch):
    results = Results.load(build(corruptions=("fog",)))
    wanted = report(results.folder).read_bytes()

    def read(*_, **__):
        raise AssertionError("a table is read")

    monkeypatch.setattr(pd, "read_parquet", read)
    monkeypatch.setattr(Results, "load", read)
    assert report(results).read_bytes() == wanted


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


def test_title(plain, walk):
    text = report(plain, title="A & B <i>").read_text()
    assert "<h1>A &amp; B &lt;i&gt;</h1>" in text
    assert walk(text).all("h1")[0]["text"] == "A & B <i>"


def test_figures_are_saved(build, walk):
    path = report(build(corruptions=("fog",), encoders=[("concurl", 0, 0.8)]), figures=True)
    saved = sorted((path.parent / "figures").iterdir())
    names = {file.stem for file in saved}
    assert {file.suffix for file in saved} == {".svg", ".png"}
    assert "severity-digits-kmeans-acc-frozen-corruption" in names
    assert len(saved) == 2 * len(names)
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in saved if file.suffix == ".png")
    drawings = [one for one in walk(path.read_text()).all("svg") if one["attrs"].get("role") == "img"]
    assert len(drawings) == len(names)


def test_no_torch():
    code = (
        "import sys\n"
        "import shiftbench\n"
        "shiftbench.report\n"
        "import shiftbench.reports, shiftbench.results.tables, shiftbench.results.summary\n"
        "print('torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
