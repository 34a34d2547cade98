"""Shifts, clusterers and metrics of one's own: where their code has changed, so have their numbers."""

import importlib
import sys

import pytest

from shiftbench.evaluation import evaluate
from shiftbench.registry import METRICS, Metric


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a module of the user's, as if the interpreter had just been started."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(name, source):
        (tmp_path / f"{name}.py").write_text(source)
        importlib.invalidate_caches()
        sys.modules.pop(name, None)

    yield write
    for name in ("my_shift", "my_clusterer", "my_metric"):
        sys.modules.pop(name, None)


SHIFT = """
import numpy as np
from shiftbench.records import Condition, Sample, Shift

def dim(images, index):
    return (images.float() * FACTOR).to(images.dtype)

def samples(dataset, table, seed):
    return {Condition("dim"): Sample(dataset.test.labels, np.arange(len(dataset.test)), change=CHANGE)}

dim_shift = Shift("dim", "own", True, samples)
"""


def value(results, **keys):
    rows = results.cells
    for key, wanted in keys.items():
        rows = rows[rows[key] == wanted]
    return rows["value"].mean()


@pytest.mark.parametrize("change", ["dim", "lambda images, index: dim(images, index)"])
@pytest.mark.parametrize("folder", ["same", "other"])
def test_an_edited_shift(means, small, write, tmp_path, change, folder):
    """Also in a fresh folder: the cache of features must not find what the older code made."""
    drops = []
    for factor in (1, 0):
        write("my_shift", SHIFT.replace("FACTOR", str(factor)).replace("CHANGE", change))
        given = small | {"shift": "my_shift:dim_shift"}
        given |= {"results": tmp_path / f"{folder}{factor * (folder == 'other')}"}
        drops.append(value(evaluate(means, **given), shift="dim", metric="acc", protocol="frozen", clusterer="kmeans"))
    assert drops[0] == 1
    assert drops[1] < 0.7


CLUSTERER = """
from shiftbench.clustering.kmeans import KMeans

class Mine(KMeans):
    def fit_seeds(self, features, k, seeds):
        return super().fit_seeds(features * SCALE, k, seeds)
"""


def test_an_edited_clusterer(means, small, write):
    scores = []
    for scale in (1, 0):
        write("my_clusterer", CLUSTERER.replace("SCALE", str(scale)))
        results = evaluate(means, **small | {"clusterer": "my_clusterer:Mine"})
        scores.append(value(results, shift="clean", metric="acc", protocol="refit"))
    assert scores[0] == 1
    assert scores[1] < 0.7


def test_an_edited_metric_and_a_new_one(means, small, write, monkeypatch):
    evaluate(means, **small)
    for number in (1.0, 2.0):
        write("my_metric", f"def constant(features):\n    return {number}\n")
        monkeypatch.setitem(METRICS._entries, "constant", Metric("my_metric:constant", "", needs=("features",)))
        assert value(evaluate(means, **small), metric="constant") == number
