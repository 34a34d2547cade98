"""The matrix products that k-means runs as on a GPU, also on the CPU, against the compiled kernels."""

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from shiftbench.clustering import lloyd_torch
from shiftbench.clustering.kmeans import KMeans
from shiftbench.clustering.lloyd import lloyd, plus_plus
from shiftbench.clustering.spherical import SphericalKMeans
from shiftbench.errors import InputError, InputTypeError


def blobs(n=900, d=24, k=8, spread=1.5, seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(k, d))
    return (centers[rng.integers(k, size=n)] + spread * rng.normal(size=(n, d)) + offset).astype(np.float32)


def fit(features, k, seeds, device, unit=False, max_iter=300, tol=1e-4):
    return lloyd_torch.fit_seeds(features, k, seeds, str(device), max_iter, tol, unit)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("kind", [KMeans, SphericalKMeans])
def test_the_compiled_kernels_find_the_same(device, kind, offset):
    if kind is SphericalKMeans and offset:
        pytest.skip("far from the origin all directions are one")
    features = blobs(offset=offset)
    expected = kind().fit_seeds(features, 8, range(5))
    for one, (labels, centers, inertia, n_iter) in zip(
        expected, fit(torch.from_numpy(features), 8, range(5), device, kind.unit), strict=True
    ):
        assert labels.dtype == np.int64
        assert centers.dtype == np.float32
        assert adjusted_rand_score(one.labels, labels) >= 0.999
        assert inertia == pytest.approx(one.inertia, rel=1e-4)
        assert abs(n_iter - one.n_iter) <= 1


def test_the_start_is_the_same(device):
    features = blobs(500)
    points = torch.from_numpy(features - features.mean(axis=0)).to(device)
    found = lloyd_torch._plus_plus(points, 8, range(10)).cpu().numpy()
    np.testing.assert_array_equal(found, plus_plus(features, 8, range(10)))


def test_the_last_image_may_start_a_cluster(device):
    points = torch.zeros(6, 2, device=device)
    points[5] = 10
    for rows in lloyd_torch._plus_plus(points, 2, range(8)).tolist():
        assert 5 in rows


@pytest.mark.parametrize("tol", [0.01, 0.3])
def test_it_stops_where_the_centers_hardly_move(device, tol):
    features = blobs(5000, spread=3)
    to_the_end = KMeans(tol=0).fit(features, 8, 0)
    for one, (_, _, _, n_iter) in zip(
        KMeans(tol=tol).fit_seeds(features, 8, range(4)), fit(features, 8, range(4), device, tol=tol), strict=True
    ):
        assert abs(n_iter - one.n_iter) <= 1
        assert n_iter + 1 < to_the_end.n_iter


def test_whatever_is_made_on_the_way_is_on_the_device_of_the_features():
    """A tensor that is made without saying where lands on another device here, and cannot meet the features."""
    features = torch.from_numpy(blobs())
    expected = fit(features, 8, [0, 1], "cpu", tol=0)
    with torch.device("meta"):
        found = fit(features, 8, [0, 1], "cpu", tol=0)
        labels = lloyd_torch.assign(features, expected[0][1], False)
    np.testing.assert_array_equal(found[1][0], expected[1][0])
    np.testing.assert_array_equal(labels, expected[0][0])


def test_from_the_same_centers(device):
    features = blobs(5000, spread=3)
    features -= features.mean(axis=0)
    start = features[plus_plus(features, 8, range(4))]
    expected, labels, _ = lloyd(features, start, 300, 0.0)
    points = torch.from_numpy(features).to(device)
    centers, _ = lloyd_torch._lloyd(points, torch.from_numpy(start).to(device), 300, 0.0, False)
    found = np.concatenate([label.cpu().numpy() for _, label, _ in lloyd_torch._assignments(points, centers)], axis=1)
    assert (found == labels).mean() >= 0.999
    np.testing.assert_allclose(centers.cpu().numpy(), expected, atol=5e-3)
    for one, other in zip(labels, found, strict=True):
        assert adjusted_rand_score(one, other) >= 0.999


def test_chunks_change_nothing(device, monkeypatch):
    features = blobs(700)
    whole = fit(features, 6, range(3), device)
    monkeypatch.setattr(lloyd_torch, "_ROWS", 64)
    for (labels, _, inertia, _), (chunked, _, again, _) in zip(whole, fit(features, 6, range(3), device), strict=True):
        np.testing.assert_array_equal(labels, chunked)
        assert again == pytest.approx(inertia, rel=1e-6)


def test_empty_clusters_are_filled(device):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(40, 3)).astype(np.float32)
    start = np.concatenate([points[None, :4], points[None, :4] + np.float32([0, 50, 60, 70])[:, None]])
    expected, _, _ = lloyd(points, start, 300, 0.0)
    centers, _ = lloyd_torch._lloyd(
        torch.from_numpy(points).to(device), torch.from_numpy(start).to(device), 300, 0.0, False
    )
    np.testing.assert_allclose(centers.cpu().numpy(), expected, atol=1e-4)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 1), (2, 2), (30, 30), (30, 1)])
def test_smallest_cases(device, n, k):
    [(labels, centers, inertia, _)] = fit(blobs(n), k, [0], device)
    assert len(np.unique(labels)) == k
    assert centers.shape == (k, 24)
    if n == k:
        assert inertia == pytest.approx(0, abs=1e-8)


def test_constant_and_repeated_features(device):
    [(labels, _, inertia, _)] = fit(np.full((50, 7), 0.1), 4, [0], device)
    assert adjusted_rand_score(labels, np.zeros(50)) == 1
    assert inertia == pytest.approx(0, abs=1e-6)
    repeated = np.repeat(blobs(3), 20, axis=0)
    for labels, *_ in fit(repeated, 8, range(4), device):
        assert adjusted_rand_score(np.repeat(range(3), 20), labels) == 1


def test_predict(device):
    features = blobs()
    for kind in (KMeans, SphericalKMeans):
        fitted = kind().fit(features, 8, 0)
        tensor = torch.from_numpy(features).to(device)
        np.testing.assert_array_equal(lloyd_torch.assign(tensor, fitted.centers, kind.unit), fitted.labels)
        np.testing.assert_array_equal(fitted.predict(tensor), fitted.labels)
        np.testing.assert_array_equal(fitted.predict(tensor.double()), fitted.labels)


def test_tensors_are_clustered_where_they_are(device):
    features = blobs()
    expected = KMeans().fit(features, 8, 3)
    fitted = KMeans().fit(torch.from_numpy(features).to(device), 8, 3)
    assert adjusted_rand_score(expected.labels, fitted.labels) >= 0.999
    assert isinstance(fitted.labels, np.ndarray)
    forced = KMeans(device=device.type).fit(features, 8, 3)
    np.testing.assert_array_equal(fitted.labels, forced.labels)


def test_precision_of_products_is_the_users_again(device):
    torch.set_float32_matmul_precision("high")
    try:
        fit(blobs(50), 3, [0], device)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(
    ("features", "k", "error", "message"),
    [
        (torch.zeros(5), 1, InputError, r"matrix with one row per image \(N, D\), not of shape \(5,\)"),
        (torch.tensor([[0.0], [torch.nan]]), 1, InputError, "1 of 2 images have NaN.* image 1 first"),
        (torch.tensor([[0.0], [1e30]]), 1, InputError, "1 of 2 images"),
        (torch.zeros(5, 2), 6, InputError, "cannot make 6 clusters of 5 images"),
        (torch.zeros(5, 2, dtype=torch.complex64), 1, InputTypeError, "must be real numbers"),
    ],
)
def test_refusals(device, features, k, error, message):
    with pytest.raises(error, match=message):
        fit(features.to(device), k, [0], device)


def test_predict_refuses_another_dimension(device):
    fitted = KMeans().fit(blobs(), 4, 0)
    with pytest.raises(InputError, match="features have 3 dimensions, the fitted features 24"):
        lloyd_torch.assign(torch.zeros(5, 3, device=device), fitted.centers, False)
