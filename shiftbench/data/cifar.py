"""CIFAR-10 and CIFAR-100 from the official python batches (Krizhevsky 2009)."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shiftbench.data.sources import data_root, locate, read_checked
from shiftbench.records import Dataset, Split

# As torchvision publishes them; a batch is a pickle, which is not opened unless it is the official one.
MD5 = {
    "cifar10": {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
        "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    },
    "cifar100": {
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "meta": "7973b15100ade9c7d40fb424638fde48",
    },
}


def load_cifar10(root: str | None = None, download: bool = False) -> Dataset:
    """CIFAR-10: 50,000 images to fit on and 10,000 to score, uint8 (N, 3, 32, 32), official order.

    Args:
        root: the folder that holds ``cifar-10-batches-py``; default ``$SHIFTBENCH_DATA``, else ``data``.
        download: fetch what is not there.

    Raises:
        InputError: batches that are missing, or that are not the official files.

    Examples:
        >>> load_cifar10("data").test.images.shape  # doctest: +SKIP
        torch.Size([10000, 3, 32, 32])
    """
    return _load("cifar10", "cifar10", ("labels", "label_names"), root, download)


def load_cifar100(root: str | None = None, download: bool = False) -> Dataset:
    """CIFAR-100 with its 100 classes, from ``cifar-100-python``; otherwise as :func:`load_cifar10`.

    Examples:
        >>> len(load_cifar100("data").classes)  # doctest: +SKIP
        100
    """
    return _load("cifar100", "cifar100", ("fine_labels", "fine_label_names"), root, download)


def load_cifar100_20(root: str | None = None, download: bool = False) -> Dataset:
    """CIFAR-100 with its 20 superclasses, from ``cifar-100-python``; otherwise as :func:`load_cifar10`.

    Examples:
        >>> len(load_cifar100_20("data").classes)  # doctest: +SKIP
        20
    """
    return _load("cifar100_20", "cifar100", ("coarse_labels", "coarse_label_names"), root, download)


def _load(name: str, files: str, keys: tuple[str, str], root: str | None, download: bool) -> Dataset:
    folder = locate(name, root, download)
    *train, test, meta = (_unpickle(folder / file, md5) for file, md5 in MD5[files].items())
    fit, score = (_split(batches, keys[0]) for batches in (train, [test]))
    return Dataset(name, fit, score, tuple(meta[keys[1]]), root=str(data_root(root)))


def _split(batches: list[dict[str, Any]], key: str) -> Split:
    images = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([np.asarray(batch[key], dtype=np.int64) for batch in batches])
    return Split(torch.from_numpy(images), labels)


def _unpickle(file: Path, md5: str) -> dict[str, Any]:
    members: dict[str, Any] = pickle.loads(read_checked(file, md5), encoding="latin1")
    return members
