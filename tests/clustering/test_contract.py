"""What every registered clusterer does."""

import numpy as np
import pytest

from shiftbench.clustering import Clusterer
from shiftbench.errors import InputError
from shiftbench.registry import CLUSTERERS

FEATURES = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)


@pytest.fixture(params=list(CLUSTERERS))
def clusterer(request) -> Clusterer:
    return CLUSTERERS.load(request.param)()


def test_shapes_and_types(clusterer):
    fitted = clusterer.fit(FEATURES, 4, 0)
    assert fitted.labels.shape == (60,)
    assert fitted.labels.dtype == np.int64
    assert set(np.unique(fitted.labels)) <= set(range(4))
    assert fitted.centers.shape == (4, 6)
    assert fitted.centers.dtype == np.float32
    assert fitted.inertia > 0
    predicted = fitted.predict(FEATURES[:7])
    assert predicted.dtype == np.int64
    assert predicted.shape == (7,)


def test_equal_seeds_give_equal_partitions(clusterer):
    seeds = [3, 0, 3]
    fitted = clusterer.fit_seeds(FEATURES, 4, seeds)
    for seed, one in zip(seeds, fitted, strict=True):
        np.testing.assert_array_equal(one.labels, clusterer.fit(FEATURES, 4, seed).labels)


def test_more_clusters_than_images(clusterer):
    with pytest.raises(InputError, match="cannot make 12 clusters of 5 images"):
        clusterer.fit(FEATURES[:5], 12, 0)


def test_own_clusterers_get_fit_seeds_from_the_contract():
    class Halves(Clusterer):
        def fit(self, features, k, seed):
            return seed

    assert Halves().fit_seeds(FEATURES, 2, [4, 5]) == [4, 5]
