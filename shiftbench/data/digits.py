"""The embedded data set: real handwritten digits that ship with scikit-learn."""

from __future__ import annotations

import numpy as np
import torch

from shiftbench.data.sources import data_root
from shiftbench.images import resize
from shiftbench.records import Dataset, Split

SIZE, TEST = 32, 360


def load(root: str | None = None, size: int = SIZE) -> Dataset:
    """1,797 digits as uint8 (N, 3, 32, 32): 1,437 to fit on, 360 to score, stratified by class, always the same split.

    The originals are 8x8 with values 0..16 (Alpaydin & Kaynak 1998, UCI); they are enlarged bilinearly by Pillow,
    whose integer arithmetic gives the same bytes on every machine.

    Args:
        root: the folder in which the files of their shifts (MNIST, USPS) are looked for; the digits need no file.
        size: height and width.

    Raises:
        InputError: a ``size`` that is no number of pixels.

    Examples:
        >>> digits = load(size=16)
        >>> digits.test.images.shape, digits.test.labels[:3]
        (torch.Size([360, 3, 16, 16]), array([1, 4, 8]))
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    grey = torch.from_numpy(np.round(digits.images * (255 / 16)).astype(np.uint8))
    images = resize(grey[:, None].repeat(1, 3, 1, 1), size)
    labels = digits.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(labels)), test_size=TEST, stratify=labels, random_state=0)
    fit, score = (Split(images[rows], labels[rows]) for rows in (np.sort(train), np.sort(test)))
    return Dataset("digits", fit, score, tuple("0123456789"), root=str(data_root(root)))
