"""CIFAR-10 from the official python batches (Krizhevsky 2009), and corrupted sets in the layout of CIFAR-10-C."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from shiftbench import compat
from shiftbench.corruptions import SEVERITIES
from shiftbench.errors import InputError
from shiftbench.records import Dataset, Split

FOLDER = "cifar-10-batches-py"


def load_cifar10(path: str | None = None) -> Dataset:
    """CIFAR-10: 50,000 images to fit on and 10,000 to score, uint8 (N, 3, 32, 32), official order.

    The batches are pickles; torchvision checks their published md5 before it opens them.

    Args:
        path: the folder that holds ``cifar-10-batches-py``; default ``$SHIFTBENCH_DATA``.

    Raises:
        InputError: the batches are not there, or are not the official files.
    """
    root = Path(path or os.environ.get("SHIFTBENCH_DATA", "data")).expanduser()
    if not (root / FOLDER).is_dir():
        raise InputError(
            f"No {FOLDER} in {str(root)!r}. Unpack the official cifar-10-python.tar.gz there, "
            "or name its folder with data.path=DIR or SHIFTBENCH_DATA."
        )
    try:
        splits = [compat.torchvision().datasets.CIFAR10(root, train=train, download=False) for train in (True, False)]
    except RuntimeError as error:
        raise InputError(
            f"{str(root / FOLDER)!r} is not the official CIFAR-10 (md5 differs or a file lacks)."
        ) from error
    images = [torch.from_numpy(np.ascontiguousarray(split.data.transpose(0, 3, 1, 2))) for split in splits]
    labels = [np.asarray(split.targets, dtype=np.int64) for split in splits]
    train, test = map(Split, images, labels)
    return Dataset("cifar10", train, test, tuple(splits[0].classes))


def load_cifar_c(path: str | Path, corruption: str, severity: int) -> Split:
    """One severity of a corrupted set in the layout of CIFAR-10-C, official or written by ``shiftbench corrupt``.

    Args:
        path: the folder with ``NAME.npy``, uint8 (5 * N, H, W, 3) with severity 1 first, and ``labels.npy``.
        corruption: NAME.
        severity: 1 to 5.

    Returns:
        uint8 (N, 3, H, W), in the order of the clean test split, and its labels.

    Raises:
        InputError: a file is missing, damaged or of another shape, or the severity is none.
    """
    if severity not in SEVERITIES:
        raise InputError(f"severity must be 1, 2, 3, 4 or 5, not {severity!r}.")
    files = [Path(path) / f"{name}.npy" for name in (corruption, "labels")]
    try:
        images, labels = (np.load(file, mmap_mode="r", allow_pickle=False) for file in files)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{str(path)!r} holds no whole {corruption}.npy and labels.npy ({error}).") from error
    n, rest = divmod(len(images), len(SEVERITIES))
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or rest or len(labels) not in (n, 5 * n):
        raise InputError(
            f"{str(files[0])!r} must be uint8 (5 * N, H, W, 3) with 5 * N labels, not {images.dtype} {images.shape} "
            f"with {len(labels)}."
        )
    rows = slice((severity - 1) * n, severity * n)
    return Split(
        torch.from_numpy(np.ascontiguousarray(images[rows].transpose(0, 3, 1, 2))),
        np.asarray(labels[rows] if len(labels) == 5 * n else labels, dtype=np.int64),
    )
