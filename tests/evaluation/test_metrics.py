"""Metrics of any kind that somebody registers are measured, tabled and described like ours."""

import numpy as np
import pytest
import torch

from shiftbench.encoders.base import Encoder
from shiftbench.evaluation import evaluate
from shiftbench.registry import METRICS, Metric, Registry


@pytest.fixture
def register(monkeypatch):
    """Register a function for the length of a test."""

    def add(name, function, **about):
        monkeypatch.setitem(METRICS._entries, name, Metric("", "of a test", **about))
        loaded = Registry.load
        monkeypatch.setattr(Registry, "load", lambda self, asked: function if asked == name else loaded(self, asked))

    return add


def rows(results, metric, **keys):
    table = results.cells[results.cells["metric"] == metric]
    for key, value in keys.items():
        table = table[table[key] == value]
    return table


def test_of_features_alone(register, means, small):
    """One value for each condition, the clean one too: there are no clusters, protocols or seeds."""
    register("width", lambda features: float(features.std()), needs=("features",), range=(0, np.inf))
    results = evaluate(means, **small)
    found = rows(results, "width")
    assert sorted(found["shift"] + found["corruption"]) == ["clean", "corruptionfog", "corruptiongaussian_noise"]
    assert set(found["clusterer"]) == {"features"}
    assert found["value"].between(0.01, 1).all()
    [row] = results.summary.query("metric == 'width' and shift == 'corruption'").to_dict("records")
    assert row["drop"] == pytest.approx(row["clean"] - row["shifted"])


def test_of_features_and_partition(register, means, small):
    """For each protocol and seed, with that partition and no other."""

    def within(features, partition):
        return float(np.mean([features[partition == c].std() for c in np.unique(partition)]))

    register("within", within, needs=("features", "partition"), higher_is_better=False)
    found = rows(evaluate(means, **small), "within", shift="clean")
    assert set(found["protocol"]) == {"frozen", "refit"}
    assert len(found) == 2 * small["seeds"]
    assert set(found["clusterer"]) == {"kmeans"}
    assert not found["higher_is_better"].any()


def test_of_features_and_labels(register, means, small):
    register("apart", lambda features, labels: float(len(set(labels))), needs=("features", "labels"))
    found = rows(evaluate(means, **small), "apart")
    assert set(found["value"]) == {3.0}
    assert set(found["clusterer"]) == {"features"}


def test_of_clean_features(register, means, small):
    """A function gets the clean images' features, and nothing is measured where nothing has shifted."""

    def moved(clean_features, features):
        return float(np.linalg.norm(features.mean(0) - clean_features.mean(0)))

    register("moved", moved, needs=("clean_features", "features"), higher_is_better=False)
    found = rows(evaluate(means, **small), "moved")
    assert set(found["shift"]) == {"corruption"}
    assert (found["value"] > 0.001).all()


def test_of_centers_under_the_frozen_protocol_alone(register, means, small):
    register("far", lambda centers: float(np.abs(centers).max()), needs=("centers",))
    found = rows(evaluate(means, **small), "far")
    assert set(found["protocol"]) == {"frozen"}
    assert set(found["shift"]) == {"corruption"}


def test_of_a_table_with_chance_and_intervals(register, means, small):
    """Fowlkes-Mallows by its definition: pairs together in both, over the geometric mean of those in either."""

    def fowlkes_mallows(table):
        pairs = [(counts.astype(float) ** 2).sum() - table.n for counts in (table.cells, table.classes, table.clusters)]
        return pairs[0] / np.sqrt(pairs[1] * pairs[2])

    register("fowlkes_mallows", fowlkes_mallows, range=(0, 1))
    results = evaluate(means, **small)
    assert (rows(results, "fowlkes_mallows", shift="clean")["value"] == 1).all()
    assert rows(results, "fowlkes_mallows", shift="chance")["value"].between(0.2, 0.4).all()
    [row] = results.summary.query(
        "metric == 'fowlkes_mallows' and shift == 'corruption' and protocol == 'frozen'"
    ).to_dict("records")
    assert row["shifted_low"] <= row["shifted"] <= row["shifted_high"]


def test_one_that_fails_is_named_in_its_rows(register, means, small):
    register("broken", lambda features, partition: 1 / 0, needs=("features", "partition"))
    found = rows(evaluate(means, **small), "broken")
    assert set(found["status"]) == {"failed"}
    assert set(found["reason"]) == {"the metric broken failed: ZeroDivisionError: division by zero"}


def test_without_labels_those_with_labels_are_left_out(register, small, colours):
    from dataclasses import replace

    register("apart", lambda features, labels: 1.0, needs=("features", "labels"))
    unlabelled = replace(
        colours, train=replace(colours.train, labels=None), test=replace(colours.test, labels=None), classes=()
    )
    encoder = Encoder(
        "means", lambda images: {"backbone": images.float().mean((2, 3)) / torch.tensor(255.0)}, fingerprint="means"
    )
    results = evaluate(encoder, **small | {"data": unlabelled, "k": 3})
    assert not len(rows(results, "apart"))
    assert len(rows(results, "silhouette"))
