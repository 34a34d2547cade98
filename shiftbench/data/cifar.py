"""CIFAR-10 from the official python batches (Krizhevsky 2009)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from shiftbench import compat
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
