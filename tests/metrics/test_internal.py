"""Label-free quantities against scikit-learn, scipy and plain loops."""

import math

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import silhouette_score

from shiftbench.errors import InputError
from shiftbench.metrics.internal import FrechetReference, collapsed, drift, entropy, silhouette

RNG = np.random.default_rng(0)
TRUE = RNG.integers(4, size=300)
CENTRES = 3 * RNG.normal(size=(4, 6))
FEATURES = (CENTRES[TRUE] + RNG.normal(size=(300, 6))).astype(np.float32)


def test_silhouette_as_scikit_learn():
    for offset in (0, 1000):  # far from 0, squared distances would cancel
        assert silhouette(FEATURES + offset, TRUE) == pytest.approx(
            silhouette_score(FEATURES, TRUE), abs=2e-3 if offset else 1e-5
        )


def test_silhouette_of_many_partitions_at_once():
    partitions = np.stack([TRUE, RNG.integers(3, size=300), np.roll(TRUE, 1)])
    expected = [silhouette_score(FEATURES, one) for one in partitions]
    np.testing.assert_allclose(silhouette(FEATURES, partitions), expected, atol=1e-5)
    found = silhouette(FEATURES, partitions.reshape(3, 1, 300))
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-5)


def test_silhouette_of_a_seeded_sample():
    found = silhouette(FEATURES, TRUE, limit=80, seed=3)
    assert found == silhouette(FEATURES, TRUE, limit=80, seed=3)
    assert found != silhouette(FEATURES, TRUE, limit=80, seed=4)
    assert found == pytest.approx(silhouette_score(FEATURES, TRUE), abs=0.1)


def test_silhouette_leaves_noise_out():
    noisy = np.where(np.arange(300) % 5 == 0, -1, TRUE)
    clustered = noisy >= 0
    expected = silhouette_score(FEATURES[clustered], TRUE[clustered])
    assert silhouette(FEATURES, noisy) == pytest.approx(expected, abs=1e-5)


def test_silhouette_of_loners_and_copies():
    alone = np.array([0] * 150 + [1] * 149 + [2])
    assert silhouette(FEATURES, alone) == pytest.approx(silhouette_score(FEATURES, alone), abs=1e-5)
    assert silhouette(np.ones((6, 2)), [0, 0, 0, 1, 1, 1]) == 0


@pytest.mark.parametrize("labels", [np.zeros(300, int), np.arange(300), np.full(300, -1)])
def test_silhouette_needs_clusters(labels):
    assert math.isnan(silhouette(FEATURES, labels))


def test_entropy_as_scipy():
    sizes = np.array([5, 1, 0, 14])
    labels = np.repeat(np.arange(4), sizes)
    assert entropy(labels, 4) == pytest.approx(scipy_entropy(sizes) / math.log(4))
    assert entropy(np.append(labels, [-1, -1]), 4) == pytest.approx(entropy(labels, 4))  # noise is in none
    assert entropy(np.arange(40) % 8, 8) == pytest.approx(1)
    assert entropy(np.full(40, 3), 8) == 0
    assert math.isnan(entropy([0, 0], 1))
    assert math.isnan(entropy([-1, -1], 3))


def test_collapsed_counts_small_clusters():
    labels = np.repeat([0, 1, 2, 3], [70, 25, 3, 2])  # an equal share of 5 clusters is 20, a tenth of it 2
    assert collapsed(labels, 5) == 1
    assert collapsed(labels, 5, share=0.12) == 2
    assert collapsed(labels, 5, share=1) == 3
    assert collapsed(np.arange(50) % 5, 5, share=1) == 0
    assert collapsed([-1] * 50, 5) == 5


def test_drift_by_hand():
    centers = np.array([[0.0, 0], [4, 0]])  # 2 from their mean
    features = np.array([[0.0, 3], [0, 5], [4, 1], [9, 9]])
    # Ways of 4 (two images) and 1 (one image); the last image is noise.
    assert drift(centers, features, [0, 0, 1, -1]) == pytest.approx((2 * 4 + 1) / 3 / 2)


def test_drift_properties():
    centers = np.array([FEATURES[k == TRUE].mean(axis=0) for k in range(4)])
    assert drift(centers, FEATURES, TRUE) == pytest.approx(0, abs=1e-6)
    moved = drift(centers, FEATURES + 1, TRUE)
    spread = math.sqrt(np.square(centers - centers.mean(axis=0)).sum(axis=1).mean())
    assert moved == pytest.approx(math.sqrt(6) / spread, rel=1e-5)
    assert drift(7 * centers, 7 * (FEATURES + 1), TRUE) == pytest.approx(moved, rel=1e-5)  # no unit
    empty = np.vstack([centers, centers.mean(axis=0)])
    assert math.isfinite(drift(empty, FEATURES, TRUE))
    assert math.isnan(drift(np.ones((3, 6)), FEATURES, np.minimum(TRUE, 2)))
    assert math.isnan(drift(centers, FEATURES, np.full(300, -1)))


def frechet(a, b):
    """The definition, with scipy's matrix root."""
    one, two = np.cov(a.T), np.cov(b.T)
    way = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return (way + np.trace(one + two - 2 * sqrtm(one @ two).real)) / np.trace(one)


@pytest.mark.parametrize("offset", [0, 300])
def test_frechet_by_its_definition(offset):
    clean = RNG.normal(size=(500, 5)) @ RNG.normal(size=(5, 5)) + offset
    shifted = RNG.normal(size=(400, 5)) @ RNG.normal(size=(5, 5)) + 1 + offset
    reference = FrechetReference(clean)
    assert reference.distance(shifted) == pytest.approx(frechet(clean, shifted), rel=1e-4)
    assert reference.distance(clean) == pytest.approx(0, abs=1e-6)


def test_frechet_of_a_move_and_of_a_scale():
    clean = FEATURES
    variance = np.cov(clean.T).trace()
    assert FrechetReference(clean).distance(clean + 2) == pytest.approx(4 * 6 / variance, rel=1e-4)
    twice = clean.mean(axis=0) + 2 * (clean - clean.mean(axis=0))
    assert FrechetReference(clean).distance(twice) == pytest.approx(1, rel=1e-4)
    assert FrechetReference(9 * clean).distance(9 * twice) == pytest.approx(1, rel=1e-4)


def test_frechet_on_leading_axes():
    """Features that vary along few axes lose nothing, and what leaves these axes is not seen."""
    few, turn = RNG.normal(size=(600, 3)), np.linalg.qr(RNG.normal(size=(40, 40)))[0]
    clean, shifted = few @ turn[:3], (few * [1, 2, 0.5] + 1) @ turn[:3]
    whole = FrechetReference(clean).distance(shifted)
    reference = FrechetReference(clean, axes=3)
    assert reference.distance(shifted) == pytest.approx(whole, rel=1e-3)
    assert reference.distance(shifted + 5 * turn[7]) == pytest.approx(whole, rel=1e-3)
    assert whole == pytest.approx(frechet(few, few * [1, 2, 0.5] + 1), rel=1e-3)


def test_frechet_of_constant_features():
    assert math.isnan(FrechetReference(np.ones((9, 3))).distance(np.zeros((9, 3))))


def test_large_and_half_precision_features():
    half = FEATURES.astype(np.float16)
    assert silhouette(half, TRUE) == pytest.approx(silhouette(FEATURES, TRUE), abs=1e-3)
    assert FrechetReference(half).distance(half) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: silhouette(np.full((3, 2), np.nan), [0, 1, 1]), "features must be finite; 3 of 3 rows are not"),
        (lambda: silhouette(FEATURES, TRUE[:5]), "same images, not 5 and 300"),
        (lambda: silhouette(FEATURES, TRUE, limit=1), "limit must be at least 2 images, not 1"),
        (lambda: silhouette(FEATURES[0], TRUE), r"features must be a matrix of numbers \(N, D\)"),
        (lambda: silhouette(FEATURES[:0], TRUE[:0]), r"features must be a matrix of numbers .* of shape \(0, 6\)"),
        (lambda: silhouette(FEATURES + 1j, TRUE), "features must be a matrix of numbers .* not complex64"),
        (lambda: silhouette(FEATURES.astype(str), TRUE), "features must be a matrix of numbers"),
        (lambda: FrechetReference(FEATURES).distance(FEATURES[:1]), "at least 2 of 6 dimensions"),
        (lambda: entropy([0, 5], 3), "labels go up to 5, but there are only k=3"),
        (lambda: collapsed([0, 1], 2, share=10), "share must lie between 0 and 1, not 10"),
        (lambda: drift(CENTRES[:, :2], FEATURES, TRUE), "centers have 2 dimensions, features 6"),
        (lambda: drift(CENTRES[:2], FEATURES, TRUE), "labels go up to 3, but there are only k=2"),
        (lambda: FrechetReference(FEATURES[:1]), "at least 2 images"),
        (lambda: FrechetReference(FEATURES).distance(FEATURES[:, :3]), "at least 2 of 6 dimensions"),
    ],
)
def test_clear_refusals(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_distances_are_those_of_scipy():
    """Through the silhouette of two clusters of two, whose distances can be told apart."""
    points = np.array([[0.0, 0], [1, 0], [5, 0], [5, 2]])
    far = cdist(points, points)
    within, between = (
        [far[0, 1], far[0, 1], far[2, 3], far[2, 3]],
        [far[i, j].mean() for i, j in ((0, [2, 3]), (1, [2, 3]), (2, [0, 1]), (3, [0, 1]))],
    )
    expected = np.mean([(b - a) / max(a, b) for a, b in zip(within, between, strict=True)])
    assert silhouette(points, [0, 0, 1, 1]) == pytest.approx(expected, abs=1e-6)
