from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import squareform
from sklearn.metrics import adjusted_rand_score

from shiftbench.errors import InputError
from shiftbench.metrics import consensus
from shiftbench.metrics.agreement import MISSING, NOISE, Labelings, pairwise
from shiftbench.metrics.consensus import cluster_jaccard, consensus_partition, pac, pairwise_jaccard, sample_consensus


def similar(seeds, n, k, noise, seed=0):
    rng = np.random.default_rng(seed)
    shared = rng.integers(k, size=n)
    return np.where(rng.random((seeds, n)) < noise, rng.integers(k, size=(seeds, n)), shared)


def with_missing(partitions, share=0.2):
    rng = np.random.default_rng(7)
    return np.where(rng.random(partitions.shape) < share, MISSING, partitions)


def co_association(partitions):
    """The n x n matrix, entry by entry; NaN where two samples are never both there."""
    n = partitions.shape[1]
    matrix = np.full((n, n), np.nan)
    for i, j in np.ndindex(n, n):
        both = (partitions[:, i] != MISSING) & (partitions[:, j] != MISSING)
        if both.any():
            matrix[i, j] = (partitions[both, i] == partitions[both, j]).mean()
    return matrix


# --- per sample


def consensus_by_hand(partitions):
    agreed, compared = np.zeros(partitions.shape[1]), np.zeros(partitions.shape[1])
    for a, b in combinations(partitions, 2):
        both = (a != MISSING) & (b != MISSING)
        table = np.array([[(both & (a == c) & (b == d)).sum() for d in range(9)] for c in range(9)])
        for c, d in zip(*linear_sum_assignment(-table), strict=True):
            agreed += (a == c) & (b == d)
        compared += both
    assert compared.all()
    return agreed / compared


@pytest.mark.parametrize("change", [lambda p: p, with_missing, lambda p: p - 1], ids=["all", "missing", "noise"])
def test_sample_consensus_by_hand(change):
    partitions = change(similar(9, 80, 4, 0.3))
    np.testing.assert_allclose(sample_consensus(partitions), consensus_by_hand(partitions))


@pytest.mark.parametrize("low", [0, NOISE])
def test_the_mean_over_samples_is_the_mean_matched_accuracy(low):
    partitions = np.maximum(similar(7, 500, 6, 0.5) - 1, low)
    pairs = pairwise(partitions)["matched_acc"][np.triu_indices(7, 1)]
    assert sample_consensus(partitions).mean() == pytest.approx(pairs.mean())


def test_only_the_sample_that_changes_lacks_consensus():
    partitions = np.tile(np.arange(12) % 3, (4, 1))
    partitions[0, 5] = 0  # its cluster is 2 in the other three: 3 of 6 pairs agree
    expected = np.ones(12)
    expected[5] = 0.5
    np.testing.assert_array_equal(sample_consensus(partitions), expected)
    renamed = np.stack([np.random.default_rng(i).permutation(3)[row] for i, row in enumerate(partitions)])
    np.testing.assert_array_equal(sample_consensus(renamed), expected)


def test_a_sample_that_is_never_compared():
    np.testing.assert_array_equal(sample_consensus([[0, 1, 0], [0, 1, MISSING]]), [1, 1, np.nan])


# --- per cluster


def test_cluster_jaccard_by_hand():
    reference = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    partitions = np.array([
        [5, 5, 5, 5, 1, 1, 1, 0],  # the same clusters
        [0, 0, 1, 1, 1, 1, 1, 1],  # cluster 0: 2/4; cluster 1: 3/6; cluster 2: 1/6
        [0, 0, MISSING, 0, 1, MISSING, 1, MISSING],  # of what is left the same; cluster 2 is gone
        [NOISE, NOISE, NOISE, 0, 1, 1, NOISE, NOISE],  # noise is no cluster: 1/4, 2/3, 0
    ])  # fmt: skip
    expected = [[1, 1, 1], [1 / 2, 1 / 2, 1 / 6], [1, 1, np.nan], [1 / 4, 2 / 3, 0]]
    np.testing.assert_allclose(cluster_jaccard(reference, partitions), expected)


@given(arrays(np.int64, st.tuples(st.integers(2, 5), st.integers(1, 20)), elements=st.integers(-2, 3)))
@settings(max_examples=60)
def test_cluster_jaccard_of_sets(partitions):
    reference, others = partitions[0], partitions[1:]
    found = cluster_jaccard(reference, others)
    assert found.shape == (len(others), max(0, reference.max() + 1))
    for s, other in enumerate(others):
        there = {i for i in range(len(other)) if reference[i] != MISSING and other[i] != MISSING}
        for c in range(reference.max() + 1):
            own = {i for i in there if reference[i] == c}
            rest = [{i for i in there if other[i] == d} for d in range(4)]
            expected = max(len(own & one) / len(own | one) for one in rest) if own else np.nan
            np.testing.assert_allclose(found[s, c], expected)


def test_pairwise_jaccard_is_the_mean_of_both_directions():
    partitions = with_missing(similar(5, 90, 4, 0.4) - 1)
    partitions[4] = np.minimum(partitions[4], 0)  # fewer clusters
    found = pairwise_jaccard(partitions)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(np.diag(found), 1)
    for i, j in combinations(range(5), 2):
        there = np.nanmean(cluster_jaccard(partitions[i], partitions[[j]]))
        back = np.nanmean(cluster_jaccard(partitions[j], partitions[[i]]))
        assert found[i, j] == pytest.approx((there + back) / 2)
    assert np.isnan(pairwise_jaccard([[NOISE, NOISE], [0, 1]])[0, 1])


# --- over pairs of samples


@pytest.mark.parametrize("limits", [(0.1, 0.9), (0.0, 1.0), (0.25, 0.75)])
@pytest.mark.parametrize("change", [lambda p: p, with_missing, lambda p: p - 1], ids=["all", "missing", "noise"])
def test_pac_of_the_whole_matrix(change, limits):
    partitions = change(similar(8, 60, 3, 0.3))
    shares = co_association(partitions)[np.triu_indices(60, 1)]
    shares = shares[~np.isnan(shares)]
    low, high = limits
    assert pac(partitions, *limits) == pytest.approx(((shares > low) & (shares <= high)).mean())


def test_pac_of_equal_and_of_opposite_partitions():
    same = np.tile(similar(1, 50, 4, 0), (5, 1))
    assert pac(same) == 0
    assert pac([[0, 0, 1, 1], [0, 1, 0, 1]]) == pytest.approx(4 / 6)  # only 0-3 and 1-2 are apart in both
    assert np.isnan(pac([[0, MISSING], [MISSING, 0]]))


def test_pac_of_a_random_part():
    partitions = similar(20, 4000, 5, 0.2)
    whole = pac(partitions)
    assert len(Labelings.of(partitions).weights) > 1500
    part = pac(partitions, limit=1500)
    assert part != whole
    assert part == pytest.approx(whole, abs=0.02)
    assert part == pac(partitions, limit=1500)
    assert part != pac(partitions, limit=1500, seed=1)


# --- as one partition


def linked_by_hand(partitions, k):
    """Average linkage on the n x n matrix in exact arithmetic: of equally near pairs the one that occurs first."""
    apart = (partitions[:, :, None] != partitions[:, None, :]).sum(axis=0)
    clusters = [[i] for i in range(partitions.shape[1])]
    while len(clusters) > k:
        pairs = combinations(range(len(clusters)), 2)
        means = {
            (a, b): Fraction(int(apart[np.ix_(clusters[a], clusters[b])].sum()), len(clusters[a]) * len(clusters[b]))
            for a, b in pairs
        }
        a, b = min(means, key=lambda pair: (means[pair], pair))
        clusters[a] += clusters.pop(b)
    labels = np.empty(partitions.shape[1], int)
    for cluster, members in enumerate(clusters):
        labels[members] = cluster
    return labels


@given(
    arrays(np.int64, st.tuples(st.integers(1, 4), st.integers(2, 14)), elements=st.integers(-1, 2)),
    st.integers(1, 4),
)
@settings(max_examples=80, deadline=None)
def test_consensus_is_that_of_all_samples_ties_included(partitions, k):
    distinct = np.unique(partitions, axis=1).shape[1]
    found = consensus_partition(partitions, min(k, partitions.shape[1]))
    assert found.exact
    np.testing.assert_array_equal(found.labels, linked_by_hand(partitions, min(k, distinct)))


def test_consensus_is_that_of_all_samples_without_ties():
    """As scipy on the n x n matrix: with so many partitions no two means that matter are equal."""
    partitions = similar(5001, 40, 4, 0.75)
    distances = 1 - (partitions[:, :, None] == partitions[:, None, :]).mean(axis=0)
    tree = linkage(squareform(distances, checks=False), "average")
    heights = np.append(tree[:, 2], np.inf)
    between = [k for k in range(1, 40) if heights[40 - k] > heights[39 - k] + 1e-9]
    assert len(between) > 30
    for k in between:
        expected = fcluster(tree, k, "maxclust")
        assert adjusted_rand_score(expected, consensus_partition(partitions, k).labels) == 1


def test_linking_distinct_samples_is_linking_all():
    """The same algorithm on every sample by itself, n x n."""
    partitions = similar(10, 1500, 5, 0.1)
    labelings = Labelings.of(partitions)
    assert len(labelings.weights) < 1200
    everyone = np.ascontiguousarray(labelings.vectors[:, labelings.samples])
    expected = consensus._link(everyone, np.ones(1500, np.int64), labelings.clusters + 1, 5)
    np.testing.assert_array_equal(consensus_partition(partitions, 5).labels, expected)


def test_consensus_finds_what_noisy_partitions_share():
    shared = np.random.default_rng(0).integers(6, size=800)
    partitions = similar(20, 800, 6, 0.4)
    found = consensus_partition(partitions, 6)
    assert found.exact
    assert adjusted_rand_score(shared, found.labels) > 0.99
    assert max(adjusted_rand_score(shared, one) for one in partitions) < 0.6


def test_consensus_of_more_distinct_samples_than_are_linked():
    shared = np.sort(np.random.default_rng(0).integers(6, size=3000))  # images often come class by class
    rng = np.random.default_rng(1)
    partitions = np.where(rng.random((20, 3000)) < 0.3, rng.integers(6, size=(20, 3000)), shared)
    found = consensus_partition(partitions, 6, limit=400)
    assert not found.exact
    assert adjusted_rand_score(shared, found.labels) > 0.99
    np.testing.assert_array_equal(found.labels, consensus_partition(partitions, 6, limit=400).labels)
    whole = consensus_partition(partitions, 6)
    assert whole.exact
    assert adjusted_rand_score(whole.labels, found.labels) > 0.99


def test_names_of_clusters_do_not_matter():
    partitions = similar(6, 200, 4, 0.3)
    renamed = np.stack([np.random.default_rng(i).permutation(4)[row] for i, row in enumerate(partitions)])
    np.testing.assert_array_equal(consensus_partition(partitions, 4).labels, consensus_partition(renamed, 4).labels)
    assert pac(partitions) == pac(renamed)
    np.testing.assert_allclose(sample_consensus(partitions), sample_consensus(renamed))


def test_fewer_distinct_samples_than_clusters():
    np.testing.assert_array_equal(consensus_partition([[0, 1, 0, 1]], 3).labels, [0, 1, 0, 1])
    np.testing.assert_array_equal(consensus_partition([[0, 1, 0, 1]], 1).labels, 0)


def test_what_has_no_consensus():
    with pytest.raises(InputError, match="give at least two"):
        sample_consensus([[0, 1]])
    with pytest.raises(InputError, match="give at least two"):
        pac([[0, 1]])
    with pytest.raises(InputError, match=r"not 0\.9 and 0\.1"):
        pac([[0, 1], [0, 1]], 0.9, 0.1)
    with pytest.raises(InputError, match="some are missing"):
        consensus_partition([[0, MISSING]], 1)
    with pytest.raises(InputError, match="cannot make 3 clusters of 2 samples"):
        consensus_partition([[0, 1]], 3)
