"""What every registered clusterer does."""

import re
import tracemalloc
import warnings
from importlib import resources

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from shiftbench.clustering.base import Clusterer
from shiftbench.clustering.library import LibraryClusterer
from shiftbench.errors import InputError
from shiftbench.registry import CLUSTERERS
from shiftbench.runtime.parallel import parallel_map

FEATURES = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
FINDS_K_ITSELF = {"hdbscan"}
MOVES_FITTED_IMAGES = {"ward"}  # the nearest centroid is another cluster's for some of them


def blobs(n=200, d=8, k=4, seed=0, spread=0.3):
    """Overlapping for a spread of 3; the classes and their centers are the same for any seed."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(k, size=n)
    return (10 * np.eye(k, d)[truth] + spread * rng.normal(size=(n, d)) + 1).astype(np.float32), truth


@pytest.fixture(params=list(CLUSTERERS))
def name(request) -> str:
    return request.param


@pytest.fixture
def clusterer(name) -> Clusterer:
    return CLUSTERERS.load(name)()


def test_shapes_and_types(clusterer, name):
    fitted = clusterer.fit(FEATURES, 4, 0)
    assert fitted.labels.shape == (60,)
    assert fitted.labels.dtype == np.int64
    found = len(fitted.centers)
    assert found == 4 or (name in FINDS_K_ITSELF and found <= 4)
    assert set(fitted.labels) - {-1} == set(range(found))
    assert name in FINDS_K_ITSELF or -1 not in fitted.labels
    assert fitted.centers.shape == (found, 6)
    assert fitted.centers.dtype == np.float32
    assert fitted.inertia >= 0
    assert isinstance(fitted.note, str)
    predicted = fitted.predict(FEATURES[:7])
    assert predicted.dtype == np.int64
    assert predicted.shape == (7,)


def test_equal_seeds_give_equal_partitions(clusterer):
    seeds = [3, 0, 3]
    fitted = clusterer.fit_seeds(FEATURES, 4, seeds)
    for seed, one in zip(seeds, fitted, strict=True):
        np.testing.assert_array_equal(one.labels, clusterer.fit(FEATURES, 4, seed).labels)


def test_only_what_is_seeded_depends_on_the_seed(clusterer):
    features, _ = blobs(spread=3.0)
    partitions = [one.labels for one in clusterer.fit_seeds(features, 7, range(8))]
    assert (len(np.unique(partitions, axis=0)) > 1) == clusterer.seeded


def test_same_partition_on_any_number_of_threads(clusterer):
    sets = [blobs(seed=seed, spread=3.0)[0] for seed in range(4)]
    one, three = (parallel_map(lambda x: clusterer.fit(x, 5, 1).labels, sets, workers) for workers in (1, 3))
    np.testing.assert_array_equal(one, three)


def test_groups_far_apart_are_found_and_recognised(clusterer):
    features, truth = blobs()
    fitted = clusterer.fit(features, 4, 0)
    assert adjusted_rand_score(truth, fitted.labels) == 1
    others, classes = blobs(seed=1)
    class_of = np.array([truth[fitted.labels == cluster][0] for cluster in range(4)])
    np.testing.assert_array_equal(class_of[fitted.predict(others)], classes)


def test_fitted_images_are_assigned_as_they_were(clusterer, name):
    features, _ = blobs(spread=3.0)
    fitted = clusterer.fit(features, 5, 0)
    same = (fitted.predict(features) == fitted.labels).mean()
    assert same >= 0.7 if name in MOVES_FITTED_IMAGES else same == 1


def test_centers_are_means_and_inertia_is_of_them(clusterer, name):
    features, _ = blobs(spread=1.0)
    if name == "spherical":
        features /= np.linalg.norm(features, axis=1, keepdims=True)
    fitted = clusterer.fit(features, 4, 0)
    means = np.array([features[fitted.labels == cluster].mean(axis=0) for cluster in range(len(fitted.centers))])
    if name == "spherical":
        means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(fitted.centers, means, atol=1e-4)
    inside = fitted.labels >= 0
    distances = np.square(features[inside] - means[fitted.labels[inside]]).sum()
    assert fitted.inertia == pytest.approx(distances, rel=1e-4)


@pytest.mark.parametrize("scale", [2.0**-20, 2.0**20])
def test_units_do_not_matter(clusterer, scale):
    features, _ = blobs(spread=3.0)
    fitted, scaled = clusterer.fit(features, 5, 0), clusterer.fit(scale * features, 5, 0)
    np.testing.assert_array_equal(fitted.labels, scaled.labels)
    np.testing.assert_array_equal(fitted.predict(features), scaled.predict(scale * features))


def test_one_cluster(clusterer, name):
    fitted = clusterer.fit(FEATURES, 1, 0)
    np.testing.assert_array_equal(fitted.labels, 0)
    np.testing.assert_array_equal(fitted.predict(FEATURES + 1), 0)


@pytest.mark.parametrize("n", [1, 2, 9])
def test_as_many_clusters_as_images(clusterer, n):
    fitted = clusterer.fit(FEATURES[:n], n, 0)
    np.testing.assert_array_equal(np.sort(fitted.labels), np.arange(n))
    np.testing.assert_array_equal(fitted.predict(FEATURES[:n]), fitted.labels)


@pytest.mark.parametrize(("n", "k"), [(3, 2), (4, 2), (4, 3), (12, 11)])
def test_nearly_as_many_clusters_as_images(clusterer, n, k):
    fitted = clusterer.fit(FEATURES[:n], k, 0)
    assert set(fitted.labels) <= set(range(-1, k))
    assert set(fitted.predict(FEATURES)) <= set(range(-1, k))


def test_two_images_in_one_cluster(clusterer):
    np.testing.assert_array_equal(clusterer.fit(FEATURES[:2], 1, 0).labels, 0)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e4])
def test_constant_features(clusterer, value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = clusterer.fit(np.full((50, 7), value), 4, 0)
    np.testing.assert_array_equal(fitted.labels, fitted.labels[0])
    assert fitted.inertia == pytest.approx(0, abs=1e-6)
    np.testing.assert_array_equal(fitted.predict(np.full((3, 7), value)), fitted.labels[:3])


def test_fewer_distinct_images_than_clusters(clusterer):
    features = np.repeat(FEATURES[:3], 20, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = clusterer.fit(features, 8, 0)
    assert adjusted_rand_score(np.repeat(range(3), 20), fitted.labels) == 1


def test_duplicates_stay_together(clusterer):
    features = np.concatenate([blobs(spread=2.0)[0]] * 2)
    labels = clusterer.fit(features, 5, 0).labels
    assert (labels[:200] == labels[200:]).mean() > 0.99


def test_features_of_any_real_type(clusterer):
    features = blobs(spread=2.0)[0].astype(np.float16)
    expected = clusterer.fit(features.astype(np.float32), 4, 0)
    for other in (features, features.astype(np.float64), features.astype(np.float32)[:, ::-1][:, ::-1]):
        np.testing.assert_array_equal(clusterer.fit(other, 4, 0).labels, expected.labels)
        np.testing.assert_array_equal(expected.predict(other), expected.predict(features))


def test_features_are_left_alone(clusterer):
    features = blobs()[0]
    before = features.copy()
    features.flags.writeable = False
    clusterer.fit(features, 3, 0).predict(features)
    np.testing.assert_array_equal(features, before)


@pytest.mark.parametrize(
    ("features", "k", "seed", "message"),
    [
        (FEATURES[:5], 12, 0, "cannot make 12 clusters of 5 images"),
        (FEATURES, 0, 0, "k, the number of clusters, must be a whole number of at least 1, not 0"),
        (np.full((5, 2), np.nan), 2, 0, "5 of 5 images have NaN"),
        (np.zeros(5), 1, 0, "matrix with one row per image"),
        (FEATURES, 2, -1, "a seed must be a whole number from 0"),
    ],
)
def test_clear_refusals(clusterer, features, k, seed, message):
    with pytest.raises(InputError, match=message):
        clusterer.fit(features, k, seed)


def test_predict_refuses_other_features(clusterer):
    fitted = clusterer.fit(FEATURES, 3, 0)
    with pytest.raises(InputError, match="features have 5 dimensions, the fitted features 6"):
        fitted.predict(FEATURES[:, :5])
    with pytest.raises(InputError, match="NaN"):
        fitted.predict(np.full((2, 6), np.nan))


LIMITED = [name for name in CLUSTERERS if CLUSTERERS.load(name).limit is not None]


@pytest.fixture(params=LIMITED)
def limited(request, monkeypatch) -> Clusterer:
    kind = CLUSTERERS.load(request.param)
    monkeypatch.setattr(kind, "limit", 120)
    return kind()


def test_above_the_limit_a_subsample_is_fitted(limited):
    features, truth = blobs(400)
    fitted = limited.fit(features, 4, 5)
    assert adjusted_rand_score(truth, fitted.labels) == 1
    assert fitted.note.startswith("fitted to 120 of 400 images, drawn with the seed; the rest by ")
    rows = np.sort(np.random.default_rng(5).choice(400, 120, replace=False))
    np.testing.assert_array_equal(limited.fit(features[rows], 4, 5).labels, fitted.labels[rows])


def test_the_seed_draws_the_subsample(limited):
    features, _ = blobs(400, spread=3.0)
    first, second, again = limited.fit_seeds(features, 4, [0, 1, 0])
    assert (first.labels != second.labels).any()
    np.testing.assert_array_equal(first.labels, again.labels)


def test_a_configuration_names_the_limit_that_there_is(clusterer, name):
    text = (resources.files("shiftbench.configs") / "clustering" / f"{name}.yaml").read_text(encoding="utf-8")
    for named in re.findall(r"above ([\d,]+) images", text):
        assert clusterer.limit == int(named.replace(",", ""))


def test_more_clusters_than_the_limit(limited):
    with pytest.raises(InputError, match="at most 120 of the 400 images, which cannot make 121 clusters"):
        limited.fit(blobs(400)[0], 121, 0)


def test_at_the_limit_all_are_fitted(limited):
    assert "120 of" not in limited.fit(blobs(120)[0], 4, 0).note


def test_memory_that_grows_faster_than_n_has_a_limit(name, clusterer):
    """Twice the images take twice the memory, or there is a most that is fitted."""

    def peak(n):
        features = blobs(n)[0]
        tracemalloc.start()
        try:
            clusterer.fit(features, 4, 0)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    if clusterer.limit is None:
        peak(500)  # the first call compiles
        assert peak(3000) < 3 * peak(1500)


def test_the_note_says_how_further_images_are_assigned(name, clusterer):
    note = clusterer.fit(FEATURES, 4, 0).note
    own = not isinstance(clusterer, LibraryClusterer) or clusterer.assigns == "its own rule"
    assert ("further images by" in note) == (not own)


def test_own_clusterers_get_fit_seeds_from_the_contract():
    class Halves(Clusterer):
        def fit(self, features, k, seed):
            return seed

    assert Halves().fit_seeds(FEATURES, 2, [4, 5]) == [4, 5]
    assert Halves.seeded
    assert Halves.limit is None
