from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score
from sklearn.metrics.cluster import contingency_matrix

from shiftbench.errors import InputError, InputTypeError
from shiftbench.metrics import agreement
from shiftbench.metrics.agreement import AGREEMENTS, MISSING, NOISE, Labelings, paired, pairwise


def matched_accuracy(a, b):
    table = contingency_matrix(a, b)
    rows, columns = linear_sum_assignment(-table)
    return table[rows, columns].sum() / len(a)


WITNESSES = {
    "ari": adjusted_rand_score,
    "ami": adjusted_mutual_info_score,
    "matched_acc": matched_accuracy,
}
PARTITIONS = arrays(np.int64, st.tuples(st.integers(1, 5), st.integers(1, 25)), elements=st.integers(0, 4))


def similar(seeds, n, k, noise):
    rng = np.random.default_rng(0)
    shared = rng.integers(k, size=n)
    return np.where(rng.random((seeds, n)) < noise, rng.integers(k, size=(seeds, n)), shared)


@pytest.mark.parametrize(("n", "k", "noise"), [(360, 10, 0.3), (200, 30, 0.8), (50, 2, 1.0)])
def test_every_pair_as_scikit_learn(n, k, noise):
    partitions = similar(6, n, k, noise)
    found = pairwise(partitions)
    assert list(found) == list(AGREEMENTS) == list(WITNESSES)
    for name, matrix in found.items():
        expected = [[WITNESSES[name](a, b) for b in partitions] for a in partitions]
        np.testing.assert_allclose(matrix, expected, atol=1e-11, err_msg=name)


def test_paired_is_row_by_row():
    a, b = similar(5, 300, 8, 0.4), similar(10, 300, 8, 0.5)[5:]
    for name, values in paired(a, b).items():
        assert values.shape == (5,)
        np.testing.assert_allclose(values, [WITNESSES[name](x, y) for x, y in zip(a, b, strict=True)], atol=1e-11)


@given(PARTITIONS)
@settings(max_examples=60)
def test_symmetric_with_ones_on_the_diagonal(partitions):
    for matrix in pairwise(partitions).values():
        assert matrix.dtype == np.float64
        np.testing.assert_array_equal(matrix, matrix.T)
        np.testing.assert_array_equal(np.diag(matrix), 1)
        assert (matrix <= 1 + 1e-12).all()
    for values in paired(partitions, partitions).values():
        np.testing.assert_allclose(values, 1)


@given(PARTITIONS, st.permutations(range(5)))
@settings(max_examples=60)
def test_cluster_names_do_not_matter(partitions, names):
    renamed = partitions.copy()
    renamed[0] = np.array(names)[partitions[0]]
    before, after = pairwise(partitions), pairwise(renamed)
    for name in AGREEMENTS:
        np.testing.assert_allclose(before[name], after[name], atol=1e-12)


def test_different_numbers_of_clusters():
    partitions = np.array([[0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5]])
    for name, matrix in pairwise(partitions).items():
        expected = [[WITNESSES[name](a, b) for b in partitions] for a in partitions]
        np.testing.assert_allclose(matrix, expected, atol=1e-12)


def test_independent_partitions_agree_by_chance_only():
    partitions = np.random.default_rng(0).integers(10, size=(4, 20_000))
    found = pairwise(partitions)
    upper = np.triu_indices(4, 1)
    assert np.abs(found["ari"][upper]).max() < 2e-3
    assert np.abs(found["ami"][upper]).max() < 2e-3
    np.testing.assert_allclose(found["matched_acc"][upper], 0.1, atol=0.02)


def test_only_the_metrics_asked_for():
    partitions = similar(3, 40, 3, 0.5)
    assert list(pairwise(partitions, ["ami"])) == ["ami"]
    assert list(paired(partitions, partitions, ["matched_acc", "ari"])) == ["matched_acc", "ari"]


def test_one_partition_agrees_with_itself():
    for matrix in pairwise([[0, 1, 1]]).values():
        np.testing.assert_array_equal(matrix, [[1.0]])


def matched_by_hand(a, b):
    """The best of all ways to give each cluster of b another cluster of a; noise (-1) has none."""
    own, others = np.unique(a[a >= 0]), int(b.max()) + 1
    renamings = permutations([*own, *[-9] * others], others)  # -9: no partner
    return max(np.mean((np.array([*r, -9])[b] == a) & (a >= 0)) for r in renamings)


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_a_cluster_that_nothing_matches(seed):
    partitions = np.random.default_rng(seed).integers(-1, 3, size=(3, 12))
    found = pairwise(partitions)
    for i, j in combinations(range(3), 2):
        assert found["ari"][i, j] == pytest.approx(adjusted_rand_score(partitions[i], partitions[j]))
        assert found["ami"][i, j] == pytest.approx(adjusted_mutual_info_score(partitions[i], partitions[j]), abs=1e-11)
        assert found["matched_acc"][i, j] == pytest.approx(matched_by_hand(partitions[i], partitions[j]))


def test_noise_alone():
    found = pairwise([[NOISE, NOISE, NOISE], [NOISE, NOISE, NOISE]])
    assert [found[name][0, 1] for name in AGREEMENTS] == [1, 1, 0]


def test_missing_samples_take_no_part():
    partitions = similar(6, 200, 5, 0.4)
    partitions[np.random.default_rng(1).random(partitions.shape) < 0.3] = MISSING
    found = pairwise(partitions)
    shared = paired(partitions[:3], partitions[3:])
    for i, j in combinations(range(6), 2):
        both = (partitions[i] >= 0) & (partitions[j] >= 0)
        for name, witness in WITNESSES.items():
            expected = witness(partitions[i][both], partitions[j][both])
            assert found[name][i, j] == pytest.approx(expected, abs=1e-11)
            if j == i + 3:
                assert shared[name][i] == found[name][i, j]


def test_nothing_in_common():
    for matrix in pairwise([[0, 1, -2, -2], [-2, -2, 0, 1]]).values():
        np.testing.assert_array_equal(matrix, [[1, np.nan], [np.nan, 1]])


@given(arrays(np.int64, st.tuples(st.integers(1, 4), st.integers(1, 30)), elements=st.integers(-2, 2)))
@settings(max_examples=60)
def test_equal_samples_count_once(partitions):
    labelings = Labelings.of(partitions)
    expected, counts = np.unique(partitions, axis=1, return_counts=True)
    clusters = max(0, partitions.max() + 1)
    assert labelings.clusters == clusters
    ids = labelings.vectors.astype(np.int64)
    ids[ids >= clusters] = clusters - 1 - ids[ids >= clusters]
    np.testing.assert_array_equal(ids[:, labelings.samples], partitions)
    assert labelings.vectors.shape == expected.shape
    np.testing.assert_array_equal(np.sort(labelings.weights), np.sort(counts))
    assert (np.diff([np.flatnonzero(labelings.samples == u)[0] for u in range(expected.shape[1])]) > 0).all()


def test_ten_thousand_distinct_samples_with_slots_in_common():
    ids = np.random.default_rng(0).integers(3, size=(12, 10_000))
    labelings = Labelings.of(ids)
    assert len(labelings.weights) == np.unique(ids, axis=1).shape[1]
    np.testing.assert_array_equal(labelings.vectors[:, labelings.samples], ids)


def test_in_any_number_of_blocks(monkeypatch):
    partitions = similar(6, 300, 8, 0.5)
    whole = pairwise(partitions)
    monkeypatch.setattr(agreement, "_BLOCK_CELLS", 250)  # two tables
    for name, matrix in pairwise(partitions).items():
        np.testing.assert_array_equal(matrix, whole[name])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.uint64])
def test_any_integer_type(dtype):
    partitions = similar(3, 100, 4, 0.5)
    for name, matrix in pairwise(partitions.astype(dtype)).items():
        np.testing.assert_array_equal(matrix, pairwise(partitions)[name])


def test_small_integers_do_not_overflow():
    partitions = np.array([[127, 0, 0, -1, -2], [127, 0, 0, -1, 1]])
    for name, matrix in pairwise(partitions.astype(np.int8)).items():
        np.testing.assert_array_equal(matrix, pairwise(partitions)[name])


def test_what_cannot_be_compared():
    with pytest.raises(InputError, match="2 dimensions"):
        pairwise([0, 1, 2])
    with pytest.raises(InputError, match="at least one of both"):
        pairwise(np.zeros((2, 0), int))
    with pytest.raises(InputError, match=r"-1 \(noise\) or -2 \(missing\), not -3"):
        pairwise([[0, -3], [0, 1]])
    with pytest.raises(InputTypeError, match="integer ids"):
        pairwise([[0.5, 1.0]])
    with pytest.raises(InputError, match="ids up to 20000 need too large a table"):
        pairwise([[0, 20_000]])
    with pytest.raises(InputError, match=r"same shape, not \(1, 2\) and \(1, 3\)"):
        paired([[0, 1]], [[0, 1, 1]])
    with pytest.raises(InputError, match="Did you mean 'ari'"):
        pairwise([[0, 1]], ["arl"])
