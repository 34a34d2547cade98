"""What single algorithms from the libraries do beyond the contract, against the libraries themselves."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist
from sklearn.cluster import HDBSCAN as SklearnHDBSCAN
from sklearn.cluster import AgglomerativeClustering, SpectralClustering
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture as Mixture

from shiftbench.clustering.birch import Birch
from shiftbench.clustering.density import HDBSCAN
from shiftbench.clustering.hierarchical import Average, Ward, _cut, distances
from shiftbench.clustering.library import LibraryClusterer, label_by_rows, nearest_centroid, nearest_row
from shiftbench.clustering.mixture import GaussianMixture
from shiftbench.clustering.spectral import Spectral
from shiftbench.errors import InputError

DIGITS, CLASSES = (array[:600] for array in load_digits(return_X_y=True))


@pytest.mark.parametrize("kind", [Ward, Average])
def test_the_tree_is_that_of_scikit_learn(kind):
    for k in (2, 10, 57):
        expected = AgglomerativeClustering(k, linkage=kind.__name__.lower()).fit_predict(DIGITS)
        assert adjusted_rand_score(expected, kind().fit(DIGITS, k, 0).labels) == 1


def test_distances_of_all_pairs():
    points = np.random.default_rng(0).normal(size=(1100, 5)).astype(np.float32)
    np.testing.assert_allclose(distances(points), pdist(points.astype(float)), atol=1e-6)


def test_a_tree_with_ties_is_cut_into_exactly_k():
    grid = np.stack(np.meshgrid(np.arange(6.0), np.arange(6.0)), axis=-1).reshape(-1, 2)
    merges = linkage(grid, "average")
    for k in range(1, 37):
        np.testing.assert_array_equal(np.unique(_cut(merges, k)), np.arange(k))


def test_mixture_is_that_of_scikit_learn():
    expected = Mixture(10, covariance_type="full", reg_covar=36.0, random_state=1, max_iter=200)
    found = GaussianMixture(covariance="full", floor=36.0 / (DIGITS - DIGITS.mean(axis=0)).var()).fit(DIGITS, 10, 1)
    assert adjusted_rand_score(expected.fit_predict(DIGITS), found.labels) > 0.95


def test_an_unfinished_mixture_says_so():
    assert "EM stopped unfinished after 1 iterations" in GaussianMixture(max_iter=1).fit(DIGITS, 10, 0).note


def test_unknown_covariance():
    with pytest.raises(InputError, match=r"Unknown covariance 'round'\. Available: diag"):
        GaussianMixture(covariance="round")


def test_spectral_is_that_of_scikit_learn():
    expected = SpectralClustering(10, affinity="nearest_neighbors", random_state=0).fit_predict(DIGITS)
    assert adjusted_rand_score(expected, Spectral().fit(DIGITS, 10, 0).labels) > 0.95


def test_density_is_that_of_scikit_learn_with_at_most_k_clusters():
    features = DIGITS + 0.1 * np.random.default_rng(0).normal(
        size=DIGITS.shape
    )  # whole numbers have many equal distances
    expected = SklearnHDBSCAN(min_cluster_size=12, min_samples=5, copy=True).fit_predict(features)
    fitted = HDBSCAN().fit(features, 10, 0)
    found = len(fitted.centers)
    assert 2 <= found <= 10
    assert f"{found} clusters found, {(fitted.labels < 0).mean():.0%} of the fitted images are noise" in fitted.note
    largest = np.argsort(-np.bincount(expected[expected >= 0]), kind="stable")[:10]
    expected[~np.isin(expected, largest)] = -1
    assert adjusted_rand_score(expected, fitted.labels) == 1
    np.testing.assert_array_equal(expected < 0, fitted.labels < 0)


def test_density_keeps_the_largest_when_there_are_more_than_k():
    rng = np.random.default_rng(0)
    truth = np.repeat(range(5), [90, 80, 70, 60, 50])
    features = 20 * np.eye(5)[truth] + rng.normal(size=(350, 5))
    fitted = HDBSCAN().fit(features, 3, 0)
    assert len(fitted.centers) == 3
    np.testing.assert_array_equal(fitted.labels < 0, truth >= 3)
    assert fitted.predict(20 * np.eye(5))[3:].tolist() == [-1, -1]


def test_all_noise():
    fitted = HDBSCAN(smallest=1.0).fit(np.random.default_rng(0).normal(size=(60, 20)), 2, 0)
    np.testing.assert_array_equal(fitted.labels, -1)
    assert fitted.centers.shape == (0, 20)
    assert fitted.inertia == 0
    np.testing.assert_array_equal(fitted.predict(np.zeros((3, 20))), -1)


def test_birch_has_enough_subclusters_and_not_too_many():
    fitted = Birch(subclusters=50).fit(DIGITS, 10, 0)
    assert len(fitted.centers) == 10
    assert adjusted_rand_score(CLASSES, fitted.labels) > 0.3
    tight = 100 * np.eye(3)[np.arange(300) % 3] + np.random.default_rng(0).normal(size=(300, 3))
    assert len(Birch().fit(tight, 20, 0).centers) == 20


class Halves(LibraryClusterer):
    """Labels the images that it is fitted to 0, 1, 0, 1, ... and puts all others into cluster 0."""

    limit = 50

    def _fit(self, points, k, seed):
        self.points = points
        return np.arange(len(points)) % 2, lambda others: np.zeros(len(others), np.int64), ""


def test_above_the_limit_fitted_images_keep_the_labels_of_the_fit():
    features = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    clusterer = Halves()
    fitted = clusterer.fit(features, 2, 0)
    assert np.bincount(fitted.labels).tolist() == [175, 25]
    np.testing.assert_array_equal(fitted.standard(features[fitted.labels == 1]), clusterer.points[1::2])
    assert len(fitted.centers) == 2


def test_centers_of_many_images_far_from_the_origin_are_exact():
    """Sums of 100,000 values of 1,000 leave nothing of their digits in float32."""
    features = (1000 + np.random.default_rng(0).normal(size=(100_000, 2))).astype(np.float32)
    fitted = Halves().fit(features, 2, 0)
    means = [features[fitted.labels == cluster].astype(np.float64).mean(axis=0) for cluster in range(2)]
    np.testing.assert_allclose(fitted.centers, means, atol=1e-4)


def test_nearest_row_and_centroid():
    points = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    rows, ids = points[:5] + 0.1, np.array([4, 2, 2, 0, 1])
    nearest = np.square(points[:, None] - rows).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest_row(rows, ids)(points), ids[nearest])
    labels = np.arange(50) % 4
    means = np.array([points[labels == cluster].mean(axis=0) for cluster in range(4)])
    expected = np.square(points[:, None] - means).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest_centroid(points, labels)(points), expected)


def test_an_id_that_nobody_gets_is_left_out():
    points = np.array([[0.0], [1.0], [10.0]], np.float32)
    labels, rule = label_by_rows(points, np.array([[0.5], [50.0], [10.0]], np.float32), np.array([0, 1, 2]))
    assert labels.tolist() == [0, 0, 1]
    assert rule(np.array([[0.0], [60.0]], np.float32)).tolist() == [0, 1]
