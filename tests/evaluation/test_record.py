"""``run.json`` says everything that was evaluated, how, and with what."""

import json

import numpy as np
import pytest

from shiftbench.encoders.base import Encoder
from shiftbench.evaluation import evaluate
from shiftbench.evaluation.options import PROTOCOLS
from shiftbench.evaluation.plan import RESULTS_VERSION
from shiftbench.registry import SHIFTS

MEASURED = {"seconds", "cpu_seconds", "images", "started", "finished", "versions", "version", "hardware", "command"}


def test_everything_is_on_record(means, small, colours):
    run = evaluate(means, **small | {"clusterer": ["kmeans", "ward"], "limit": 28, "probes": "knn"}).run
    written = json.loads((small["results"] / "run.json").read_text())
    assert written == run | {"digests": written["digests"]}
    fingerprint = run["data"]["fingerprint"]
    assert fingerprint != colours.fingerprint  # that of the images that are used
    assert {name: value for name, value in run.items() if name not in MEASURED} == {
        "format": 2,
        "identity": {"data": fingerprint, "limit": 28, "seed": 0, "code": RESULTS_VERSION},
        "config": {
            "code": RESULTS_VERSION, "data": fingerprint, "limit": 28, "k": 3, "k_by": "", "k_source": "true", "seeds": 3,
            "protocols": list(PROTOCOLS), "seed": 0, "batch_size": 250, "clusterers": ["kmeans", "ward"],
            "probes": ["knn"], "axes": ["initialization", "shift"],
        },
        "data": {
            "name": "colours", "fingerprint": fingerprint, "n_train": 28, "n_test": 28,
            "classes": ["red", "green", "blue"],
        },
        "shifts": [
            {"name": "clean", "images": {}, "kind": "clean", "source": "", "citation": ""},
            {"name": "corruption", "images": {}, "kind": "corruption", **source("corruption")},
        ],
        "skipped": {},
        "encoders": [
            {
                "name": "means", "train_seed": None, "slug": "means@means", "fingerprint": "means", "traceable": True,
                "feature": "backbone", "features": ["backbone"], "dimensions": {"backbone": 3}, "dtype": "float32", "origin": {},
            }
        ],
        "table": run["table"],
        "protocols": list(PROTOCOLS),
        "seeds": 3,
        "k": 3,
        "dtype": "float32",
        "commands": [run["command"]],
    }  # fmt: skip
    assert run["seconds"].keys() == run["cpu_seconds"].keys() >= {"load", "compute", "encode", "cluster", "score"}
    assert run["images"] == 28 + 3 * 28  # to fit on, and clean and changed twice to score


def source(name):
    shift = SHIFTS.load(name)
    assert shift.source
    assert shift.citation
    return {"source": shift.source, "citation": shift.citation}


def test_shifts_of_ones_own_have_the_digest_of_their_files(means, small, colours, tmp_path):
    for name, count in (("whole", 30), ("two", 2)):
        images = colours.test.images[:count].numpy().transpose(0, 2, 3, 1)
        np.savez(tmp_path / f"{name}.npz", images=images, labels=colours.test.labels[:count])
    names = tmp_path / "names.yaml"
    names.write_text("0: red\n1: green\n2: blue\n")
    run = evaluate(
        means, **small | {"shift": [f"npz:{tmp_path / n}.npz?classes={names}" for n in ("whole", "two")]}
    ).run
    _, whole, two = run["shifts"]
    assert [len(digest) for digest in whole.pop("images").values()] == [32]
    assert whole == {"name": "whole", "kind": "own", "source": "", "citation": ""}
    assert two == {"name": "two", "kind": "own", "source": "", "citation": "", "images": {}}
    assert list(run["skipped"]) == ["two"]
    assert "2" in run["skipped"]["two"]


def test_what_was_there_stays_on_record(means, small):
    """Of what is evaluated again, the later record counts; widths are known also where nothing is computed."""

    def other(images):
        return {"backbone": images.flatten(1).float()[:, :5]}

    first = evaluate(means, **small).run
    both = evaluate(Encoder("other", other, fingerprint="other"), **small).run
    again = evaluate(means, **small | {"batch_size": 7}).run
    assert [encoder["name"] for encoder in both["encoders"]] == ["means", "other"]
    assert [encoder["name"] for encoder in again["encoders"]] == ["other", "means"]
    assert [encoder["dimensions"]["backbone"] for encoder in again["encoders"]] == [5, 3]
    assert again["commands"] == [first["command"], both["command"], again["command"]]
    assert evaluate(means, **small | {"batch_size": 7}).run["commands"] == again["commands"]


def test_other_weights_have_widths_of_their_own(small):
    def encoder(width):
        return Encoder(
            "same", lambda x: {"backbone": x.flatten(1).float()[:, :width]}, fingerprint=f"w{width}", train_seed=1
        )

    evaluate(encoder(4), **small)
    both = evaluate(encoder(6), **small).run["encoders"]
    assert [(one["fingerprint"], one["dimensions"]) for one in both] == [
        ("w4", {"backbone": 4}),
        ("w6", {"backbone": 6}),
    ]


@pytest.mark.parametrize("k", ["2-4", 4])
def test_the_numbers_of_clusters_in_question(means, small, k):
    run = evaluate(means, **small | {"k": k, "shift": None, "seeds": 2}).run
    assert run["k"] == run["config"]["k"] == ([2, 3, 4] if k == "2-4" else 4)
    assert run["config"]["k_source"] == ("estimated" if k == "2-4" else "given")
