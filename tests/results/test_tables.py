"""Tables keep their types, order and bytes; folders that cannot be used say why."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shiftbench.errors import InputError
from shiftbench.results.comparisons import compare
from shiftbench.results.proxies import proxies
from shiftbench.results.summary import summarize
from shiftbench.results.tables import (
    CELL_KEYS,
    CELLS,
    COMPARISONS,
    PROXIES,
    RECALL,
    REPLICATE_KEYS,
    STABILITY,
    SUMMARY_KEYS,
    TABLES,
    Results,
    cells_table,
    in_order,
    ok,
    recall_table,
    replicates_table,
    stability_table,
)

FILES = [name for name in TABLES if name != "replicates"]


def cell(encoder, severity, seed, **changes):
    shared = {
        "encoder": encoder, "train_seed": None, "data": "Ziffern äöü", "split": "test",
        "shift": "corruption" if severity else "clean", "corruption": "fog" if severity else "", "severity": severity,
        "table": "cifar", "feature": "backbone", "clusterer": "kmeans", "k": 3, "k_source": "true", "seed": seed,
        "protocol": "frozen", "fit_split": "train", "selection": "last", "metric": "acc",
        "value": 0.1 + seed / 3 + severity / 7, "higher_is_better": True, "n": 30, "status": "ok", "reason": "",
    }  # fmt: skip
    return shared | changes


def agreement(encoder, severity):
    row = {key: value for key, value in cell(encoder, severity, 0).items() if key in STABILITY}
    numbers = {"mean": 1 / 3, "sd": 0.1, "ci_low": 0.2, "ci_high": 0.4, "n_pairs": 3}
    return row | {"axis": "initialization", "metric": "ari"} | numbers


def recall(encoder, name):
    row = {key: value for key, value in cell(encoder, 0, 0).items() if key in RECALL}
    return row | {"class": name, "mean": 2 / 3, "sd": np.nan, "n_seeds": 1, "n": 10}


def drawn(encoder, severity):
    row = {key: value for key, value in cell(encoder, severity, 0).items() if key in REPLICATE_KEYS}
    return row | {"replicates": np.linspace(0.2, 0.3, 7) + severity / 10}


@pytest.fixture
def results():
    cells = cells_table([cell(e, s, seed) for e in ("zeta", "alpha") for s in (2, 0, 1) for seed in (1, 0)])
    stability = stability_table([agreement(e, s) for e in ("zeta", "alpha") for s in (1, 0)])
    replicates = replicates_table([drawn(e, s) for e in ("zeta", "alpha") for s in (1, 0, 2)])
    return Results(
        cells,
        stability,
        summarize(cells, "zeta", replicates),
        recall=recall_table([recall(e, name) for e in ("zeta", "alpha") for name in ("sieben", "eins")]),
        comparisons=compare(cells, replicates),
        proxies=proxies(cells, stability),
        replicates=replicates,
        run={"format": 1, "k": 3},
    )


def test_saved_and_loaded_is_the_same(results, tmp_path):
    results.save(tmp_path / "new" / "folder")
    loaded = Results.load(tmp_path / "new" / "folder")
    for name in TABLES:
        assert len(getattr(results, name)), name
        pd.testing.assert_frame_equal(getattr(loaded, name), getattr(results, name), check_dtype=name != "summary")
    assert loaded.run == results.run
    assert loaded.folder == results.folder == tmp_path / "new" / "folder"


def test_csv_holds_the_exact_numbers_of_parquet(results, tmp_path):
    results.save(tmp_path)
    for name in FILES:
        csv = pd.read_csv(tmp_path / f"{name}.csv", float_precision="round_trip", keep_default_na=False, na_values=[""])
        parquet = pd.read_parquet(tmp_path / f"{name}.parquet")
        assert list(csv.columns) == list(parquet.columns)
        for column in parquet.select_dtypes("float"):
            np.testing.assert_array_equal(csv[column].astype(float), parquet[column])
        for column in parquet.select_dtypes(["int", "bool"]):
            assert (csv[column] == parquet[column]).all()
        for column in set(parquet.select_dtypes(exclude="number")) & set(csv.select_dtypes(exclude="bool")):
            assert (csv[column].fillna("") == parquet[column]).all(), (name, column)
    assert "Ziffern äöü" in (tmp_path / "cells.csv").read_bytes().decode("utf-8")


def test_rewriting_gives_the_same_bytes(results, tmp_path):
    def contents():
        return {path.name: path.read_bytes() for path in sorted(tmp_path.iterdir())}

    results.save(tmp_path)
    first = contents()
    files = {f"{name}.{kind}" for name in TABLES for kind in ("csv", "parquet")} - {"replicates.csv"}
    assert set(first) == {"run.json", *files}
    results.save(tmp_path)
    assert contents() == first
    Results.load(tmp_path).save(tmp_path)
    assert contents() == first


def test_a_failed_write_leaves_the_old_file(results, tmp_path, monkeypatch):
    results.save(tmp_path)
    before = (tmp_path / "cells.csv").read_bytes()

    def full_disk(rows, file):
        file.write(b"half a tab")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shiftbench.results.tables.write_csv", full_disk)
    with pytest.raises(OSError, match="No space"):
        results.save(tmp_path)
    assert (tmp_path / "cells.csv").read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_cells_are_typed_and_in_order(results):
    cells = results.cells
    assert list(cells.columns) == CELLS
    assert {name: str(cells[name].dtype) for name in ("severity", "k", "seed", "n", "value", "train_seed")} == {
        "severity": "int64", "k": "int64", "seed": "int64", "n": "int64", "value": "float64", "train_seed": "Int64",
    }  # fmt: skip
    assert list(dict.fromkeys(cells["encoder"])) == ["zeta", "alpha"]  # as given
    rest = [key for key in CELL_KEYS if key != "encoder"]
    for _, rows in cells.groupby("encoder"):
        pd.testing.assert_frame_equal(rows, rows.sort_values(rest, kind="stable"))


def test_stability_is_typed_and_in_order(results):
    assert list(results.stability.columns) == STABILITY
    assert results.stability["n_pairs"].dtype == "int64"
    assert list(results.stability["severity"]) == [0, 1, 0, 1]


def test_a_table_may_be_made_of_a_table(results):
    turned = pd.concat([results.cells[results.cells["encoder"] == name][::-1] for name in ("zeta", "alpha")])
    pd.testing.assert_frame_equal(cells_table(turned), results.cells)


def test_recall_is_typed_and_in_order(results):
    assert list(results.recall.columns) == RECALL
    assert list(results.recall["class"]) == ["eins", "sieben"] * 2
    assert results.recall["n_seeds"].dtype == "int64"


def test_replicates_are_typed_and_in_order(results):
    replicates = results.replicates
    assert list(replicates.columns) == [*REPLICATE_KEYS, *(f"b{i}" for i in range(7))]
    assert list(replicates["severity"]) == [0, 1, 2] * 2
    assert set(replicates[["b0", "b6"]].dtypes) == {np.dtype("float32")}
    assert replicates["b0"].tolist() == pytest.approx([0.2, 0.3, 0.4] * 2)
    pd.testing.assert_frame_equal(
        replicates_table(replicates.iloc[::-1].iloc[[3, 4, 5, 0, 1, 2]]), in_order(replicates, REPLICATE_KEYS)
    )
    assert list(replicates_table([]).columns) == REPLICATE_KEYS


def test_rows_in_order_though_their_index_repeats(results):
    twice = pd.concat([results.recall.iloc[[0]], results.recall.iloc[[1]].set_axis([0])])
    assert len(recall_table(twice)) == 2


def without_digests(folder):
    """As before there were any."""
    run = json.loads((folder / "run.json").read_text())
    del run["digests"]
    (folder / "run.json").write_text(json.dumps(run))


def test_a_folder_of_an_older_version(results, tmp_path):
    """Without the later tables, and with a summary that had one clean split only."""
    results.save(tmp_path)
    without_digests(tmp_path)
    for name in set(TABLES) - {"cells", "stability", "summary"}:
        (tmp_path / f"{name}.parquet").unlink()
    results.summary.drop(columns=["split"]).to_parquet(tmp_path / "summary.parquet")
    loaded = Results.load(tmp_path)
    pd.testing.assert_frame_equal(loaded.summary, results.summary, check_dtype=False)
    for name, columns in {
        "recall": RECALL,
        "comparisons": COMPARISONS,
        "proxies": PROXIES,
        "replicates": REPLICATE_KEYS,
    }.items():
        assert getattr(loaded, name).empty
        assert list(getattr(loaded, name)) == columns
    loaded.save(tmp_path)


def test_nothing_measured_is_saved_and_loaded(tmp_path):
    cells, stability = cells_table([]), stability_table([])
    empty = Results(cells, stability, summarize(cells), comparisons=compare(cells), proxies=proxies(cells, stability))
    empty.save(tmp_path)
    assert Results.load(tmp_path).comparisons.empty


def test_a_bad_table_is_not_written(results, tmp_path):
    results.save(tmp_path)
    before = (tmp_path / "summary.csv").read_bytes()
    results.recall.loc[2, "mean"] = 66.7
    with pytest.raises(InputError, match=r"recall, row 2 \(encoder=alpha.*mean is 66.7; 0 to 1 is allowed"):
        results.save(tmp_path)
    assert (tmp_path / "summary.csv").read_bytes() == before


def test_ok_keeps_what_was_measured():
    table = cells_table(
        [cell("a", 0, 0), cell("a", 1, 0, status="failed", value=np.nan), cell("a", 2, 0, status="skipped")]
    )
    assert ok(table)["severity"].tolist() == [0]


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match=r"No results folder '.*nowhere'\.$"):
        Results.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["cells.parquet", "run.json"])
def test_an_unfinished_evaluation_says_what_is_missing(results, tmp_path, name):
    results.save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=f"lacks {name}: not a results folder, or its evaluation has not finished"):
        Results.load(tmp_path)


@pytest.mark.parametrize("name", ["stability.parquet", "run.json"])
def test_a_damaged_file(results, tmp_path, name):
    results.save(tmp_path)
    (tmp_path / name).write_bytes(b"PAR1 and nothing else")
    with pytest.raises(InputError, match="damaged"):
        Results.load(tmp_path)


@pytest.mark.parametrize("name", ["cells", "stability", "summary", "comparisons", "proxies", "replicates"])
def test_a_lost_column(results, tmp_path, name):
    results.save(tmp_path)
    without_digests(tmp_path)
    getattr(results, name).drop(columns=["metric"]).to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(InputError, match=f"{name}.parquet in .* lacks the columns metric"):
        Results.load(tmp_path)


def test_run_json_is_readable(results, tmp_path):
    results.save(tmp_path)
    run = json.loads((tmp_path / "run.json").read_text())
    digests = run.pop("digests")
    assert run == {"format": 1, "k": 3}
    assert digests.keys() == {f"{name}.parquet" for name in TABLES}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("damage", ["a bit", "a byte", "the end", "all"])
def test_a_table_that_is_not_the_one_written_is_refused_by_name(results, tmp_path, name, damage):
    results.save(tmp_path)
    path = tmp_path / f"{name}.parquet"
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "a bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "a byte": content[:4] + b"?" + content[5:],
            "the end": content[:-20],
            "all": b"",
        }[damage]
    )
    with pytest.raises(InputError, match=rf"{name}\.parquet.* is damaged"):
        Results.load(tmp_path)


def test_a_kill_between_two_files_leaves_a_folder_that_loads(results, tmp_path, monkeypatch):
    """Whichever of the new tables have appeared, the record accepts them, and the next writing makes all new."""
    results.save(tmp_path)
    changed = replace(results, cells=results.cells.assign(value=0.125))
    plain, moves = Path.replace, []

    def killed(self, target):
        if len(moves) == 4:
            raise KeyboardInterrupt
        moves.append(target)
        return plain(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            changed.save(tmp_path)
    assert len(moves) == 4
    Results.load(tmp_path)
    changed.save(tmp_path)
    assert (Results.load(tmp_path).cells["value"] == 0.125).all()


def test_every_column_is_documented(results):
    page = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
    summary = [column.replace("[baseline=zeta]", "[baseline=NAME]") for column in results.summary]
    assert set(SUMMARY_KEYS) <= set(summary)
    columns = [*CELLS, *STABILITY, *RECALL, *REPLICATE_KEYS, *COMPARISONS, *PROXIES, *summary]
    assert [column for column in columns if f"`{column}`" not in page] == []


def test_a_notebook_shows_shifts_or_else_the_clean_split(results):
    """One row per encoder, in percent."""
    shown = results._repr_html_()
    line = results.summary.query("encoder == 'zeta' and shift == 'corruption'").iloc[0]
    assert shown.count("<tr") == 3
    names = ["encoder", "shift", "clusterer", "protocol", "metric", "clean", "shifted", "drop", "worst_case"]
    assert re.findall("<th>(.*?)</th>", shown) == names
    cells = re.findall("<td>(.*?)</td>", shown)[: len(names)]
    numbers = [f"{100 * line[name]:.1f}" for name in ("clean", "shifted", "drop")]
    assert cells == ["zeta", "corruption", "kmeans", "frozen", "acc", *numbers, line["worst_case"]]
    results.summary = results.summary[results.summary["shift"] == "clean"]
    assert results._repr_html_().count("<td>clean</td>") == 2
