"""CIFAR-10 and CIFAR-100 from their official batches; torchvision is the witness."""

import hashlib
import pickle

import numpy as np
import pytest
import torch

from shiftbench.data import cifar
from shiftbench.data.base import load_dataset
from shiftbench.errors import InputError
from shiftbench.runtime import compat


def write(root, name, monkeypatch):
    """A few images in the official files, made official for this test."""
    rng = np.random.default_rng(0)
    folder = root / {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}[name]
    folder.mkdir()
    *batches, meta = cifar.MD5[name]
    for batch in batches:
        content = {"data": rng.integers(0, 256, (7, 3072), dtype=np.uint8)}
        if name == "cifar10":
            content |= {"labels": rng.integers(0, 10, 7).tolist()}
        else:
            fine = rng.integers(0, 100, 7)
            content |= {"fine_labels": fine.tolist(), "coarse_labels": (fine // 5).tolist()}
        (folder / batch).write_bytes(pickle.dumps(content, protocol=2))
    names = {
        "label_names": [f"class {i}" for i in range(10)],
        "fine_label_names": [f"fine {i}" for i in range(100)],
        "coarse_label_names": [f"coarse {i}" for i in range(20)],
    }
    (folder / meta).write_bytes(pickle.dumps(names, protocol=2))
    md5s = {file: hashlib.md5((folder / file).read_bytes()).hexdigest() for file in cifar.MD5[name]}
    monkeypatch.setitem(cifar.MD5, name, md5s)
    theirs = getattr(compat.torchvision().datasets, name.upper())
    monkeypatch.setattr(theirs, "train_list", [[file, md5s[file]] for file in batches[:-1]])
    monkeypatch.setattr(theirs, "test_list", [[file, md5s[file]] for file in batches[-1:]])
    monkeypatch.setattr(theirs, "meta", theirs.meta | {"md5": md5s[meta]})
    return folder


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_torchvision_reads_the_same(tmp_path, name, monkeypatch):
    write(tmp_path, name, monkeypatch)
    data = load_dataset(name, root=str(tmp_path))
    for split, train in ((data.train, True), (data.test, False)):
        theirs = getattr(compat.torchvision().datasets, name.upper())(tmp_path, train=train)
        np.testing.assert_array_equal(split.images.permute(0, 2, 3, 1), theirs.data)
        np.testing.assert_array_equal(split.labels, theirs.targets)
        assert list(data.classes) == theirs.classes
    assert data.train.images.dtype == torch.uint8
    assert data.root == str(tmp_path)


def test_superclasses(tmp_path, monkeypatch):
    write(tmp_path, "cifar100", monkeypatch)
    fine, coarse = (load_dataset(name, root=str(tmp_path)) for name in ("cifar100", "cifar100_20"))
    assert torch.equal(fine.test.images, coarse.test.images)
    np.testing.assert_array_equal(coarse.test.labels, fine.test.labels // 5)
    assert (coarse.name, len(coarse.classes), coarse.classes[3]) == ("cifar100_20", 20, "coarse 3")


def test_published_md5():
    for name, ours in cifar.MD5.items():
        theirs = getattr(compat.torchvision().datasets, name.upper())
        published = dict(theirs.train_list + theirs.test_list) | {theirs.meta["filename"]: theirs.meta["md5"]}
        assert ours == published


@pytest.mark.realdata
def test_official_order_and_labels(real_data):
    data = load_dataset("cifar10", root=str(real_data))
    assert (len(data.train), len(data.test)) == (50_000, 10_000)
    assert [data.classes[i] for i in data.test.labels[:5]] == ["cat", "ship", "ship", "airplane", "frog"]
    assert data.train.images.float().mean(dim=(0, 2, 3)).div(255).tolist() == pytest.approx(
        [0.4914, 0.4822, 0.4465], abs=1e-4
    )


@pytest.mark.parametrize(("name", "archive"), [("cifar10", "cifar-10-python"), ("cifar100_20", "cifar-100-python")])
def test_missing_batches(tmp_path, name, archive):
    with pytest.raises(InputError, match=f"{name} is not there: .*{archive}"):
        load_dataset(name, root=str(tmp_path))


def test_one_missing_batch_is_named(tmp_path, monkeypatch):
    (write(tmp_path, "cifar10", monkeypatch) / "data_batch_4").unlink()
    with pytest.raises(InputError, match="no data_batch_4 in"):
        load_dataset("cifar10", root=str(tmp_path))


def test_a_batch_that_is_not_the_official_one_is_not_opened(tmp_path, monkeypatch):
    folder = write(tmp_path, "cifar10", monkeypatch)
    (folder / "data_batch_1").write_bytes(b"cos\n_exit\n(I9\ntR.")  # opened, it ends this process
    with pytest.raises(InputError, match=r"data_batch_1' is not the official file: its md5 is"):
        load_dataset("cifar10", root=str(tmp_path))
