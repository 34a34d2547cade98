"""What holds for every registered metric, ours and those to come: direction, range, and what it may need."""

import math

import numpy as np
import pytest

from shiftbench.errors import InputError
from shiftbench.metrics.counts import contingency, match
from shiftbench.metrics.external import scores
from shiftbench.registry import METRICS, Metric, Registry

N, K = 300, 3


def case(good):
    """Everything a metric may need: three blobs and their classes, or a partition and features that lost them."""
    rng = np.random.default_rng(5)
    labels = np.arange(N) % K
    centers = 8 * np.eye(K, 6)
    clean = (centers[labels] + rng.standard_normal((N, 6))).astype(np.float32)
    partition = (labels + 1) % K if good else np.where(np.arange(N) < N - 9, 0, rng.integers(1, K, N))
    features = clean if good else (clean + 3 * rng.standard_normal((N, 6)) + 2).astype(np.float32)
    table = contingency(labels, partition)
    return {
        "clean_features": clean,
        "table": table,
        "mapping": match(table),
        "labels": labels,
        "partition": partition,
        "k": K,
        "features": features,
        "centers": np.roll(centers, 1, axis=0).astype(np.float32),
        "seed": 0,
    }


def value(name, known):
    metric, target = METRICS[name], METRICS.load(name)
    given = [known[need] for need in metric.needs]
    if isinstance(target, type):
        return float(target(given[0])(*given[1:]))
    return float(np.squeeze(target(*given)))


@pytest.mark.parametrize("name", METRICS)
def test_better_is_better_in_the_declared_direction(name):
    good, bad = value(name, case(True)), value(name, case(False))
    assert good > bad if METRICS[name].higher_is_better else good < bad


@pytest.mark.parametrize("name", METRICS)
def test_values_are_within_the_declared_range(name):
    low, high = METRICS[name].range
    assert all(low - 1e-6 <= value(name, case(good)) <= high + 1e-6 for good in (True, False))


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.of_table])
def test_a_perfect_table_has_the_best_value_and_relabelling_changes_nothing(name):
    perfect, mixed = np.diag([4, 5, 6]), np.array([[9, 1, 2], [0, 7, 3], [2, 2, 8]])
    assert scores(perfect)[name] == pytest.approx(METRICS[name].range[METRICS[name].higher_is_better])
    assert scores(mixed[:, [2, 0, 1]])[name] == pytest.approx(scores(mixed)[name])


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.of_shift])
def test_what_compares_with_clean_images_is_nothing_without_a_shift(name):
    """Next to what a real shift gives."""
    assert value(name, case(True)) < 0.1 * value(name, case(False))


@pytest.mark.parametrize(
    ("needs", "group"),
    [
        (("table",), "labels"),
        (("features", "labels"), "labels"),
        (("features", "partition"), "features"),
        (("features",), "features"),
        (("partition", "k"), "partition"),
        (("centers", "features", "partition"), "shift"),
        (("clean_features", "features"), "shift"),
    ],
)
def test_what_a_metric_describes_follows_from_its_needs(needs, group):
    assert Metric("", "", needs=needs).group == group


def test_needs_nobody_can_meet_are_refused():
    with pytest.raises(InputError, match=r"need of a metric 'tabel'\. Did you mean 'table'"):
        Metric("", "", needs=("tabel",))
    with pytest.raises(InputError, match="clean_features must come first"):
        Metric("", "", needs=("features", "clean_features"))


def test_a_plugins_metric_is_told_apart_by_what_it_says():
    own = Registry("metric", {}, Metric)
    own.add("spread", "guest:spread", "how wide features lie", needs=("features",), range=(0, math.inf))
    assert own["spread"].range == (0, math.inf)
    assert not own["spread"].of_partition
    assert own.names("features") == ["spread"]
