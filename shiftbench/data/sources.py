"""Where the files of each data set are looked for, whether they are there, and how to get them."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from shiftbench.errors import InputError, unknown
from shiftbench.registry import DATASETS
from shiftbench.runtime import compat
from shiftbench.runtime.console import say


@dataclass(frozen=True)
class Source:
    """What the official distribution of a data set looks like on a disk.

    Attributes:
        folders: where it may be below the root, the preferred folder first.
        files: patterns, each of which must match something in one of these folders.
        by_hand: how to get it by hand.
        fetch: (root, ``torchvision.datasets``) -> None, downloads it; None where torchvision cannot.

    Examples:
        >>> SOURCES["cifar10"].folders
        ('cifar-10-batches-py',)
    """

    folders: tuple[str, ...]
    files: tuple[str, ...]
    by_hand: str
    fetch: Callable[[Path, Any], object] | None = None

    @property
    def advice(self) -> str:
        """How to get it, in a sentence."""
        return f"data.download=true gets it; by hand: {self.by_hand}" if self.fetch else f"To get it, {self.by_hand}"


_IDX = tuple(f"{part}-{kind}-ubyte*" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
_IMAGENET = ("imagenet", "ILSVRC2012", ".")
_TREE = ("train/n[0-9]*", "val")
_REQUEST = (
    "request ImageNet (ILSVRC2012) at image-net.org, and sort it into imagenet/train/WNID and imagenet/val/WNID: "
    "torchvision.datasets.ImageNet does so from the three official archives."
)
_PUT_IDX = "put the four idx files, with or without .gz, into {}."

SOURCES = {
    "mnist": Source(
        ("MNIST/raw",), _IDX,
        _PUT_IDX.format("MNIST/raw"),
        lambda root, sets: sets.MNIST(root, download=True),
    ),
    "fashion_mnist": Source(
        ("FashionMNIST/raw",), _IDX,
        _PUT_IDX.format("FashionMNIST/raw"),
        lambda root, sets: sets.FashionMNIST(root, download=True),
    ),
    "usps": Source(
        ("USPS", "."), ("usps.bz2", "usps.t.bz2"),
        "put usps.bz2 and usps.t.bz2 of the LIBSVM page into USPS.",
        lambda root, sets: [sets.USPS(root / "USPS", train=train, download=True) for train in (True, False)],
    ),
    "cifar10": Source(
        ("cifar-10-batches-py",), (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"),
        "unpack cifar-10-python.tar.gz in the data folder.",
        lambda root, sets: sets.CIFAR10(root, download=True),
    ),
    "cifar100": Source(
        ("cifar-100-python",), ("train", "test", "meta"),
        "unpack cifar-100-python.tar.gz in the data folder.",
        lambda root, sets: sets.CIFAR100(root, download=True),
    ),
    "stl10": Source(
        ("stl10_binary",), ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"),
        "unpack stl10_binary.tar.gz (2.6 GB) in the data folder.",
        lambda root, sets: sets.STL10(root, download=True),
    ),
    "tiny_imagenet": Source(
        ("tiny-imagenet-200",), ("wnids.txt", "words.txt", "train", "val/images", "val/val_annotations.txt"),
        "unpack the official tiny-imagenet-200.zip (cs231n.stanford.edu) in the data folder and leave it as it is.",
    ),
    "imagenet": Source(_IMAGENET, _TREE, _REQUEST),
    "imagenet10": Source(("imagenet10", *_IMAGENET), _TREE, f"{_REQUEST} Ten of its classes are enough."),
    "imagenet_dogs15": Source(
        ("imagenet_dogs15", *_IMAGENET), _TREE, f"{_REQUEST} Fifteen of its classes are enough."
    ),
}  # fmt: skip
SOURCES["cifar100_20"] = SOURCES["cifar100"]

EVERYWHERE = {
    "digits": "in scikit-learn",
    "folder": "where --data folder:PATH says",
    "npz": "where --data npz:PATH says",
}


class Status(NamedTuple):
    """Whether a data set is there.

    Attributes:
        found: whether all its folders and files are there; their content is not read.
        where: the folder that holds them, or the folder in which they were looked for.
        advice: what to do; empty where all is there.

    Examples:
        >>> status("digits")
        Status(found=True, where='in scikit-learn', advice='')
    """

    found: bool
    where: str
    advice: str


def status(name: str, root: str | None = None) -> Status:
    """Whether the files of a data set are there, without reading them.

    Args:
        name: a registered data set.
        root: see :func:`data_root`.

    Raises:
        InputError: there is no such data set.

    Examples:
        >>> status("cifar10", root="nowhere").found
        False
    """
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    if name not in SOURCES:  # nothing to look for, or a plugin's data set, of which only the plugin knows
        return Status(True, EVERYWHERE.get(name, DATASETS[name].target), "")
    base = data_root(root)
    folder = _folder(SOURCES[name], base)
    return Status(folder is not None, str(folder or base), "" if folder else SOURCES[name].advice)


def data_root(root: str | None) -> Path:
    """The folder with all data sets: ``root``, else ``$SHIFTBENCH_DATA``, else ``data``.

    Examples:
        >>> str(data_root("my_data"))
        'my_data'
    """
    return Path(root or os.environ.get("SHIFTBENCH_DATA", "data")).expanduser()


def locate(name: str, root: str | None = None, download: bool = False) -> Path:
    """The folder that holds the files of a data set.

    Args:
        name: which.
        root: see :func:`data_root`.
        download: fetch what is not there.

    Raises:
        InputError: missing files that are not to be downloaded, or cannot be.

    Examples:
        >>> Path("data/stl10_binary").mkdir(parents=True)
        >>> for name in SOURCES["stl10"].files:
        ...     Path("data/stl10_binary", name).touch()
        >>> locate("stl10", root="data").name
        'stl10_binary'
    """
    source, base = SOURCES[name], data_root(root)
    folder = _folder(source, base)
    if folder is None and download:
        _download(name, source, base)
        folder = _folder(source, base)
    if folder is None:
        tried = next((base / part for part in source.folders if part != "." and (base / part).is_dir()), None)
        what = f"{source.folders[0]} in {str(base)!r}"
        if tried is not None:
            what = f"{next(file for file in source.files if not _matches(tried, file))} in {str(tried)!r}"
        raise InputError(
            f"{name} is not there: no {what}. {source.advice} Another folder is named with data.root=DIR or SHIFTBENCH_DATA."
        )
    return folder


def read_checked(file: Path, md5: str) -> bytes:
    """The content of an official file, if it is what was published; that of a ``.gz`` file unpacked.

    Args:
        file: which.
        md5: of the content; that of a ``.gz`` file does not depend on who packed it.

    Raises:
        InputError: a file that cannot be read, or that has another md5.

    Examples:
        >>> _ = Path("hello.txt").write_bytes(b"hello")
        >>> read_checked(Path("hello.txt"), md5="5d41402abc4b2a76b9719d911017c592")
        b'hello'
    """
    try:
        content = file.read_bytes()
        if file.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"Cannot read {str(file)!r} ({error}).") from error
    actual = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if actual != md5:
        raise InputError(
            f"{str(file)!r} is not the official file: its md5 is {actual}, published is {md5}. "
            "It is damaged or was changed: delete it and get it again."
        )
    return content


def _folder(source: Source, base: Path) -> Path | None:
    for part in source.folders:
        folder = base / part
        if all(_matches(folder, pattern) for pattern in source.files):
            return folder
    return None


def _matches(folder: Path, pattern: str) -> bool:
    return any(True for _ in folder.glob(pattern))


def _download(name: str, source: Source, base: Path) -> None:
    if source.fetch is None:
        raise InputError(f"{name} cannot be downloaded by shiftbench. {source.advice}")
    say(f"Downloading {name} to {base}")
    try:
        base.mkdir(parents=True, exist_ok=True)
        source.fetch(base, compat.torchvision().datasets)
    except (OSError, RuntimeError, EOFError) as error:  # urllib's errors are OSErrors
        reason = " ".join(str(error).split())
        raise InputError(f"Downloading {name} failed ({reason}). Try again, or by hand: {source.by_hand}") from error
