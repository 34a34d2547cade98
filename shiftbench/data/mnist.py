"""Grey 10-class images in the files that torchvision keeps: MNIST, Fashion-MNIST and USPS."""

from __future__ import annotations

import bz2
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_svmlight_file

from shiftbench.data.sources import data_root, locate, read_checked
from shiftbench.images import resize
from shiftbench.records import Dataset, Split

DIGITS = tuple("0123456789")
GARMENTS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
FILES = {"train": "train", "test": "t10k"}  # how the idx files name the splits

# Of the idx files themselves, which anyone may have compressed; torchvision publishes those of its own .gz files.
IDX_MD5 = {
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}
# As torchvision publishes them.
USPS_MD5 = {"usps.bz2": "ec16c51db3855ca6c91edd34d0e9b197", "usps.t.bz2": "8ea070ee2aca1ac39742fdd1ef5ed118"}


def load_mnist(root: str | None = None, size: int | None = None, download: bool = False) -> Dataset:
    """MNIST (LeCun et al. 1998): 60,000 digits to fit on and 10,000 to score, uint8 (N, 3, 28, 28), official order.

    Read from the idx files in ``MNIST/raw``, each with or without ``.gz``.

    Args:
        root: the folder with all data sets; default ``$SHIFTBENCH_DATA``, else ``data``.
        size: height and width that the images are resized to; default as they are.
        download: fetch what is not there.

    Raises:
        InputError: files that are missing or not the official files.

    Examples:
        >>> load_mnist("data").test.images.shape  # doctest: +SKIP
        torch.Size([10000, 3, 28, 28])
    """
    return _load_idx("mnist", DIGITS, root, size, download)


def load_fashion_mnist(root: str | None = None, size: int | None = None, download: bool = False) -> Dataset:
    """Fashion-MNIST (Xiao et al. 2017): 60,000 garments to fit on and 10,000 to score; see :func:`load_mnist`.

    Examples:
        >>> load_fashion_mnist("data").classes[0]  # doctest: +SKIP
        'T-shirt/top'
    """
    return _load_idx("fashion_mnist", GARMENTS, root, size, download)


def load_usps(root: str | None = None, size: int | None = None, download: bool = False) -> Dataset:
    """USPS (Hull 1994): 7,291 digits to fit on and 2,007 to score, uint8 (N, 3, 16, 16), official order.

    Read from ``usps.bz2`` and ``usps.t.bz2`` of the LIBSVM collection, in ``USPS`` or beside the other data sets; their
    values in -1..1 become 0..255 without decimals, as in torchvision.

    Args:
        root: the folder with all data sets; default ``$SHIFTBENCH_DATA``, else ``data``.
        size: height and width that the images are resized to; default as they are.
        download: fetch what is not there.

    Raises:
        InputError: files that are missing or not the official files.

    Examples:
        >>> load_usps("data", size=32).test.images.shape  # doctest: +SKIP
        torch.Size([2007, 3, 32, 32])
    """
    folder = locate("usps", root, download)
    train, test = (_read_libsvm(folder / name, md5, size) for name, md5 in USPS_MD5.items())
    return Dataset("usps", train, test, DIGITS, root=str(data_root(root)))


def _load_idx(name: str, classes: tuple[str, ...], root: str | None, size: int | None, download: bool) -> Dataset:
    folder = locate(name, root, download)
    train, test = (read_split(name, folder, split, size) for split in FILES)
    return Dataset(name, train, test, classes, root=str(data_root(root)))


def read_split(name: str, folder: Path, split: str, size: int | None = None) -> Split:
    """A split of a data set in idx files.

    Args:
        name: "mnist" or "fashion_mnist".
        folder: with ``train-images-idx3-ubyte``, with or without ``.gz``, and so on.
        split: "train" or "test".
        size: height and width that the images are resized to; None for as they are.

    Raises:
        InputError: a file that is missing or not the official file.

    Examples:
        >>> len(read_split("mnist", Path("data/MNIST/raw"), "test"))  # doctest: +SKIP
        10000
    """
    images = _read_idx(name, folder / f"{FILES[split]}-images-idx3-ubyte", 3)
    labels = _read_idx(name, folder / f"{FILES[split]}-labels-idx1-ubyte", 1)
    return _grey_split(images, labels, size)


def _read_idx(name: str, file: Path, dimensions: int) -> np.ndarray:
    """The array in an idx file (LeCun): four bytes for type and dimensions, big-endian sizes, then the values."""
    packed = file.with_name(f"{file.name}.gz")
    content = read_checked(packed if packed.exists() else file, IDX_MD5[name][file.name])
    header = 4 * (1 + dimensions)
    shape = np.frombuffer(content[4:header], ">u4").astype(int)
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _read_libsvm(file: Path, md5: str, size: int | None) -> Split:
    text = BytesIO(bz2.decompress(read_checked(file, md5)))
    values, labels = load_svmlight_file(text, n_features=256, dtype=np.float32)
    grey = ((values.toarray().reshape(-1, 16, 16) + 1) / 2 * 255).astype(np.uint8)
    return _grey_split(grey, labels - 1, size)


def _grey_split(grey: np.ndarray, labels: np.ndarray, size: int | None) -> Split:
    images = torch.from_numpy(np.repeat(grey[:, None], 3, axis=1))
    return Split(resize(images, size), labels.astype(np.int64))
