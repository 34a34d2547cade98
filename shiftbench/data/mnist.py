"""Grey 10-class images in the files that torchvision keeps: MNIST, Fashion-MNIST and USPS."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_svmlight_file

from shiftbench.data.sources import check_counts, data_root, locate, read_checked
from shiftbench.errors import InputError
from shiftbench.images import resize
from shiftbench.records import Dataset, Split

DIGITS = tuple("0123456789")
GARMENTS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
FILES = {"train": "train", "test": "t10k"}  # how the idx files name the splits

# As torchvision publishes them, of the compressed files.
MD5 = {
    "mnist": {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    "usps": {
        "usps.bz2": "ec16c51db3855ca6c91edd34d0e9b197",
        "usps.t.bz2": "8ea070ee2aca1ac39742fdd1ef5ed118",
    },
}


def load_mnist(root: str | None = None, size: int | None = None, download: bool = False) -> Dataset:
    """MNIST (LeCun et al. 1998): 60,000 digits to fit on and 10,000 to score, uint8 (N, 3, 28, 28), official order.

    Read from ``MNIST/raw``. The md5 is published of the compressed files and checked where they are there; plain
    files are checked to be what their headers say.

    Args:
        root: the folder with all data sets; default ``$SHIFTBENCH_DATA``, else ``data``.
        size: height and width that the images are resized to; default as they are.
        download: fetch what is not there.

    Raises:
        InputError: files are missing, not the official ones or damaged.
    """
    return _load_idx("mnist", DIGITS, root, size, download)


def load_fashion_mnist(root: str | None = None, size: int | None = None, download: bool = False) -> Dataset:
    """Fashion-MNIST (Xiao et al. 2017): 60,000 garments to fit on and 10,000 to score; see :func:`load_mnist`."""
    return _load_idx("fashion_mnist", GARMENTS, root, size, download)


def load_usps(root: str | None = None, size: int | None = None, download: bool = False) -> Dataset:
    """USPS (Hull 1994): 7,291 digits to fit on and 2,007 to score, uint8 (N, 3, 16, 16), official order.

    Read from ``usps.bz2`` and ``usps.t.bz2`` of the LIBSVM collection, in ``USPS`` or beside the other data sets; their
    values in -1..1 become 0..255 by cutting off decimals, as in torchvision.

    Args:
        root: the folder with all data sets; default ``$SHIFTBENCH_DATA``, else ``data``.
        size: height and width that the images are resized to; default as they are.
        download: fetch what is not there.

    Raises:
        InputError: files are missing or not the official ones.
    """
    folder = locate("usps", root, download)
    train, test = (_read_libsvm(folder / name, md5, size) for name, md5 in MD5["usps"].items())
    check_counts("usps", len(train), len(test))
    return Dataset("usps", train, test, DIGITS, root=str(data_root(root)))


def _load_idx(name: str, classes: tuple[str, ...], root: str | None, size: int | None, download: bool) -> Dataset:
    folder = locate(name, root, download)
    train, test = (read_split(folder, split, MD5[name], size) for split in FILES)
    check_counts(name, len(train), len(test))
    return Dataset(name, train, test, classes, root=str(data_root(root)))


def read_split(folder: Path, split: str, md5s: dict[str, str], size: int | None = None) -> Split:
    """One split of a data set in idx files, compressed or not.

    Args:
        folder: with ``train-images-idx3-ubyte[.gz]`` and so on.
        split: "train" or "test".
        md5s: of the compressed files, by name.
        size: height and width that the images are resized to; None for as they are.

    Raises:
        InputError: a file lacks, is not the official one, or is not what its header says.
    """
    images = _read_idx(folder / f"{FILES[split]}-images-idx3-ubyte", 3, md5s)
    labels = _read_idx(folder / f"{FILES[split]}-labels-idx1-ubyte", 1, md5s)
    if len(images) != len(labels):
        raise InputError(f"{str(folder)!r}: {len(images):,} {split} images, but {len(labels):,} labels.")
    if len(labels) and labels.max() > 9:
        raise InputError(f"{str(folder)!r}: a {split} label is {labels.max()}; there are ten classes, 0 to 9.")
    return _grey_split(images, labels, size)


def _read_idx(file: Path, dimensions: int, md5s: dict[str, str]) -> np.ndarray:
    """The array in an idx file (LeCun's format): zero, type 8 for uint8, number of dimensions, big-endian sizes."""
    packed = file.with_name(f"{file.name}.gz")
    try:
        content = gzip.decompress(read_checked(packed, md5s[packed.name])) if packed.exists() else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"Cannot read {str(file)!r} ({error}).") from error
    header = 4 * (1 + dimensions)
    shape = np.frombuffer(content[4:header], ">u4").astype(int)
    if content[:4] != bytes([0, 0, 8, dimensions]) or len(content) != header + np.prod(shape):
        raise InputError(f"{str(file)!r} is damaged: not the {dimensions}-dimensional idx file that its name says.")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _read_libsvm(file: Path, md5: str, size: int | None) -> Split:
    read_checked(file, md5)
    try:
        values, labels = load_svmlight_file(str(file), n_features=256, dtype=np.float32)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"Cannot read {str(file)!r} ({error}).") from error
    grey = ((values.toarray().reshape(-1, 16, 16) + 1) / 2 * 255).astype(np.uint8)
    return _grey_split(grey, labels - 1, size)


def _grey_split(grey: np.ndarray, labels: np.ndarray, size: int | None) -> Split:
    images = torch.from_numpy(np.repeat(grey[:, None], 3, axis=1))
    return Split(resize(images, size), labels.astype(np.int64))
