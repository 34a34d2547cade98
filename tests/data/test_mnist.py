"""MNIST, Fashion-MNIST and USPS in the files that torchvision keeps; torchvision itself is the witness."""

import bz2
import gzip
import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from shiftbench.data import mnist
from shiftbench.data.base import load_dataset
from shiftbench.errors import InputError
from shiftbench.runtime import compat

NAMES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def write_idx(root, name, monkeypatch, pack=False):
    """A small data set in the official files, made official for this test; returns its images and labels by split."""
    folder = root / NAMES[name] / "raw"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    splits, md5s = {}, {}
    for split, n in (("train", 30), ("t10k", 20)):
        splits[split] = rng.integers(0, 256, (n, 28, 28)), rng.permutation(n) % 10
        for kind, array in zip(("images-idx3", "labels-idx1"), splits[split], strict=True):
            file = f"{split}-{kind}-ubyte"
            content = idx(array)
            md5s[file] = hashlib.md5(content).hexdigest()
            (folder / (f"{file}.gz" if pack else file)).write_bytes(gzip.compress(content) if pack else content)
    monkeypatch.setitem(mnist.IDX_MD5, name, md5s)
    return splits


def write_usps(folder, monkeypatch):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    md5s = {}
    for file, n in (("usps.bz2", 12), ("usps.t.bz2", 11)):
        values = rng.integers(-1000, 1001, (n, 256)) / 1000
        lines = [
            f"{i % 10 + 1} " + " ".join(f"{j}:{value:g}" for j, value in enumerate(row, start=1))
            for i, row in enumerate(values)
        ]
        content = bz2.compress("\n".join(lines).encode() + b"\n")
        md5s[file] = hashlib.md5(content).hexdigest()
        (folder / file).write_bytes(content)
    monkeypatch.setattr(mnist, "USPS_MD5", md5s)


@pytest.mark.parametrize("name", NAMES)
def test_torchvision_reads_the_same(tmp_path, name, monkeypatch):
    write_idx(tmp_path, name, monkeypatch)
    data = load_dataset(name, root=str(tmp_path))
    for split, train in ((data.train, True), (data.test, False)):
        theirs = getattr(compat.torchvision().datasets, NAMES[name])(tmp_path, train=train)
        assert split.images.shape == (len(theirs), 3, 28, 28)
        for channel in range(3):
            assert torch.equal(split.images[:, channel], theirs.data)
        np.testing.assert_array_equal(split.labels, theirs.targets)
        assert split.labels.dtype == np.int64
    assert [label.partition(" - ")[0] for label in theirs.classes] == list(data.classes)
    assert data.root == str(tmp_path)


def test_packed_files_are_the_same(tmp_path, monkeypatch):
    splits = write_idx(tmp_path, "mnist", monkeypatch, pack=True)
    data = load_dataset("mnist", root=str(tmp_path))
    np.testing.assert_array_equal(data.test.images[:, 1], splits["t10k"][0])


def test_size(tmp_path, monkeypatch):
    splits = write_idx(tmp_path, "mnist", monkeypatch)
    images = load_dataset("mnist", root=str(tmp_path), size=32).test.images
    whole = Image.fromarray(splits["t10k"][0][7].astype(np.uint8)).resize((32, 32), Image.Resampling.BILINEAR)
    assert images.shape == (20, 3, 32, 32)
    np.testing.assert_array_equal(images[7, 2], np.asarray(whole))


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "md5|Cannot read"),
        (lambda content: content[: len(content) // 2], "md5|Cannot read"),
        (lambda content: b"", "md5|Cannot read"),
    ],
)
def test_files_that_are_not_the_official_ones(tmp_path, monkeypatch, pack, damage, message):
    write_idx(tmp_path, "mnist", monkeypatch, pack)
    file = next((tmp_path / "MNIST" / "raw").glob("t10k-labels*"))
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InputError, match=message) as caught:
        load_dataset("mnist", root=str(tmp_path))
    assert str(file) in str(caught.value)


def test_labels_missing(tmp_path, monkeypatch):
    write_idx(tmp_path, "mnist", monkeypatch)
    (tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match=r"no train-labels-idx1-ubyte\* in .*data\.download=true"):
        load_dataset("mnist", root=str(tmp_path))


@pytest.mark.parametrize("folder", ["USPS", "."])
def test_torchvision_reads_the_same_usps(tmp_path, folder, monkeypatch):
    write_usps(tmp_path / folder, monkeypatch)
    data = load_dataset("usps", root=str(tmp_path))
    for split, train in ((data.train, True), (data.test, False)):
        theirs = compat.torchvision().datasets.USPS(tmp_path / folder, train=train)
        assert split.images.shape == (len(theirs), 3, 16, 16)
        np.testing.assert_array_equal(split.images[:, 0], theirs.data)
        np.testing.assert_array_equal(split.labels, theirs.targets)


def test_usps_that_is_not_the_official_one(tmp_path, monkeypatch):
    write_usps(tmp_path, monkeypatch)
    (tmp_path / "usps.t.bz2").write_bytes(b"BZh9")
    with pytest.raises(InputError, match=r"usps\.t\.bz2' is not the official file: its md5 is"):
        load_dataset("usps", root=str(tmp_path))


def test_published_md5_of_usps():
    theirs = compat.torchvision().datasets.USPS.split_list
    assert {file: md5 for _, file, md5 in theirs.values()} == mnist.USPS_MD5


@pytest.mark.realdata
def test_the_real_test_digits_are_official(real_data, tmp_path):
    """Their md5 in our table is met by the real images and labels, written as the official files."""
    with np.load(real_data / "digits" / "mnist_test.npz") as real:
        images, labels = real["images"], real["labels"]
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        (tmp_path / f"t10k-{kind}-ubyte").write_bytes(idx(array))
    split = mnist.read_split("mnist", tmp_path, "test")
    assert split.images.shape == (10_000, 3, 28, 28)
    assert split.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


@pytest.mark.realdata
def test_the_real_fashion_mnist(real_data):
    if not (real_data / "FashionMNIST").is_dir():
        pytest.skip("no FashionMNIST here")
    data = load_dataset("fashion_mnist", root=str(real_data))
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert [data.classes[label] for label in data.test.labels[:3]] == ["Ankle boot", "Pullover", "Trouser"]
