"""One results folder, several evaluations: rows are never of another encoder than the one beside them."""

import numpy as np
import pytest

from shiftbench.encoders.base import Encoder
from shiftbench.errors import InputError
from shiftbench.evaluation import evaluate
from shiftbench.reports import report
from shiftbench.results import Results


def encoder(kind, name="w"):
    """Two contents: channel means tell the colours apart, a constant tells nothing."""

    def compute(images):
        means = images.float().mean(dim=(2, 3)) / 255
        return {"backbone": means if kind == "good" else images[:, :1, 0, 0].float() % 2}

    return Encoder(name, compute, fingerprint={"good": "1a2b3c4d", "bad": "5e6f7a8b"}[kind])


def scores(results):
    """Clean accuracy by name."""
    rows = results.cells.query(
        "metric == 'acc' and shift == 'clean' and protocol == 'frozen' and clusterer == 'kmeans'"
    )
    return rows.groupby("encoder")["value"].mean().to_dict()


def test_two_contents_of_one_name_stand_side_by_side(small):
    """As in a sweep over a/model.pt and b/model.pt, or where a file was replaced between two calls."""
    evaluate(encoder("good"), **small | {"shift": "fog-1"})
    results = evaluate(encoder("bad"), **small | {"shift": "contrast-1"})
    found = scores(results)
    assert sorted(found) == ["w@1a2b3c", "w@5e6f7a"]
    assert found["w@1a2b3c"] == 1
    assert found["w@5e6f7a"] < 0.7
    assert set(results.cells.query("encoder == 'w@1a2b3c'")["corruption"]) == {"", "fog"}
    assert set(results.cells.query("encoder == 'w@5e6f7a'")["corruption"]) == {"", "contrast"}
    assert sorted(one["name"] for one in results.run["encoders"]) == sorted(found)
    assert set(results.summary["encoder"]) == set(found)
    again = evaluate(encoder("good"), **small | {"shift": ["fog-1", "snow-1"]})
    assert scores(again) == found
    assert set(again.cells.query("encoder == 'w@1a2b3c'")["corruption"]) == {"", "fog", "snow"}


def test_one_content_under_one_name_goes_on(small):
    first = evaluate(encoder("good"), **small | {"shift": "fog-1"})
    second = evaluate(encoder("good"), **small | {"shift": ["fog-1", "snow-1"]})
    assert scores(first) == scores(second) == {"w": 1}
    assert len(second.run["encoders"]) == 1


def test_files_of_two_contents_are_apart(small):
    for kind in ("good", "bad"):
        evaluate(encoder(kind), **small)
    assert len(list((small["results"] / "partitions").glob("w@*"))) == 2
    assert len(list((small["results"] / "examples").glob("w@*.npz"))) == 2


def test_partitions_of_another_content_are_not_read(small):
    """Whatever lies where its own should lie, a row holds what its key says."""
    evaluate(encoder("good"), **small)
    evaluate(encoder("bad"), **small | {"results": small["results"].with_name("other")})
    theirs = next((small["results"].with_name("other") / "partitions").glob("w@*"))
    ours = next((small["results"] / "partitions").glob("w@*"))
    for path in ours.rglob("clean.npz"):
        path.write_bytes((theirs / path.relative_to(ours)).read_bytes())
    assert scores(evaluate(encoder("good"), **small)) == {"w": 1}
    kept = evaluate(encoder("good"), **small | {"overwrite": "never"})
    assert scores(kept) == {"w": 1}


@pytest.mark.parametrize("table", ["cells", "stability", "summary"])
@pytest.mark.parametrize("damage", ["cut", "gone", "flipped"])
def test_a_damaged_table_of_others_is_refused(small, table, damage):
    """It holds what this evaluation cannot compute again; it must not vanish without a word."""
    evaluate(encoder("good", "first"), **small)
    path = small["results"] / f"{table}.parquet"
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-20] if damage == "cut" else b"PAR?" + content[4:])
    with pytest.raises(InputError, match=rf"(?s){table}|damaged.*would be lost"):
        evaluate(encoder("good", "second"), **small)


def test_an_encoder_that_cannot_be_known_takes_the_place_of_its_name(small):
    for value in (1.0, 0.0):
        results = evaluate(
            {"mine": lambda x, value=value: value * x.float().mean((2, 3)) + x[:, :, 0, 0].float() % 2}, **small
        )
    assert list(scores(results)) == ["mine"]
    assert scores(results)["mine"] < 0.7
    assert len(results.run["encoders"]) == 1


def test_what_evaluate_returns_is_what_the_folder_holds(small):
    results = evaluate(encoder("good"), **small)
    loaded = Results.load(small["results"])
    for name in ("cells", "summary", "stability", "recall", "comparisons", "proxies", "replicates"):
        np.testing.assert_array_equal(getattr(results, name).columns, getattr(loaded, name).columns)
        assert getattr(results, name).equals(getattr(loaded, name))


def test_a_finished_evaluation_reads_its_tables_once(small, monkeypatch):
    """The page that the command makes of it included."""
    evaluate(encoder("good"), **small)
    read, load = [], Results.load.__func__
    monkeypatch.setattr(Results, "load", classmethod(lambda cls, folder: read.append(folder) or load(cls, folder)))
    report(evaluate(encoder("good"), **small))
    assert len(read) == 1
