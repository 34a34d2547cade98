import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from shiftbench.clustering.spherical import SphericalKMeans


def directions(n=600, d=12, k=5, seed=0, spread=0.3):
    rng = np.random.default_rng(seed)
    truth = rng.integers(k, size=n)
    axes = np.linalg.qr(rng.normal(size=(d, d)))[0][truth]
    return ((axes + spread * rng.normal(size=(n, d))) * rng.lognormal(sigma=2, size=(n, 1))).astype(np.float32), truth


def spherical_in_float64(features, centers):
    """Plain alternation: the center with the largest cosine, and the mean brought to length one."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True).astype(np.float64)
    centers = centers.astype(np.float64)
    labels = np.full(len(unit), -1)
    while ((found := (unit @ centers.T).argmax(axis=1)) != labels).any():
        labels = found
        means = np.array([unit[labels == cluster].mean(axis=0) for cluster in range(len(centers))])
        centers = means / np.linalg.norm(means, axis=1, keepdims=True)
    return labels, (unit * centers[labels]).sum()


def test_directions_are_found_whatever_the_lengths():
    features, truth = directions(spread=0.1)
    best = min(SphericalKMeans().fit_seeds(features, 5, range(4)), key=lambda one: one.inertia)
    assert adjusted_rand_score(truth, best.labels) == 1


def test_a_fixed_point_of_the_plain_algorithm():
    features, _ = directions(spread=0.5)
    for fitted in SphericalKMeans(tol=0).fit_seeds(features, 5, range(4)):
        labels, cosines = spherical_in_float64(features, fitted.centers)
        np.testing.assert_array_equal(fitted.labels, labels)
        assert fitted.inertia == pytest.approx(2 * len(features) - 2 * cosines, rel=1e-4)


def test_lengths_do_not_matter():
    features, _ = directions()
    longer = features * np.random.default_rng(1).lognormal(sigma=3, size=(len(features), 1)).astype(np.float32)
    fitted = SphericalKMeans().fit(features, 5, 0)
    np.testing.assert_array_equal(fitted.predict(longer), fitted.labels)
    np.testing.assert_allclose(np.linalg.norm(fitted.centers, axis=1), 1, atol=1e-6)
    assert adjusted_rand_score(fitted.labels, SphericalKMeans().fit(longer, 5, 0).labels) > 0.99


def test_images_without_a_direction():
    features, _ = directions(spread=0.1)
    features[:3] = 0
    fitted = SphericalKMeans().fit(features, 5, 0)
    assert np.isfinite(fitted.centers).all()
    np.testing.assert_array_equal(fitted.labels[:3], fitted.labels[0])


def test_opposite_directions_in_one_cluster_keep_its_center():
    fitted = SphericalKMeans().fit([[1.0, 0.0], [-1.0, 0.0]], 1, 0)
    assert np.linalg.norm(fitted.centers[0]) == pytest.approx(1)
    np.testing.assert_array_equal(fitted.labels, 0)
