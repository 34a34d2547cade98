"""The embedded data set: real handwritten digits that ship with scikit-learn."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from shiftbench.errors import InputError
from shiftbench.records import Dataset, Split

SIZE, TEST = 32, 360


def load(path: str | None = None) -> Dataset:
    """1,797 digits as uint8 (N, 3, 32, 32): 1,437 to fit on, 360 to score, stratified by class, always the same split.

    The originals are 8x8 with values 0..16 (Alpaydin & Kaynak 1998, UCI); they are enlarged bilinearly by Pillow,
    whose integer arithmetic gives the same bytes on every machine.

    Args:
        path: not used by this data set; giving one is an error.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    if path is not None:
        raise InputError(f"The digits come with scikit-learn and take no data.path (got {path!r}).")
    digits = load_digits()
    images = torch.from_numpy(np.stack([_enlarge(image) for image in digits.images]))
    labels = digits.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(labels)), test_size=TEST, stratify=labels, random_state=0)
    fit, score = (Split(images[rows], labels[rows]) for rows in (np.sort(train), np.sort(test)))
    return Dataset("digits", fit, score, tuple("0123456789"))


def _enlarge(image: np.ndarray) -> np.ndarray:
    grey = Image.fromarray(np.round(image * (255 / 16)).astype(np.uint8))
    grey = grey.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return np.repeat(np.asarray(grey)[None], 3, axis=0)
