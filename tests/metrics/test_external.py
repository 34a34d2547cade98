import math
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom
from sklearn import metrics as sk

from shiftbench.errors import InputError, InputTypeError
from shiftbench.metrics.counts import Contingency, contingency, match
from shiftbench.metrics.external import (
    accuracy,
    ami,
    ari,
    expected_mutual_information,
    mean_recall,
    purity,
    recalls,
    scores,
    worst_class,
)
from shiftbench.registry import METRICS

LABELS = METRICS.names("labels")
SKLEARN = {
    "nmi": sk.normalized_mutual_info_score,
    "ari": sk.adjusted_rand_score,
    "ami": sk.adjusted_mutual_info_score,
    "v_measure": sk.v_measure_score,
    "homogeneity": sk.homogeneity_score,
    "completeness": sk.completeness_score,
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
    expected = sk.cluster.expected_mutual_information(table.counts, len(labels))
    assert expected_mutual_information(table.classes, table.clusters) == pytest.approx(expected, rel=1e-8)


def test_expected_information_follows_from_the_hypergeometric_distribution():
    for rows, columns in [((3, 4), (5, 2)), ((1, 1, 6), (8,)), ((30, 2), (31, 1)), ((7, 7, 7), (20, 1))]:
        n, total = sum(rows), 0.0
        for a, b in product(rows, columns):
            total += sum(
                hypergeom.pmf(cell, n, a, b) * cell / n * math.log(cell * n / (a * b))
                for cell in range(1, min(a, b) + 1)
            )
        found = expected_mutual_information(np.array(rows), np.array(columns))
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
    # Of maps with equal accuracy and mean recall, either may be taken, and their worst classes differ.
    del before["worst_class"], after["worst_class"]
    assert after == pytest.approx(before, abs=1e-12)


def test_of_equally_accurate_maps_the_fairer_is_taken():
    np.testing.assert_array_equal(match([[5, 2], [7, 4]]), [0, 1])  # 9 right either way; 5/7 + 4/11 > 2/7 + 7/11
    np.testing.assert_array_equal(match([[2, 5], [4, 7]]), [1, 0])


@given(two_labelings())
@settings(max_examples=80)
def test_bounds_and_symmetry(pair):
    labels, partition = pair
    table = contingency(labels, partition)
    found = scores(table)
    assert 0 < found["acc"] <= found["purity"] <= 1
    assert -1e-12 <= found["nmi"] <= 1 + 1e-12
    assert max(found["ari"], found["ami"]) <= 1 + 1e-12
    assert 0 <= found["worst_class"] <= found["mean_recall"] <= 1
    assert found["v_measure"] == pytest.approx(found["nmi"], abs=1e-12)
    turned = scores(table.counts.T)
    for name in ("acc", "nmi", "ari", "ami", "v_measure"):
        assert turned[name] == pytest.approx(found[name], abs=1e-12)
    assert turned["homogeneity"] == pytest.approx(found["completeness"], abs=1e-12)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_a_partition_is_perfect_against_itself_renamed(ids):
    ids = np.array(ids)
    assert scores(contingency(ids, 7 - ids)) == pytest.approx(dict.fromkeys(LABELS, 1.0))


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
    assert table.counts.dtype == np.int64
    assert not table.noise.any()
    np.testing.assert_array_equal(table.counts, sk.cluster.contingency_matrix(labels, partition))
    np.testing.assert_array_equal(contingency([0, 5, 5], [2, 0, 0]).counts[[0, 5], [2, 0]], [1, 2])


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
    found, free = scores(table, [1, 1, 0]), scores(table)
    assert found["acc"] == pytest.approx(0.1)
    assert {name: found[name] for name in LABELS if "mapping" not in METRICS[name].needs} == {
        name: free[name] for name in LABELS if "mapping" not in METRICS[name].needs
    }


def test_match():
    np.testing.assert_array_equal(match([[0, 9, 2], [5, 1, 4]]), [1, 0, -1])  # K > C
    np.testing.assert_array_equal(match([[0, 9], [5, 1], [1, 1]]), [1, 0])  # K < C
    mapping = match([[0, 0, 0], [4, 0, 1], [0, 0, 7]])
    assert mapping.dtype == np.int64
    np.testing.assert_array_equal(mapping, [1, -1, 2])  # class 0 and cluster 1 do not occur


def test_recalls_are_those_of_classification():
    """With clusters that stand for classes, scikit-learn's recall of the classes so predicted."""
    labels, partition = noisy(500, 6, 6, 0.5)
    mapping = np.array([3, 1, 0, 5, -1, 2])
    expected = sk.recall_score(labels, mapping[partition], labels=range(6), average=None, zero_division=0)
    table = contingency(labels, partition)
    np.testing.assert_allclose(recalls(table, mapping), expected)
    assert mean_recall(table, mapping) == pytest.approx(expected.mean())
    assert worst_class(table, mapping) == expected.min() == 0  # no cluster stands for class 4
    assert accuracy(table, mapping) == pytest.approx(sk.accuracy_score(labels, mapping[partition]))


def test_recalls_of_the_best_map():
    labels, partition = noisy(500, 6, 6, 0.3)
    table = contingency(labels, partition)
    mapping = match(table)
    np.testing.assert_array_equal(recalls(table), recalls(table, mapping))
    balanced = sk.balanced_accuracy_score(labels, mapping[partition])
    assert mean_recall(table) == pytest.approx(balanced)


def test_classes_that_do_not_occur_have_no_recall():
    table = contingency([0, 0, 4, 4], [0, 0, 1, 0])
    np.testing.assert_array_equal(recalls(table), [1, np.nan, np.nan, np.nan, 0.5])
    assert mean_recall(table) == 0.75
    assert worst_class(table) == 0.5


def test_fewer_clusters_than_classes_leave_a_class_without():
    labels = np.arange(90) % 3
    table = contingency(labels, np.minimum(labels, 1))
    assert worst_class(table) == 0
    assert accuracy(table) == pytest.approx(2 / 3)
    assert purity(table) == pytest.approx(2 / 3)


def test_spare_clusters_are_wrong_one_to_one_and_right_many_to_one():
    labels = np.repeat([0, 1], 10)
    table = contingency(labels, np.repeat([0, 1, 2, 3], 5))
    assert accuracy(table) == 0.5
    assert purity(table) == 1
    assert sorted(match(table)) == [-1, -1, 0, 1]


def split_noise(seed=0, n=400):
    labels, partition = noisy(n, 5, 5, 0.3, seed)
    return labels, np.where(np.random.default_rng(seed).random(n) < 0.2, -1, partition)


def test_noise_is_one_more_cluster_where_partitions_are_compared():
    labels, partition = split_noise()
    table = contingency(labels, partition)
    for name, reference in SKLEARN.items():
        assert METRICS.load(name)(table) == pytest.approx(reference(labels, partition), abs=1e-12), name


def test_noise_is_wrong_where_samples_are_counted():
    labels, partition = split_noise()
    table, clustered = contingency(labels, partition), partition >= 0
    rest = contingency(labels[clustered], partition[clustered])
    share = clustered.mean()
    mapping = match(table)
    np.testing.assert_array_equal(mapping, match(rest))
    assert accuracy(table) == pytest.approx(accuracy(rest) * share)
    assert purity(table) == pytest.approx(purity(rest) * share)
    predicted = np.where(clustered, mapping[partition], -1)
    expected = sk.recall_score(labels, predicted, labels=range(5), average=None)
    np.testing.assert_allclose(recalls(table, mapping), expected)


def test_noise_is_matched_to_nothing_however_large():
    labels = np.repeat([0, 1], [90, 10])
    table = contingency(labels, np.where(np.arange(100) < 80, -1, labels))
    np.testing.assert_array_equal(table.cells, [[10, 0, 80], [0, 10, 0]])
    np.testing.assert_array_equal(match(table), [0, 1])
    assert accuracy(table) == pytest.approx(0.2)
    # A frozen mapping may know more clusters than occur here: the noise is not mistaken for one of them.
    assert accuracy(table, [0, 1, 0, 0]) == pytest.approx(0.2)
    assert recalls(table, [0, 1, 0, 0])[0] == pytest.approx(10 / 90)


def test_nothing_but_noise():
    found = scores(contingency([0, 0, 1], [-1, -1, -1]))
    worst = dict.fromkeys(
        ["acc", "nmi", "ari", "ami", "v_measure", "homogeneity", "purity", "mean_recall", "worst_class"], 0.0
    )
    assert worst.items() <= found.items()
    assert found["completeness"] == 1
    assert len(match(contingency([0, 0, 1], [-1, -1, -1]))) == 0


def test_a_table_of_counts_and_noise_is_that_of_ids():
    table = Contingency(np.array([[3, 0], [1, 4]]), np.array([2, 0]))
    labels, partition = np.repeat([0, 0, 1, 1], [3, 2, 1, 4]), np.repeat([0, -1, 0, 1], [3, 2, 1, 4])
    assert scores(table) == scores(contingency(labels, partition))
    assert (table.n, table.classes.tolist(), table.clusters.tolist()) == (10, [5, 5], [4, 4, 2])


@pytest.mark.parametrize(
    ("labels", "partition", "message"),
    [
        ([], [], "at least one sample"),
        ([0, 1], [0], "same samples, not 2 and 1"),
        ([0, -1], [0, 0], "labels must be ids of 0 or more, not -1"),
        ([0, 1], [0, -2], r"partition must be ids of -1 \(noise\) or more, not -2"),
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


@pytest.mark.parametrize("score", [*map(METRICS.load, LABELS), match, recalls, scores])
@pytest.mark.parametrize("table", [[[0, 0], [0, 0]], [1, 2], [[0.5]], np.zeros((0, 3), int)])
def test_not_a_contingency_table(score, table):
    with pytest.raises(InputError, match="contingency table"):
        score(table)


@pytest.mark.parametrize("mapping", [[0], [[0, 1]], [0.0, 1.0]])
def test_not_a_mapping(mapping):
    with pytest.raises(InputError, match="mapping must give an integer class id"):
        accuracy([[1, 0], [0, 1]], mapping)
