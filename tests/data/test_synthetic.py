"""Shifts made of the test images."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shiftbench.data.shifts import resolve
from shiftbench.data.synthetic import FACTOR, _counts, _dirichlet, reduce_resolution
from shiftbench.records import Condition, Dataset, Skipped, Split


def dataset(labels, classes=10):
    split = Split(torch.zeros(len(labels), 3, 32, 32, dtype=torch.uint8), labels)
    return Dataset("mine", split, split, tuple(map(str, range(classes))))


BALANCED = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 200))


def samples(name, data, seed=0):
    found = resolve([name], data, table="cifar", seed=seed)
    return [sample for condition, sample in found.items() if condition.shift == name]


@pytest.mark.parametrize("name", ["prior", "subpopulation"])
def test_rows_are_test_images_with_their_labels(name):
    found = samples(name, dataset(BALANCED))
    assert len(found) == 5
    for sample in found:
        assert len(np.unique(sample.rows)) == len(sample.rows)
        np.testing.assert_array_equal(sample.labels, BALANCED[sample.rows])
        assert sample.images is None
        assert sample.change is None


@pytest.mark.parametrize("name", ["prior", "subpopulation"])
def test_the_seed_alone_decides(name):
    one, again, other = ([s.rows.tolist() for s in samples(name, dataset(BALANCED), seed)] for seed in (3, 3, 4))
    assert one == again
    assert one != other


def unevenness(sample):
    shares = np.bincount(sample.labels, minlength=10) / len(sample.labels)
    return np.square(shares).sum()


@given(st.integers(0, 10**6))
def test_class_shares_become_more_uneven(seed):
    found = [unevenness(sample) for sample in samples("prior", dataset(BALANCED), seed)]
    assert found == sorted(found)
    assert found[0] > 0.1  # equal shares


def test_the_draws_are_dirichlets():
    """The mean of a squared share is (a + 1) / (C (C a + 1)); quantiles of gamma variables give exactly that."""
    rng = np.random.default_rng(0)
    for concentration in (10.0, 1.0, 0.1):
        draws = np.array([_dirichlet(rng.uniform(size=10), concentration) for _ in range(4000)])
        np.testing.assert_allclose(draws.sum(axis=1), 1)
        expected = (concentration + 1) / (10 * (10 * concentration + 1))
        assert np.square(draws).mean() == pytest.approx(expected, rel=0.05)


def test_the_largest_subset_with_these_shares():
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    shares = np.array([0.2, 0.7, 0.1])
    counts = _counts(labels, shares)
    assert counts.tolist() == [14, 50, 7]  # class 1 is used up: 50 / 0.7 = 71.4 images
    assert _counts(labels, np.array([0.0, 1.0, 0.0])).tolist() == [0, 50, 0]
    assert _counts(np.repeat([0, 2], 10), np.array([0.5, 0.25, 0.25])).tolist() == [10, 0, 5]  # class 1 has no image


def test_dropped_classes_stay_dropped():
    present = [set(sample.labels.tolist()) for sample in samples("subpopulation", dataset(BALANCED))]
    assert [len(classes) for classes in present] == [9, 8, 7, 6, 5]
    assert all(after < before for before, after in pairwise(present))
    for sample, classes in zip(samples("subpopulation", dataset(BALANCED)), present, strict=True):
        assert len(sample.rows) == 200 * len(classes)  # of a class all images or none


def test_at_least_two_classes_remain():
    data = dataset(np.arange(30) % 3, classes=3)
    assert [len(np.unique(sample.labels)) for sample in samples("subpopulation", data)] == [2] * 5


@pytest.mark.parametrize("name", ["prior", "subpopulation"])
def test_without_labels_there_are_no_classes_to_draw(name):
    data = dataset(BALANCED)
    unlabelled = Dataset("mine", data.train, Split(data.test.images, None), ())
    [(_, _), (condition, skipped)] = resolve([f"{name}-3"], unlabelled, table="cifar", seed=0).items()
    assert condition == Condition(name)
    assert isinstance(skipped, Skipped)
    assert "needs labels" in skipped.reason


def test_resolution_needs_no_labels():
    unlabelled = Dataset("mine", dataset(BALANCED).train, Split(dataset(BALANCED).test.images, None), ())
    for sample in samples("resolution", unlabelled):
        assert sample.labels is None
        assert sample.rows.tolist() == list(range(2000))


def images(n=5, size=32):
    smooth = torch.randint(0, 256, (n, 3, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    return torch.nn.functional.interpolate(smooth, size, mode="bicubic").clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("factor", FACTOR)
def test_resolution_is_pillows_reduction_and_enlargement(factor, device):
    whole = images()
    side = round(32 / factor)
    changed = reduce_resolution(whole.to(device), factor=factor)
    assert changed.device.type == device.type
    for image, expected in zip(changed.cpu(), whole, strict=True):
        pixels = Image.fromarray(expected.permute(1, 2, 0).numpy())
        pixels = pixels.resize((side, side), Image.Resampling.BILINEAR).resize((32, 32), Image.Resampling.BILINEAR)
        away = image.permute(1, 2, 0).int() - torch.from_numpy(np.array(pixels)).int()
        assert away.abs().max() <= 2  # Pillow rounds in between


def test_detail_is_lost_with_the_severity():
    data = dataset(BALANCED[:5])
    loss = [
        (sample.change(images(), torch.arange(5)).float() - images().float()).square().mean()
        for sample in samples("resolution", data)
    ]
    assert loss == sorted(loss)
    assert loss[0] > 0


def test_resolution_is_the_same_in_any_batch():
    change = samples("resolution", dataset(BALANCED[:5]))[2].change
    whole = change(images(), torch.arange(5))
    one_by_one = torch.cat([change(images()[i : i + 1], torch.tensor([i])) for i in range(5)])
    assert torch.equal(whole, one_by_one)
    assert whole.dtype == torch.uint8
