import inspect
from itertools import combinations

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from shiftbench.clustering.kmeans import KMeans
from shiftbench.errors import InputError
from shiftbench.metrics.agreement import AGREEMENTS, MISSING, NOISE, pairwise
from shiftbench.metrics.consensus import cluster_jaccard, pac, sample_consensus
from shiftbench.records import Skipped
from shiftbench.stability.axes import (
    AXES,
    algorithm,
    augmentation,
    bootstrap,
    initialization,
    projection,
    random_view,
    shift,
    subsample,
    training_seed,
)
from shiftbench.stability.pairs import Agreement

K = 4
BLOBS = make_blobs(240, centers=K, n_features=6, cluster_std=0.5, random_state=2)[0].astype(np.float32)
CLOUD = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)


def fitted(features, seeds, k=K):
    return np.stack([one.labels for one in KMeans().fit_seeds(features, k, range(seeds))])


def given():
    """Something to measure it on."""
    partitions = fitted(CLOUD, 4)
    return {
        "partitions": partitions,
        "clean": partitions,
        "shifted": partitions[::-1],
        "checkpoints": np.stack([partitions, partitions[::-1], partitions]),
        "features": CLOUD,
        "views": [CLOUD, CLOUD[:, :2]],
        "k": K,
        "clusterer": "kmeans",
    }


@pytest.mark.parametrize("axis", AXES.values(), ids=list(AXES))
def test_every_axis_measures_what_it_says_from_what_it_needs(axis):
    measured = axis.function(**{name: given()[name] for name in axis.needs})
    assert tuple(measured) == axis.metrics
    assert axis.metrics[: len(AGREEMENTS)] == tuple(AGREEMENTS)
    for agreement in measured.values():
        assert isinstance(agreement, Agreement)
        assert -0.5 < agreement.mean <= 1
        assert agreement.n_pairs >= 1
        if not np.isnan(agreement.ci_low):
            assert agreement.ci_low <= agreement.mean <= agreement.ci_high
    optional = set(inspect.signature(axis.function).parameters) - set(axis.needs)
    assert optional <= {"clusterers", "count", "kinds", "dim", "limit", "seed", "workers"}


@pytest.mark.parametrize("axis", [axis for axis in AXES.values() if "k" in axis.needs], ids=lambda axis: axis.name)
def test_threads_change_nothing_and_seeds_do(axis):
    needed = {name: given()[name] for name in axis.needs}
    if axis.name == "algorithm":
        needed["clusterers"] = ["kmeans", "gmm", "ward"]
    one, several = axis.function(**needed, workers=1), axis.function(**needed, workers=3)
    assert repr(one) == repr(several)  # to the last bit, NaN equal to NaN
    assert repr(one) != repr(axis.function(**needed, seed=1))


def test_initialization_by_hand():
    partitions = fitted(CLOUD, 6)
    measured = initialization(partitions)
    for name, score in {"ari": adjusted_rand_score, "ami": adjusted_mutual_info_score}.items():
        pairs = [score(a, b) for a, b in combinations(partitions, 2)]
        assert measured[name].mean == pytest.approx(np.mean(pairs))
        assert measured[name].sd == pytest.approx(np.std(pairs, ddof=1))
        assert measured[name].n_pairs == 15
    samples = sample_consensus(partitions)
    assert measured["sample_consensus"].mean == pytest.approx(samples.mean())
    assert measured["sample_consensus"].sd == pytest.approx(samples.std(ddof=1))
    assert measured["sample_consensus"].mean == pytest.approx(measured["matched_acc"].mean)
    assert measured["pac"].mean == pac(partitions)
    found_again = [
        (cluster_jaccard(a, b[None]).mean() + cluster_jaccard(b, a[None]).mean()) / 2
        for a, b in combinations(partitions, 2)
    ]
    assert measured["cluster_jaccard"].mean == pytest.approx(np.mean(found_again))
    assert measured["cluster_jaccard"].sd == pytest.approx(np.std(found_again, ddof=1))


def test_projection_by_hand():
    measured = projection(CLOUD, K, count=4, dim=7, seed=3)
    views = [random_view(CLOUD, kind, 7, 3, i) for i, kind in enumerate(["gaussian", "diagonal"] * 2)]
    assert [view.shape[1] for view in views] == [7, 5, 7, 5]
    partitions = [KMeans().fit(view, K, 3).labels for view in views]
    pairs = [adjusted_rand_score(a, b) for a, b in combinations(partitions, 2)]
    assert measured["ari"].mean == pytest.approx(np.mean(pairs))
    assert measured["ari"].sd == pytest.approx(np.std(pairs, ddof=1))
    assert measured["ari"].n_pairs == 6


def test_a_projection_keeps_squared_lengths_on_average():
    lengths = [np.square(random_view(CLOUD, "gaussian", 20, 0, i)).sum(axis=1) for i in range(400)]
    np.testing.assert_allclose(np.mean(lengths, axis=0), np.square(CLOUD).sum(axis=1), rtol=0.1)


def test_a_diagonal_view_scales_each_dimension():
    scales = np.stack([random_view(CLOUD, "diagonal", 20, 0, i) / CLOUD for i in range(300)])
    np.testing.assert_allclose(scales, np.broadcast_to(scales[:, :1], scales.shape), rtol=1e-4)
    assert abs(scales[:, 0].mean()) < 0.1
    assert scales[:, 0].std() == pytest.approx(1, abs=0.05)


def test_bootstrap_by_hand():
    measured = bootstrap(CLOUD, K, count=5, seed=2)
    n = len(CLOUD)
    resamples = [set(np.random.default_rng([2, i]).integers(n, size=n)) for i in range(5)]
    assert all(0.5 * n < len(one) < 0.75 * n for one in resamples)
    labels = [dict(zip(sorted(one), KMeans().fit(CLOUD[sorted(one)], K, 2).labels, strict=True)) for one in resamples]
    pairs = []
    for a, b in combinations(labels, 2):
        both = sorted(a.keys() & b.keys())
        pairs.append(adjusted_rand_score([a[i] for i in both], [b[i] for i in both]))
    assert measured["ari"].mean == pytest.approx(np.mean(pairs))
    assert measured["ari"].n_pairs == 10
    whole = KMeans().fit(CLOUD, K, 2).labels
    filled = np.array([[one.get(i, MISSING) for i in range(n)] for one in labels])
    found_again = cluster_jaccard(whole, filled).mean(axis=1)
    assert measured["cluster_jaccard"].mean == pytest.approx(found_again.mean())
    assert measured["cluster_jaccard"].sd == pytest.approx(found_again.std(ddof=1))
    assert measured["cluster_jaccard"].n_pairs == 5
    assert measured["pac"].mean == pac(filled)
    assert measured["sample_consensus"].mean == pytest.approx(np.nanmean(sample_consensus(filled)))


def test_algorithm_by_hand():
    from sklearn.cluster import AgglomerativeClustering

    measured = algorithm(BLOBS, K, clusterers=["kmeans", "ward"])
    ward = AgglomerativeClustering(K).fit_predict(BLOBS)
    assert measured["ari"].mean == pytest.approx(adjusted_rand_score(KMeans().fit(BLOBS, K, 0).labels, ward))
    assert measured["ari"].n_pairs == 1


def test_algorithm_looks_at_a_subsample():
    measured = algorithm(CLOUD, K, clusterers=["kmeans", "bisecting"], limit=80, seed=5)
    part = CLOUD[subsample(200, 80, 5)]
    assert repr(measured) == repr(algorithm(part, K, clusterers=["kmeans", "bisecting"], seed=5))
    assert measured["ari"] != algorithm(CLOUD, K, clusterers=["kmeans", "bisecting"], seed=5)["ari"]


def test_augmentation_by_hand():
    views = [CLOUD, CLOUD + 0.3, np.random.default_rng(1).normal(size=(200, 3))]
    measured = augmentation(views, K, seed=1)
    pairs = pairwise([KMeans().fit(view, K, 1).labels for view in views])["ari"][np.triu_indices(3, 1)]
    assert measured["ari"].mean == pytest.approx(pairs.mean())
    part = augmentation(views, K, seed=1, limit=50)
    chosen = subsample(200, 50, 1)
    assert repr(part) == repr(augmentation([view[chosen] for view in views], K, seed=1))


def test_shift_by_hand():
    clean, shifted = fitted(CLOUD, 5), fitted(CLOUD + np.random.default_rng(1).normal(size=CLOUD.shape), 5)
    measured = shift(clean, shifted)
    pairs = [adjusted_rand_score(a, b) for a, b in zip(clean, shifted, strict=True)]
    assert measured["ari"].mean == pytest.approx(np.mean(pairs))
    assert measured["ari"].sd == pytest.approx(np.std(pairs, ddof=1))
    assert measured["ari"].n_pairs == 5
    alone = shift(clean[:1], shifted[:1])["ari"]
    assert alone.mean == pytest.approx(pairs[0])
    assert np.isnan([alone.sd, alone.ci_low, alone.ci_high]).all()


def test_training_seed_by_hand():
    checkpoints = np.stack([fitted(CLOUD[:, [d, d + 1]], 3) for d in range(4)])
    measured = training_seed(checkpoints)
    pairs = [
        np.mean([adjusted_rand_score(x, y) for x, y in zip(a, b, strict=True)]) for a, b in combinations(checkpoints, 2)
    ]
    assert measured["ari"].mean == pytest.approx(np.mean(pairs))
    assert measured["ari"].sd == pytest.approx(np.std(pairs, ddof=1))
    assert measured["ari"].n_pairs == 6


def test_clear_clusters_are_stable_along_every_axis():
    best = np.stack([KMeans().fit(BLOBS, K, seed).labels for seed in (1, 2, 4)])
    assert initialization(best)["ari"].mean == pytest.approx(1)
    assert initialization(best)["pac"].mean == 0
    assert bootstrap(BLOBS, K, clusterer="ward")["ari"].mean == pytest.approx(1)
    assert bootstrap(BLOBS, K, clusterer="ward")["cluster_jaccard"].mean == pytest.approx(1)
    assert projection(BLOBS, K, clusterer="ward", kinds=["gaussian"])["ari"].mean == pytest.approx(1)
    assert algorithm(BLOBS, K, clusterers=["ward", "average", "gmm", "spectral"])["ari"].mean > 0.99


def test_without_clusters_little_is_stable():
    assert bootstrap(CLOUD, 8)["ari"].mean < 0.6
    assert projection(CLOUD, 8)["ari"].mean < 0.5
    assert bootstrap(CLOUD, 8)["pac"].mean > 0.1


def test_noise_on_every_axis():
    noisy = np.where(np.random.default_rng(0).random((4, 200)) < 0.2, NOISE, fitted(CLOUD, 4))
    for measured in (initialization(noisy), shift(noisy, noisy[::-1]), training_seed(noisy[:, None])):
        assert measured["matched_acc"].mean < 0.75  # two in five images are noise in one of two
        assert measured["ari"].mean < 1
    for measured in (
        bootstrap(BLOBS, K, clusterer="hdbscan", count=3),
        algorithm(BLOBS, K, clusterers=["hdbscan", "ward"]),
    ):
        assert 0 < measured["ari"].mean <= 1
    nothing = initialization(np.full((3, 10), NOISE))
    assert nothing["matched_acc"].mean == 0
    assert np.isnan(nothing["cluster_jaccard"].mean)


def test_what_cannot_be_measured_says_why():
    one = fitted(CLOUD, 1)
    for skipped, reason in [
        (initialization(one), "one seed has no other"),
        (initialization(fitted(CLOUD, 2), clusterer="ward"), "ward has no random start"),
        (algorithm(CLOUD, K, clusterers=["kmeans", "kmeans"]), "kmeans has no other algorithm"),
        (augmentation([CLOUD], K), "one view has no other"),
        (training_seed(one[None]), "one training seed has no other"),
        (bootstrap(CLOUD[:10], 9), "fewer than 9 distinct"),
    ]:
        assert isinstance(skipped, Skipped)
        assert reason in skipped.reason


def test_unusual_features():
    assert bootstrap(CLOUD.astype(np.float16), K, count=2)["ari"].n_pairs == 1
    assert projection(np.ones((30, 3)), 2, count=2)["ari"].mean == 1
    assert bootstrap(CLOUD, 1, count=3)["ari"].mean == 1
    assert projection(CLOUD, 200, count=2)["matched_acc"].mean == 1  # every image by itself


def test_a_subsample_is_drawn_without_replacement():
    chosen = subsample(100, 40, 3)
    assert len(set(chosen)) == 40
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(chosen, subsample(100, 40, 3))
    assert (chosen != subsample(100, 40, 4)).any()
    np.testing.assert_array_equal(subsample(5, 40, 3), range(5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: projection(CLOUD, K, count=1), "count must be at least 2, not 1"),
        (lambda: projection(CLOUD, K, dim=0), "dim must be at least 1, not 0"),
        (lambda: projection(CLOUD, K, kinds=[]), "kinds is empty"),
        (lambda: projection(CLOUD, K, kinds=["gausian"]), "Did you mean 'gaussian'"),
        (lambda: projection(CLOUD, 201), "cannot make 201 clusters of 200 images"),
        (lambda: projection(CLOUD, K, clusterer="kmean"), "Did you mean 'kmeans'"),
        (lambda: bootstrap(CLOUD, K, count=1), "count must be at least 2, not 1"),
        (lambda: bootstrap(CLOUD, 201), "cannot make 201 clusters of 200 images"),
        (lambda: bootstrap(np.full((5, 2), np.nan), 2), "5 of 5 images have NaN"),
        (lambda: augmentation([CLOUD, CLOUD[:5]], K), "same images, not 200, 5"),
        (lambda: training_seed(np.zeros((2, 5), int)), r"\(checkpoints, seeds, images\), not of shape \(2, 5\)"),
        (lambda: shift([[0, 1]], [[0, 1, 2]]), "same shape"),
        (lambda: subsample(5, 0, 0), "limit must be at least 1, not 0"),
    ],
)
def test_what_cannot_be_used(call, message):
    with pytest.raises(InputError, match=message):
        call()
