"""Probes against scikit-learn's classifiers."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeClassifierCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from shiftbench.errors import InputError
from shiftbench.metrics.probes import PROBES, KnnProbe, LinearProbe

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(5, 12))


def blobs(n, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(5, size=n)
    return (CENTRES[labels] + noise * rng.normal(size=(n, 12))).astype(np.float32), labels


FEATURES, LABELS = blobs(600)
OTHERS, _ = blobs(2500, seed=1)


@pytest.mark.parametrize("k", [1, 5, 20])
def test_knn_as_scikit_learn(k):
    reference = KNeighborsClassifier(k, metric="cosine").fit(FEATURES, LABELS)
    found = KnnProbe(k).fit(FEATURES, LABELS).predict(OTHERS)
    assert found.dtype == np.int64
    assert np.mean(found == reference.predict(OTHERS)) > 0.999  # cosines that differ in the last bit


def test_knn_asks_twenty_neighbours_unless_told():
    reference = KNeighborsClassifier(20, metric="cosine").fit(FEATURES, LABELS)
    assert np.mean(KnnProbe().fit(FEATURES, LABELS).predict(OTHERS) == reference.predict(OTHERS)) > 0.999


def test_knn_keeps_at_most_ten_thousand_images():
    """Each image is a class of its own, so that only what was kept is found again."""
    features, classes = np.random.default_rng(0).normal(size=(10_003, 8)), np.arange(10_003)
    assert (KnnProbe(1).fit(features, classes).predict(features) == classes).sum() == 10_000


def test_knn_sees_directions_only():
    probe = KnnProbe().fit(FEATURES, LABELS)
    np.testing.assert_array_equal(probe.predict(OTHERS), probe.predict(1000 * OTHERS))
    probe.predict(np.zeros((3, 12)))  # no direction: any class, but no error


def test_knn_of_fewer_images_than_neighbours():
    assert (KnnProbe(20).fit(FEATURES[:3], [4, 4, 2]).predict(OTHERS[:9]) == 4).all()


def test_knn_does_not_depend_on_blocks():
    probe = KnnProbe().fit(FEATURES, LABELS)
    apart = np.concatenate([probe.predict(part) for part in np.array_split(OTHERS, 7)])
    assert np.mean(probe.predict(OTHERS) == apart) > 0.999


PENALTIES = (1.0, 10.0, 100.0, 1000.0)


def ridge(*steps):
    """Centred, and divided by one number for all dimensions."""
    scale = np.sqrt(FEATURES.var(axis=0).mean())
    return make_pipeline(FunctionTransformer(lambda x: x / scale), StandardScaler(with_std=False), *steps)


def test_linear_as_scikit_learn():
    reference = ridge(RidgeClassifierCV(PENALTIES)).fit(FEATURES, LABELS)
    np.testing.assert_array_equal(LinearProbe().fit(FEATURES, LABELS).predict(OTHERS), reference.predict(OTHERS))


def test_linear_of_many_dimensions_as_scikit_learn_after_pca():
    turn = np.linalg.qr(RNG.normal(size=(60, 60)))[0][:12]
    probe = LinearProbe(dimensions=8).fit(FEATURES @ turn, LABELS)
    scale = np.sqrt((FEATURES @ turn).var(axis=0).mean())
    reference = make_pipeline(
        FunctionTransformer(lambda x: x / scale),
        StandardScaler(with_std=False),
        PCA(8, random_state=0),
        RidgeClassifierCV(PENALTIES),
    ).fit(FEATURES @ turn, LABELS)
    # The components come from a randomised decomposition here and from an exact one there.
    assert np.mean(probe.predict(OTHERS @ turn) == reference.predict(OTHERS @ turn)) > 0.98


def test_linear_of_two_classes_with_gaps_between_ids():
    labels = np.where(LABELS > 2, 7, 3)
    reference = ridge(RidgeClassifierCV(PENALTIES)).fit(FEATURES, labels)
    np.testing.assert_array_equal(LinearProbe().fit(FEATURES, labels).predict(OTHERS), reference.predict(OTHERS))


def test_linear_ignores_units_and_origin():
    plain = LinearProbe().fit(FEATURES, LABELS).predict(OTHERS)
    scaled = LinearProbe().fit(FEATURES * 1000 + 3, LABELS).predict(OTHERS * 1000 + 3)
    assert np.mean(plain == scaled) > 0.999


def test_a_nearly_constant_feature_does_not_drown_the_others():
    tiny = RNG.normal(size=(len(FEATURES), 1)) * 1e-6
    probe = LinearProbe().fit(np.column_stack([FEATURES, tiny]), LABELS)
    shifted = np.column_stack([OTHERS, np.full(len(OTHERS), 0.1)])
    assert np.mean(probe.predict(shifted) == LinearProbe().fit(FEATURES, LABELS).predict(OTHERS)) > 0.99


def test_knn_of_many_dimensions_compares_their_leading_directions():
    turn = np.linalg.qr(RNG.normal(size=(60, 60)))[0][:12]
    whole = KnnProbe().fit(FEATURES @ turn, LABELS).predict(OTHERS @ turn)
    # All of the variance lies in twelve directions.
    cut = KnnProbe(dimensions=12).fit(FEATURES @ turn, LABELS).predict(OTHERS @ turn)
    assert np.mean(whole == cut) > 0.999
    # Neighbours along the three leading ones are others.
    unit, others = (array / np.linalg.norm(array, axis=1, keepdims=True) for array in (FEATURES, OTHERS))
    leading = np.linalg.svd(unit, full_matrices=False)[2][:3].T
    reference = KNeighborsClassifier(20, metric="cosine").fit(unit @ leading, LABELS).predict(others @ leading)
    found = KnnProbe(dimensions=3).fit(FEATURES, LABELS).predict(OTHERS)
    assert np.mean(found == reference) > 0.99 > np.mean(found == whole)


@pytest.mark.parametrize("name", PROBES)
def test_separable_classes_are_found_and_sampling_is_seeded(name):
    clear, labels = blobs(800, noise=0.05)
    probe = PROBES[name](limit=100).fit(clear, labels)
    others, truth = blobs(300, noise=0.05, seed=2)
    assert np.mean(probe.predict(others) == truth) == 1
    noisy, truth = blobs(800, noise=2.0)
    first, again, other = (PROBES[name](limit=50, seed=seed).fit(noisy, truth).predict(OTHERS) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("name", PROBES)
def test_clear_refusals(name):
    probe = PROBES[name]()
    with pytest.raises(InputError, match="same images, not 5 and 600"):
        probe.fit(FEATURES, LABELS[:5])
    with pytest.raises(InputError, match="must be finite"):
        probe.fit(np.where(LABELS[:, None] == 1, np.nan, FEATURES), LABELS)
    with pytest.raises(InputError, match="labels must be ids of 0 or more"):
        probe.fit(FEATURES, LABELS - 1)
    with pytest.raises(InputError, match="fitted on 12 dimensions; these features have 3"):
        probe.fit(FEATURES, LABELS).predict(OTHERS[:, :3])


def test_a_linear_probe_needs_classes():
    with pytest.raises(InputError, match="at least 2 classes"):
        LinearProbe().fit(FEATURES, np.zeros(600, int))
