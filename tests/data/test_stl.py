"""STL-10 in its official binary files; torchvision is the witness."""

import hashlib

import numpy as np
import pytest

from shiftbench.data import stl
from shiftbench.data.base import load_dataset
from shiftbench.errors import InputError
from shiftbench.runtime import compat


@pytest.fixture
def official(tmp_path, monkeypatch):
    """A few images in the official files, made official for this test."""
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part, n in (("train", 12), ("test", 11)):
        (folder / f"{part}_X.bin").write_bytes(rng.integers(0, 256, (n, 3, 96, 96), dtype=np.uint8).tobytes())
        (folder / f"{part}_y.bin").write_bytes((np.arange(n, dtype=np.uint8) % 10 + 1).tobytes())
    monkeypatch.setattr(
        stl, "MD5", {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    )
    return tmp_path


def test_torchvision_reads_the_same(official, monkeypatch):
    data = load_dataset("stl10", root=str(official))
    theirs = compat.torchvision().datasets.STL10
    monkeypatch.setattr(theirs, "_check_integrity", lambda self: True)  # the unlabelled images are not here
    for split, part in ((data.train, "train"), (data.test, "test")):
        other = theirs(official, split=part)
        np.testing.assert_array_equal(split.images, other.data)
        np.testing.assert_array_equal(split.labels, other.labels)
        assert split.labels.dtype == np.int64


def test_size(official):
    assert load_dataset("stl10", root=str(official), size=32).train.images.shape == (12, 3, 32, 32)


def test_train_and_test_to_fit_on(official):
    data = load_dataset("stl10", root=str(official), fit="train+test")
    assert len(data.train) == 23
    np.testing.assert_array_equal(data.train.images[12:], data.test.images)
    np.testing.assert_array_equal(data.train.labels[12:], data.test.labels)


def test_another_file(official):
    file = official / "stl10_binary" / "test_y.bin"
    file.write_bytes(bytes(11))
    with pytest.raises(InputError, match=r"test_y\.bin' is not the official file: its md5 is .* delete it"):
        load_dataset("stl10", root=str(official))


def test_labels_missing(official):
    (official / "stl10_binary" / "train_y.bin").unlink()
    with pytest.raises(InputError, match=r"stl10 is not there: no train_y\.bin in"):
        load_dataset("stl10", root=str(official))


def test_published_md5():
    theirs = compat.torchvision().datasets.STL10
    published = dict(theirs.train_list + theirs.test_list)
    assert {file: published[file] for file in stl.MD5} == stl.MD5
