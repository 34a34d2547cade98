import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score
from sklearn.metrics.cluster import contingency_matrix

from shiftbench.errors import InputError, InputTypeError
from shiftbench.metrics.agreement import AGREEMENTS, paired, pairwise


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


def test_what_cannot_be_compared():
    with pytest.raises(InputError, match="2 dimension"):
        pairwise([0, 1, 2])
    with pytest.raises(InputError, match="ids of 0 or more, not -1"):
        pairwise([[0, -1], [0, 1]])
    with pytest.raises(InputTypeError, match="integer ids"):
        pairwise([[0.5, 1.0]])
    with pytest.raises(InputError, match=r"same shape, not \(1, 2\) and \(1, 3\)"):
        paired([[0, 1]], [[0, 1, 1]])
    with pytest.raises(InputError, match="Did you mean 'ari'"):
        pairwise([[0, 1]], ["arl"])
