import warnings
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans as Reference
from sklearn.cluster import kmeans_plusplus
from sklearn.metrics import adjusted_rand_score

from shiftbench.clustering import lloyd as lloyd_module
from shiftbench.clustering.kmeans import KMeans
from shiftbench.clustering.lloyd import lloyd, plus_plus
from shiftbench.errors import InputError, InputTypeError
from shiftbench.registry import CLUSTERERS
from shiftbench.runtime.parallel import parallel_map


def blobs(n=360, d=32, k=10, spread=1.0, seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(k, d))
    return (centers[rng.integers(k, size=n)] + spread * rng.normal(size=(n, d)) + offset).astype(np.float32)


def lloyd_in_float64(points, centers, iterations):
    """Plain Lloyd without bounds; an empty cluster gets the point that is worst served."""
    points, centers = points.astype(np.float64), centers.astype(np.float64)
    for _ in range(iterations):
        distances = np.square(points[:, None] - centers).sum(axis=2)
        labels = distances.argmin(axis=1)
        own = distances[np.arange(len(points)), labels]
        for cluster in range(len(centers)):
            if not (labels == cluster).any():
                alone = np.bincount(labels, minlength=len(centers))[labels] == 1
                farthest = np.where(alone, 0, own).argmax()
                labels[farthest], own[farthest] = cluster, 0
        moved = np.array([points[labels == j].mean(axis=0) for j in range(len(centers))])
        if np.allclose(moved, centers, rtol=0, atol=1e-12):
            break
        centers = moved
    return np.square(points[:, None] - centers).sum(axis=2).argmin(axis=1), centers


@pytest.mark.parametrize(
    ("n", "d", "k", "spread"),
    [(360, 128, 10, 1.0), (360, 700, 10, 3.0), (1437, 64, 10, 2.0), (600, 5, 60, 1.0)],
)
def test_scikit_learn_finds_the_same_partition_from_the_same_seed(n, d, k, spread):
    features = blobs(n, d, k, spread)
    for seed, fitted in enumerate(KMeans().fit_seeds(features, k, range(4))):
        reference = Reference(k, n_init=1, random_state=seed, algorithm="lloyd").fit(features)
        assert (fitted.labels == reference.labels_).mean() >= 0.999
        assert fitted.inertia == pytest.approx(reference.inertia_, rel=1e-4)
        np.testing.assert_allclose(fitted.centers, reference.cluster_centers_, atol=2e-3)


def test_scikit_learn_agrees_from_the_same_centers():
    features = blobs(20_000, 24, 12, 1.5)
    for seed in range(3):
        start = features[plus_plus(features, 12, [seed])[0]]
        reference = Reference(12, init=start, n_init=1, algorithm="lloyd").fit(features)
        fitted = KMeans().fit(features, 12, seed)
        assert (fitted.labels == reference.labels_).mean() >= 0.999
        assert fitted.inertia == pytest.approx(reference.inertia_, rel=1e-5)


def test_groups_of_centers_share_a_bound():
    # More than 32 clusters: the bounds of single centers give way to those of groups.
    features = blobs(4000, 8, 150, 0.5)
    start = features[plus_plus(features, 150, [0])]
    (centers,), (labels,), (n_iter,) = lloyd(features, start, 300, 0.0)
    reference = Reference(150, init=start[0], n_init=1, algorithm="lloyd", tol=0).fit(features.astype(np.float64))
    assert (labels == reference.labels_).mean() >= 0.999
    assert n_iter == reference.n_iter_
    np.testing.assert_allclose(centers, reference.cluster_centers_, atol=1e-3)


def test_start_is_that_of_scikit_learn():
    features = blobs(500, 16, 8)
    centred = features - features.mean(axis=0)
    for seed in range(10):
        expected = kmeans_plusplus(centred, 8, random_state=seed)[1]
        np.testing.assert_array_equal(plus_plus(features, 8, [seed])[0], expected)


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(6, 40), st.integers(1, 4))
@settings(max_examples=150)
def test_bounds_and_moving_sums_change_nothing(seed, k, n, d):
    # Starts may be bad and coincide, so that clusters become empty on the way.
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, d)).astype(np.float32)
    start = points[rng.integers(n, size=k)] + rng.choice([0, 5], size=(k, 1)).astype(np.float32)
    expected_labels, expected_centers = lloyd_in_float64(points, start, 300)
    (centers,), (labels,), _ = lloyd(points, start[None], 300, 0.0)
    np.testing.assert_allclose(centers, expected_centers, atol=1e-4)
    np.testing.assert_array_equal(labels, expected_labels)


@given(st.integers(0, 10**6), st.integers(1, 8))
@settings(max_examples=50)
def test_what_every_partition_keeps(seed, k):
    features = blobs(60, 4, 5, seed=seed)
    fitted = KMeans(tol=0).fit(features, k, seed)
    assert fitted.labels.dtype == np.int64
    assert fitted.labels.shape == (60,)
    assert fitted.centers.dtype == np.float32
    np.testing.assert_array_equal(np.unique(fitted.labels), np.arange(k))
    np.testing.assert_array_equal(fitted.predict(features), fitted.labels)
    distances = np.square(features[:, None].astype(float) - fitted.centers).sum(axis=2)
    np.testing.assert_allclose(distances[np.arange(60), fitted.labels], distances.min(axis=1), atol=1e-5)
    assert fitted.inertia == pytest.approx(distances.min(axis=1).sum(), rel=1e-5)
    for cluster in range(k):
        np.testing.assert_allclose(fitted.centers[cluster], features[fitted.labels == cluster].mean(0), atol=1e-5)


def test_well_separated_groups_are_found():
    rng = np.random.default_rng(0)
    truth = rng.integers(4, size=300)
    features = 100 * np.eye(4)[truth] + rng.normal(size=(300, 4))
    for fitted in KMeans().fit_seeds(features, 4, range(5)):
        assert adjusted_rand_score(truth, fitted.labels) == 1


def test_a_seed_does_not_depend_on_its_company():
    features = blobs()
    together = KMeans().fit_seeds(features, 10, [7, 3, 2**32 - 1])
    for seed, fitted in zip([7, 3, 2**32 - 1], together, strict=True):
        alone = KMeans().fit(features, 10, seed)
        np.testing.assert_array_equal(alone.labels, fitted.labels)
        np.testing.assert_array_equal(alone.centers, fitted.centers)
        assert alone.inertia == fitted.inertia
    assert len({fitted.inertia for fitted in together}) > 1


def test_same_partition_on_any_number_of_threads():
    features = [blobs(seed=seed, spread=2) for seed in range(6)]
    one, four = (
        parallel_map(lambda one: KMeans().fit_seeds(one, 10, range(3)), features, workers) for workers in (1, 4)
    )
    for a, b in zip(chain(*one), chain(*four), strict=True):
        np.testing.assert_array_equal(a.labels, b.labels)
        np.testing.assert_array_equal(a.centers, b.centers)


def test_same_partitions_for_any_workers_and_memory(monkeypatch):
    features = blobs(700, spread=2)
    expected = KMeans().fit_seeds(features, 10, range(7))
    spread_out = KMeans(workers=3).fit_seeds(features, 10, range(7))
    monkeypatch.setattr(lloyd_module, "_NUMBERS", 2 * 700 * 18)
    monkeypatch.setattr(lloyd_module, "_GROUPS", 3)
    assert lloyd_module.seeds_at_once(700, 10) < 7
    small = KMeans().fit_seeds(features, 10, range(7))
    for one, two, three in zip(expected, spread_out, small, strict=True):
        np.testing.assert_array_equal(one.labels, two.labels)
        np.testing.assert_array_equal(one.centers, two.centers)
        np.testing.assert_array_equal(one.labels, three.labels)
        assert one.inertia == two.inertia == three.inertia
        assert one.n_iter == three.n_iter


def test_a_million_images_are_summed_without_loss():
    # Two sites, 1,000,000 float32 images: a float32 running sum would be off in the third digit.
    features = np.repeat(np.float32([[0.1], [7.3]]), [400_000, 600_000], axis=0)
    fitted = KMeans().fit(features, 1, 0)
    assert fitted.centers[0, 0] == np.float32(4.42)
    assert fitted.inertia == pytest.approx(12_441_600, rel=1e-6)
    assert sorted(KMeans().fit(features, 2, 0).centers[:, 0]) == [np.float32(0.1), np.float32(7.3)]


def test_far_from_the_origin_as_near():
    near, far = blobs(d=16), blobs(d=16, offset=1000)
    for a, b in zip(KMeans().fit_seeds(near, 10, range(3)), KMeans().fit_seeds(far, 10, range(3)), strict=True):
        assert adjusted_rand_score(a.labels, b.labels) > 0.99
        assert b.inertia == pytest.approx(a.inertia, rel=1e-3)


@pytest.mark.parametrize("scale", [2.0**-12, 2.0**12])
def test_units_do_not_matter(scale):
    features = blobs(spread=3)
    for a, b in zip(
        KMeans().fit_seeds(features, 10, range(3)), KMeans().fit_seeds(scale * features, 10, range(3)), strict=True
    ):
        np.testing.assert_array_equal(a.labels, b.labels)
        assert a.n_iter == b.n_iter


def test_one_cluster():
    features = blobs(100, 6)
    fitted = KMeans().fit(features, 1, 0)
    np.testing.assert_array_equal(fitted.labels, 0)
    np.testing.assert_allclose(fitted.centers[0], features.mean(axis=0), atol=1e-5)
    assert fitted.inertia == pytest.approx(np.square(features - features.mean(axis=0)).sum(), rel=1e-5)


@pytest.mark.parametrize("n", [1, 2, 9, 40])
def test_as_many_clusters_as_images(n):
    fitted = KMeans().fit(blobs(n, 3), n, 0)
    np.testing.assert_array_equal(np.sort(fitted.labels), np.arange(n))
    assert fitted.inertia == 0


@pytest.mark.parametrize("value", [0.0, 0.1, -1e4])
def test_constant_features(value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = KMeans().fit(np.full((50, 7), value), 4, 0)
    np.testing.assert_array_equal(fitted.labels, 0)
    assert fitted.inertia == 0
    np.testing.assert_array_equal(fitted.centers, np.float32(value))


def test_fewer_distinct_points_than_clusters():
    points = blobs(3, 5, 3, seed=1)
    features = np.repeat(points, 20, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fitted in KMeans().fit_seeds(features, 8, range(5)):
            assert fitted.inertia == 0
            assert adjusted_rand_score(np.repeat(range(3), 20), fitted.labels) == 1
            assert set(np.unique(fitted.labels)) <= set(range(8))


def test_duplicates_stay_together():
    features = np.concatenate([blobs(80, 6)] * 2)
    for fitted in KMeans().fit_seeds(features, 10, range(3)):
        np.testing.assert_array_equal(fitted.labels[:80], fitted.labels[80:])


def test_features_of_any_real_type():
    features = blobs(200, 8).astype(np.float16)
    expected = KMeans().fit(features.astype(np.float32), 5, 0)
    for given_ in (features, features.astype(np.float64), features.astype(np.float32)[:, ::-1][:, ::-1]):
        np.testing.assert_array_equal(KMeans().fit(given_, 5, 0).labels, expected.labels)
        np.testing.assert_array_equal(expected.predict(given_), expected.labels)
    assert len(KMeans().fit(np.arange(40).reshape(10, 4), 2, 0).labels) == 10


def test_fit_leaves_the_features_alone():
    features = blobs()
    before = features.copy()
    features.flags.writeable = False
    KMeans().fit(features, 10, 0).predict(features)
    np.testing.assert_array_equal(features, before)


def test_predict_ties_take_the_lowest_id():
    fitted = KMeans().fit([[0.0], [2.0]], 2, 0)
    assert fitted.predict([[1.0]]).tolist() == [0]


def test_max_iter_and_tol_bound_the_work():
    features = blobs(2000, 8, 10, 3.0)
    assert KMeans(max_iter=3).fit(features, 10, 0).n_iter == 3
    loose, exact = KMeans(tol=1e-1).fit(features, 10, 0), KMeans(tol=0).fit(features, 10, 0)
    assert loose.n_iter < exact.n_iter
    assert exact.inertia <= loose.inertia


def test_registered():
    assert CLUSTERERS.load("kmeans") is KMeans


@pytest.mark.parametrize(
    ("features", "k", "seed", "message"),
    [
        (np.zeros((5, 2)), 12, 0, "cannot make 12 clusters of 5 images"),
        (np.zeros((5, 2)), 0, 0, "k, the number of clusters, must be a whole number of at least 1, not 0"),
        (np.zeros((5, 2)), -3, 0, "not -3"),
        (np.zeros((5, 2)), 2.5, 0, "not 2.5"),
        (np.zeros((5, 2)), True, 0, "not True"),
        (np.zeros(5), 2, 0, r"matrix with one row per image \(N, D\), not of shape \(5,\)"),
        (np.zeros((0, 3)), 1, 0, "matrix"),
        (np.zeros((3, 0)), 1, 0, "matrix"),
        (np.zeros((2, 2, 2)), 1, 0, "matrix"),
        (
            np.array([[0.0], [np.nan], [np.inf]]),
            1,
            0,
            "2 of 3 images have NaN, infinite or huge .* image 1 first",
        ),
        (np.array([[0.0], [1e300]]), 1, 0, "1 of 2 images"),
        (np.array([[0.0], [1e20]]), 1, 0, "1 of 2 images"),
        (np.zeros((5, 2)), 2, -1, "seed must be a whole number from 0 to 4294967295, not -1"),
        (np.zeros((5, 2)), 2, 2**32, "not 4294967296"),
    ],
)
def test_clear_refusals(features, k, seed, message):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=message):
            KMeans().fit(features, k, seed)


def test_predict_refuses_other_features():
    fitted = KMeans().fit(blobs(20, 4), 2, 0)
    with pytest.raises(InputError, match="features have 3 dimensions, the fitted features 4"):
        fitted.predict(np.zeros((5, 3)))
    with pytest.raises(InputError, match="NaN"):
        fitted.predict(np.full((5, 4), np.nan))


@pytest.mark.parametrize("features", [[["a", "b"]], np.ones((3, 2), complex), [[None, 1]]])
def test_features_that_are_no_numbers(features):
    with pytest.raises(InputTypeError, match="features must be real numbers"):
        KMeans().fit(features, 1, 0)


def test_no_workers():
    with pytest.raises(InputError, match="workers must be at least 1, not 0"):
        KMeans(workers=0)


def test_other_devices():
    with pytest.raises(InputError, match="runs on the devices cpu and cuda, not 'tpu'"):
        KMeans(device="tpu")


@pytest.mark.parametrize("options", [{"max_iter": 0}, {"tol": -1.0}, {"tol": float("nan")}])
def test_options_out_of_range(options):
    with pytest.raises(InputError, match="k-means needs max_iter >= 1 and tol >= 0"):
        KMeans(**options)
