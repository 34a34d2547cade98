"""A head's own partition."""

import numpy as np
import pytest

from shiftbench.clustering.argmax import Argmax
from shiftbench.errors import InputError

OUTPUTS = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


def test_it_is_the_largest_output():
    found = Argmax().fit(OUTPUTS, 4, 0)
    assert np.array_equal(found.labels, OUTPUTS.argmax(axis=1))
    assert np.array_equal(found.predict(OUTPUTS[::-1]), found.labels[::-1])
    softmax = np.exp(OUTPUTS) / np.exp(OUTPUTS).sum(axis=1, keepdims=True)
    assert np.array_equal(Argmax().fit(softmax, 4, 7).labels, found.labels)
    for cluster in range(4):
        np.testing.assert_allclose(found.centers[cluster], OUTPUTS[found.labels == cluster].mean(axis=0), rtol=1e-5)
    assert found.inertia == pytest.approx(np.square(OUTPUTS - found.centers[found.labels]).sum(), rel=1e-5)


def test_an_unused_output_is_an_empty_cluster():
    outputs = OUTPUTS.copy()
    outputs[:, 2] = -100
    found = Argmax().fit(outputs, 4, 0)
    assert 2 not in found.labels
    assert not found.centers[2].any()


def test_every_seed_says_the_same():
    partitions = Argmax().fit_seeds(OUTPUTS, 4, range(3))
    assert len(partitions) == 3
    assert all(np.array_equal(one.labels, partitions[0].labels) for one in partitions)


def test_another_number_of_outputs_is_refused():
    with pytest.raises(InputError, match="3 clusters off 3 outputs of a head, not off 4 features"):
        Argmax().fit(OUTPUTS, 3, 0)
    with pytest.raises(InputError, match="the fitted features 4"):
        Argmax().fit(OUTPUTS, 4, 0).predict(OUTPUTS[:, :2])
