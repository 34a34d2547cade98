import math
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom
from sklearn import metrics as sk

from shiftbench.errors import InputError, InputTypeError
from shiftbench.metrics.external import (
    _expected_mutual_information,
    accuracy,
    ami,
    ari,
    contingency,
    match,
    purity,
    scores,
)
from shiftbench.registry import METRICS

SKLEARN = {
    "nmi": sk.normalized_mutual_info_score,
    "ari": sk.adjusted_rand_score,
    "ami": sk.adjusted_mutual_info_score,
}


@st.composite
def two_labelings(draw, max_ids=6, max_samples=40):
    n = draw(st.integers(1, max_samples))
    ids = st.lists(st.integers(0, draw(st.integers(0, max_ids - 1))), min_size=n, max_size=n)
    other = st.lists(st.integers(0, draw(st.integers(0, max_ids - 1))), min_size=n, max_size=n)
    return np.array(draw(ids)), np.array(draw(other))


def noisy(n, classes, clusters, noise, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    random = rng.integers(clusters, size=n)
    return labels, np.where(rng.random(n) < noise, random, labels % clusters)


def best_renaming(labels, partition):
    """Accuracy by trying every one-to-one map."""
    size = max(labels.max(), partition.max()) + 1
    return max(np.mean(np.array(names)[partition] == labels) for names in permutations(range(size)))


@pytest.mark.parametrize(
    ("n", "classes", "clusters", "noise"),
    [(360, 10, 10, 0.3), (1000, 10, 25, 0.5), (1000, 12, 3, 0.2), (5000, 100, 100, 0.6), (50, 50, 50, 1.0)],
)
def test_scikit_learn_agrees(n, classes, clusters, noise):
    labels, partition = noisy(n, classes, clusters, noise)
    table = contingency(labels, partition)
    for name, reference in SKLEARN.items():
        assert METRICS.load(name)(table) == pytest.approx(reference(labels, partition), abs=1e-11), name


@given(two_labelings())
@settings(max_examples=150)
def test_scikit_learn_agrees_on_small_labelings(pair):
    labels, partition = pair
    table = contingency(labels, partition)
    for name, reference in SKLEARN.items():
        assert METRICS.load(name)(table) == pytest.approx(reference(labels, partition), abs=1e-9), name


def test_expected_information_of_large_unbalanced_margins():
    labels, partition = noisy(50_000, 40, 7, 0.4)
    labels[:30_000] = 0
    table = contingency(labels, partition)
    expected = sk.cluster.expected_mutual_information(table, len(labels))
    assert _expected_mutual_information(table.sum(1), table.sum(0)) == pytest.approx(expected, rel=1e-8)


def test_expected_information_follows_from_the_hypergeometric_distribution():
    for rows, columns in [((3, 4), (5, 2)), ((1, 1, 6), (8,)), ((30, 2), (31, 1)), ((7, 7, 7), (20, 1))]:
        n, total = sum(rows), 0.0
        for a, b in product(rows, columns):
            total += sum(
                hypergeom.pmf(cell, n, a, b) * cell / n * math.log(cell * n / (a * b))
                for cell in range(1, min(a, b) + 1)
            )
        found = _expected_mutual_information(np.array(rows), np.array(columns))
        assert found == pytest.approx(total, rel=1e-9, abs=1e-14)


def test_ami_is_zero_on_average_over_every_order_of_the_labels():
    labels, partition = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 2])
    values = [ami(contingency(np.array(order), partition)) for order in set(permutations(labels))]
    assert np.mean(values) == pytest.approx(0, abs=1e-12)
    values = [ari(contingency(np.array(order), partition)) for order in set(permutations(labels))]
    assert np.mean(values) == pytest.approx(0, abs=1e-12)


@given(two_labelings(max_ids=5, max_samples=14))
@settings(max_examples=80)
def test_accuracy_is_that_of_the_best_renaming(pair):
    labels, partition = pair
    table = contingency(labels, partition)
    assert accuracy(table) == pytest.approx(best_renaming(labels, partition))
    assert accuracy(table, match(table)) == pytest.approx(accuracy(table))


def test_purity_counts_majorities():
    labels = np.array([0, 0, 1, 1, 1, 2])
    partition = np.array([0, 0, 0, 1, 1, 1])
    assert purity(contingency(labels, partition)) == pytest.approx((2 + 2) / 6)
    assert purity(contingency(labels, np.arange(6))) == 1


@given(two_labelings(), st.randoms(use_true_random=False))
@settings(max_examples=80)
def test_names_of_classes_and_clusters_do_not_matter(pair, random):
    labels, partition = pair
    names, other = list(range(6)), [3 * i for i in range(6)]  # ids with gaps
    random.shuffle(names)
    random.shuffle(other)
    before = scores(contingency(labels, partition))
    after = scores(contingency(np.array(names)[labels], np.array(other)[partition]))
    assert after == pytest.approx(before, abs=1e-12)


@given(two_labelings())
@settings(max_examples=80)
def test_bounds_and_symmetry(pair):
    labels, partition = pair
    table = contingency(labels, partition)
    found = scores(table)
    assert 0 < found["acc"] <= found["purity"] <= 1
    assert -1e-12 <= found["nmi"] <= 1 + 1e-12
    assert max(found["ari"], found["ami"]) <= 1 + 1e-12
    turned = scores(table.T)
    for name in ("acc", "nmi", "ari", "ami"):
        assert turned[name] == pytest.approx(found[name], abs=1e-12)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_a_partition_is_perfect_against_itself_renamed(ids):
    ids = np.array(ids)
    assert scores(contingency(ids, 7 - ids)) == pytest.approx(dict.fromkeys(METRICS, 1.0))


def test_independent_partitions_score_about_zero():
    rng = np.random.default_rng(0)
    found = scores(contingency(rng.integers(10, size=50_000), rng.integers(10, size=50_000)))
    assert abs(found["ari"]) < 1e-3
    assert abs(found["ami"]) < 1e-3
    assert found["nmi"] < 2e-3
    assert found["acc"] == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize(
    ("labels", "partition"),
    [
        ([0, 0, 0, 0], [0, 0, 0, 0]),  # one class, one cluster
        ([0, 1, 2, 3], [0, 0, 0, 0]),  # one cluster
        ([0, 0, 0, 0], [0, 1, 2, 3]),  # one class
        ([0, 1, 2, 3], [3, 2, 1, 0]),  # nothing but singletons
        ([0, 0, 1, 1], [0, 1, 2, 3]),
        ([0, 0, 1, 1], [0, 1, 0, 1]),  # exactly independent
        ([0], [0]),
        ([0, 1], [1, 1]),
    ],
)
def test_edge_cases_as_scikit_learn(labels, partition):
    table = contingency(labels, partition)
    for name, reference in SKLEARN.items():
        assert METRICS.load(name)(table) == pytest.approx(reference(labels, partition), abs=1e-12), name


def test_a_collapsed_clustering_scores_exactly_zero():
    labels = np.arange(90) % 7
    found = scores(contingency(labels, np.zeros(90, int)))
    assert (found["nmi"], found["ari"], found["ami"]) == (0, 0, 0)


def test_contingency_counts():
    rng = np.random.default_rng(0)
    labels, partition = rng.integers(7, size=500), rng.integers(4, size=500)
    table = contingency(labels.astype(np.uint8), partition.tolist())
    assert table.dtype == np.int64
    np.testing.assert_array_equal(table, sk.cluster.contingency_matrix(labels, partition))
    np.testing.assert_array_equal(contingency([0, 5, 5], [2, 0, 0])[[0, 5], [2, 0]], [1, 2])


def test_ids_without_samples_change_nothing():
    labels, partition = noisy(300, 6, 6, 0.4)
    assert scores(contingency(labels * 3, partition * 5)) == pytest.approx(scores(contingency(labels, partition)))


def test_frozen_mapping():
    table = np.array([[8, 1, 0], [0, 2, 9]])  # 2 classes, 3 clusters
    assert accuracy(table, [0, 1, 1]) == pytest.approx(19 / 20)  # two clusters may stand for one class
    assert accuracy(table, [0, -1, 1]) == pytest.approx(17 / 20)
    assert accuracy(table, [1, 1, 0]) == pytest.approx(2 / 20)
    assert accuracy(table, [0, 5, 1]) == pytest.approx(17 / 20)  # class 5 has no sample here
    assert accuracy(table, [0, 1, 1, 0, -1]) == pytest.approx(19 / 20)  # clusters that no sample is in
    assert scores(table, [1, 1, 0]) == scores(table) | {"acc": 0.1}


def test_match():
    np.testing.assert_array_equal(match([[0, 9, 2], [5, 1, 4]]), [1, 0, -1])  # K > C
    np.testing.assert_array_equal(match([[0, 9], [5, 1], [1, 1]]), [1, 0])  # K < C
    mapping = match([[0, 0, 0], [4, 0, 1], [0, 0, 7]])
    assert mapping.dtype == np.int64
    np.testing.assert_array_equal(mapping, [1, -1, 2])  # class 0 and cluster 1 do not occur


def test_registered_names():
    assert list(scores([[1, 2], [3, 4]])) == list(METRICS) == ["acc", "nmi", "ari", "ami", "purity"]


@pytest.mark.parametrize(
    ("labels", "partition", "message"),
    [
        ([], [], "at least one sample"),
        ([0, 1], [0], "same samples, not 2 and 1"),
        ([0, -1], [0, 0], "labels must be ids of 0 or more, not -1"),
        ([0, 1], [0, -2], "partition must be ids of 0 or more, not -2"),
        ([[0, 1]], [0, 1], "labels must have 1 dimension"),
        ([10**9, 0], [10**9, 0], "renumber"),
    ],
)
def test_ids_that_cannot_be_counted(labels, partition, message):
    with pytest.raises(InputError, match=message):
        contingency(np.array(labels, dtype=int), np.array(partition, dtype=int))


def test_ids_of_another_type():
    with pytest.raises(InputTypeError, match="partition must be integer ids, not float64"):
        contingency([0, 1], [0.0, 1.0])


@pytest.mark.parametrize("score", [*map(METRICS.load, METRICS), match])
@pytest.mark.parametrize("table", [[[0, 0], [0, 0]], [1, 2], [[0.5]], np.zeros((0, 3), int)])
def test_not_a_contingency_table(score, table):
    with pytest.raises(InputError, match="contingency table"):
        score(table)


@pytest.mark.parametrize("mapping", [[0], [[0, 1]], [0.0, 1.0]])
def test_not_a_mapping(mapping):
    with pytest.raises(InputError, match="mapping must give an integer class id"):
        accuracy([[1, 0], [0, 1]], mapping)
