from importlib import import_module
from itertools import combinations

import numpy as np
import pytest
from sklearn.cluster import KMeans as ScikitKMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score

from shiftbench.errors import InputError
from shiftbench.stability.axes import subsample
from shiftbench.stability.choose_k import CRITERIA, choose_k, parse_k

module = import_module("shiftbench.stability.choose_k")


def blobs(k, n=240, seed=0):
    """Round, equal and well apart, at the corners of a simplex."""
    rng = np.random.default_rng(seed)
    return (8 * np.eye(k)[np.arange(n) % k] + rng.normal(size=(n, k))).astype(np.float32)


def values(choice, criterion):
    return choice.table.query("criterion == @criterion").set_index("k")["value"]


def best_labels(features, k):
    """The best of ten starts, by another implementation of k-means; the seeds are those of ours."""
    return min(
        (ScikitKMeans(k, n_init=1, random_state=seed).fit(features) for seed in range(module.STARTS)),
        key=lambda found: found.inertia_,
    ).labels_


@pytest.mark.parametrize("k", [3, 6])
def test_every_criterion_finds_clear_clusters(k):
    choice = choose_k(blobs(k), range(2, 9))
    assert choice.chosen == dict.fromkeys(CRITERIA, k)


def test_the_table():
    choice = choose_k(blobs(3), [5, 3, 2, 3])
    assert list(choice.table.columns) == ["criterion", "k", "value", "se", "chosen"]
    assert list(choice.table["k"]) == [2, 3, 5] * 4
    assert list(choice.table["criterion"].unique()) == list(CRITERIA) == list(choice.chosen)
    marked = choice.table.query("chosen").set_index("criterion")["k"]
    assert dict(marked) == choice.chosen
    with_error = choice.table.dropna(subset="se")
    assert set(with_error["criterion"]) == {"stability", "gap"}
    assert (with_error["se"] >= 0).all()


def test_stability_by_hand():
    features = np.random.default_rng(0).normal(size=(120, 3)).astype(np.float32)
    found = values(choose_k(features, [4], criteria=["stability"]), "stability")
    labels = []
    for i in range(module.RESAMPLES):
        images = np.unique(np.random.default_rng([0, i]).integers(120, size=120))
        labels.append(dict(zip(images, best_labels(features[images], 4), strict=True)))
    scores = []
    for a, b in combinations(labels, 2):
        both = sorted(a.keys() & b.keys())
        scores.append(adjusted_rand_score([a[i] for i in both], [b[i] for i in both]))
    assert found[4] == pytest.approx(np.mean(scores), abs=1e-6)


def test_unrelated_partitions_have_a_stability_of_zero_for_any_k(monkeypatch):
    monkeypatch.setattr(
        module, "_labels", lambda points, k, *_: np.random.default_rng(len(points)).integers(k, size=len(points))
    )
    found = values(choose_k(blobs(3, 600), [2, 5, 20], criteria=["stability"]), "stability")
    assert found.abs().max() < 0.03


def test_the_last_k_before_stability_falls():
    """Two pairs of blobs: two clusters are as reproducible as four."""
    rng = np.random.default_rng(0)
    corners = np.array([[0, 0], [6, 0], [60, 0], [66, 0]])
    features = corners[np.arange(200) % 4] + rng.normal(size=(200, 2)) * 0.5
    choice = choose_k(features, range(2, 8), criteria=["stability"])
    found = values(choice, "stability")
    assert found[2] == found[4] == 1
    assert choice.chosen["stability"] == 4


def test_gap_by_hand():
    features = blobs(3, 90)
    ks = [1, 2, 3, 4]
    choice = choose_k(features, ks, criteria=["gap"])

    def log_w(data, k, starts):
        """Half the mean of all squared distances within each cluster, pair by pair: the paper's equation 2."""
        runs = [ScikitKMeans(k, n_init=1, random_state=seed).fit(data) for seed in range(starts)]
        labels = min(runs, key=lambda run: run.inertia_).labels_
        total = 0
        for c in range(k):
            members = data[labels == c].astype(np.float64)
            total += np.square(members[:, None] - members[None]).sum() / (2 * len(members))
        return np.log(total)

    center = features.mean(axis=0, dtype=np.float64)
    _, _, axes = np.linalg.svd(features - center, full_matrices=False)
    scores = (features - center) @ axes.T
    references = []
    for b in range(1, module.REFERENCES + 1):
        uniform = np.random.default_rng([0, b]).uniform(scores.min(axis=0), scores.max(axis=0), scores.shape)
        references.append((uniform @ axes + center).astype(np.float32))
    for k in ks:
        logs = np.array([log_w(reference, k, 1) for reference in references])
        row = choice.table.query("k == @k").iloc[0]
        assert row["value"] == pytest.approx(logs.mean() - log_w(features, k, module.STARTS), abs=1e-4)
        assert row["se"] == pytest.approx(np.sqrt(np.mean((logs - logs.mean()) ** 2) * 1.1), abs=1e-4)
    assert choice.chosen["gap"] == 3


def test_the_gap_says_when_there_are_no_clusters():
    features = np.random.default_rng(0).uniform(size=(300, 4))
    assert choose_k(features, range(1, 6), criteria=["gap"]).chosen["gap"] == 1


def test_the_rule_of_the_gap():
    rule = CRITERIA["gap"][1]
    errors = np.array([0.1, 0.1, 0.1])
    assert rule(np.array([0.5, 0.55, 2.0]), errors) == 0
    assert rule(np.array([0.5, 0.7, 0.75]), errors) == 1
    assert rule(np.array([0.5, 0.7, 0.9]), errors) is None


def test_silhouette_is_that_of_scikit_learn():
    features = blobs(4)
    found = values(choose_k(features, [2, 4, 6], criteria=["silhouette"]), "silhouette")
    for k in (2, 4):
        assert found[k] == pytest.approx(silhouette_score(features, best_labels(features, k)), abs=1e-5)


def test_as_many_eigenvalues_are_zero_as_the_graph_has_parts():
    found = values(choose_k(100 * blobs(5), range(1, 9), criteria=["eigengap"]), "eigengap")
    np.testing.assert_allclose(found[:4], 0, atol=1e-6)
    assert found.idxmax() == 5


def test_eigengap_by_hand():
    features = np.random.default_rng(0).normal(size=(60, 2))
    found = values(choose_k(features, range(1, 61), criteria=["eigengap"]), "eigengap")
    distances = np.linalg.norm(features[:, None] - features[None], axis=2)
    near = distances.argsort(axis=1)[:, 1 : module.NEIGHBORS + 1]
    joined = np.zeros((60, 60))
    np.put_along_axis(joined, near, 1, axis=1)
    joined = np.maximum(joined, joined.T)
    scale = np.diag(joined.sum(axis=1) ** -0.5)
    eigenvalues = np.linalg.eigvalsh(np.eye(60) - scale @ joined @ scale)
    np.testing.assert_allclose(found[:59], np.diff(eigenvalues), atol=1e-6)
    assert np.isnan(found[60])


def test_what_one_cluster_and_one_per_image_leave_undefined():
    features = blobs(3, 12)
    choice = choose_k(features, [1, 3, 12])
    for criterion, undefined in {"stability": [1, 12], "gap": [12], "silhouette": [1, 12], "eigengap": [12]}.items():
        found = values(choice, criterion)
        assert list(found.index[found.isna()]) == undefined
    alone = choose_k(features, [1], criteria=["stability", "gap", "silhouette"])
    assert alone.chosen == {"stability": None, "gap": None, "silhouette": None}
    assert not alone.table["chosen"].any()


def test_a_subsample_stands_for_all():
    features = blobs(3, 600)
    part = features[subsample(600, 100, 4)]
    assert choose_k(features, [2, 3], limit=100, seed=4).table.equals(choose_k(part, [2, 3], seed=4).table)


def test_threads_change_nothing_and_the_seed_does():
    features = np.random.default_rng(0).normal(size=(150, 3))
    one = choose_k(features, [2, 3, 4])
    assert one.table.equals(choose_k(features, [2, 3, 4], workers=3).table)
    other = choose_k(features, [2, 3, 4], seed=1)
    assert not one.table["value"].equals(other.table["value"])


def test_a_clusterer_without_random_start():
    chosen = choose_k(blobs(3), range(2, 6), clusterer="ward", criteria=["stability", "gap", "silhouette"]).chosen
    assert chosen == {"stability": 3, "gap": 3, "silhouette": 3}


def test_noise_is_left_out():
    table = choose_k(np.append(blobs(3), blobs(3, 9) + 50, axis=0), [2, 3, 4], clusterer="hdbscan").table
    assert table["value"].notna().all()


@pytest.mark.parametrize(
    ("given", "read"),
    [("2-20", range(2, 21)), (" 3-4 ", range(3, 5)), ("7", 7), (7, 7), (True, True), ("true", True), ("True", True)],
)
def test_what_k_may_be(given, read):
    assert parse_k(given) == read
    assert type(parse_k(given)) is type(read)


@pytest.mark.parametrize("wrong", ["20-2", "3-3", "0-4", "0", 0, -1, 2.5, "2-", "two", False, None, ""])
def test_what_k_may_not_be(wrong):
    with pytest.raises(InputError, match="a range like 2-20"):
        parse_k(wrong)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: choose_k(blobs(3), []), "ks is empty"),
        (lambda: choose_k(blobs(3), [0, 2]), "at least 1, not 0"),
        (lambda: choose_k(blobs(3, 30), [2, 31]), "cannot make 31 clusters of 30 images"),
        (lambda: choose_k(blobs(3, 30), [2, 21], limit=20), "cannot make 21 clusters of 20 images"),
        (lambda: choose_k(blobs(3), [2], criteria=[]), "criteria is empty"),
        (lambda: choose_k(blobs(3), [2], criteria=["gaps"]), "Did you mean 'gap'"),
        (lambda: choose_k(blobs(3), [2], clusterer="kmean"), "Did you mean 'kmeans'"),
        (lambda: choose_k([[np.nan], [0]], [2]), "1 of 2 images have NaN"),
    ],
)
def test_what_cannot_be_used(call, message):
    with pytest.raises(InputError, match=message):
        call()
