"""The embedded digits: real, whole, and split the same way everywhere."""

import hashlib

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from shiftbench.data.base import load_dataset
from shiftbench.errors import InputError


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def test_sizes_and_types(digits):
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    for split in (digits.train, digits.test):
        assert split.images.dtype == torch.uint8
        assert split.images.shape[1:] == (3, 32, 32)
        assert split.labels.dtype == np.int64
    assert digits.classes == tuple("0123456789")


def test_split_is_stratified(digits):
    for split in (digits.train, digits.test):
        share = np.bincount(split.labels) / len(split)
        np.testing.assert_allclose(share, np.bincount(load_digits().target) / 1797, atol=0.005)


def test_splits_partition_the_original_digits(digits):
    """Every original appears exactly once: averaging each enlarged image back recovers the multiset of totals."""
    images = torch.cat([digits.train.images, digits.test.images])
    distinct = {image.numpy().tobytes() for image in images}
    originals = {image.tobytes() for image in load_digits().images}
    assert len(distinct) == len(originals)
    labels = np.concatenate([digits.train.labels, digits.test.labels])
    np.testing.assert_array_equal(np.bincount(labels), np.bincount(load_digits().target))


def test_images_look_like_their_originals(digits):
    """Block means of the enlarged test images are nearest to an original of the same class."""
    small = digits.test.images[:20, 0].float().reshape(20, 8, 4, 8, 4).mean(dim=(2, 4)).numpy() * 16 / 255
    originals = load_digits().images
    away = np.abs(originals[None] - small[:, None]).mean(axis=(2, 3))
    np.testing.assert_array_equal(load_digits().target[away.argmin(axis=1)], digits.test.labels[:20])


def test_bytes_never_change(digits):
    """The fingerprint is part of every result's key: another split or another enlargement must show up here."""
    assert hashlib.sha256(digits.test.labels.tobytes()).hexdigest()[:16] == LABELS
    assert digits.fingerprint[:16] == FINGERPRINT


LABELS = "723b354289d5bac3"
FINGERPRINT = "b0af80c7aa58ef90"


def test_size(digits):
    small = load_dataset("digits", size=16).test
    assert small.images.shape == (360, 3, 16, 16)
    np.testing.assert_array_equal(small.labels, digits.test.labels)


def test_where_its_shifts_are_looked_for(digits, tmp_path):
    moved = load_dataset("digits", root=str(tmp_path))
    assert moved.root == str(tmp_path)
    assert moved.fingerprint == digits.fingerprint


def test_unknown_data_set_names_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'digits'"):
        load_dataset("digit")
