"""Which of the images are used: a test split where there is none, and some of many."""

from __future__ import annotations

import numpy as np

from shiftbench.errors import InputError
from shiftbench.images import evenly_spaced, take
from shiftbench.records import Split

TEST_SHARE = 0.2
FEWEST_IMAGES = 5


def divide(n: int) -> tuple[np.ndarray, np.ndarray]:
    """The sorted positions of the images to fit on, and of a fifth to score, drawn with a fixed seed: int64 each.

    Raises:
        InputError: fewer than five images.

    Examples:
        >>> train, test = divide(10)
        >>> len(train), len(test)
        (8, 2)
    """
    if n < FEWEST_IMAGES:
        raise InputError(f"{n} images are too few to split into train and test: at least {FEWEST_IMAGES} are needed.")
    order = np.random.default_rng(0).permutation(n)
    n_test = max(1, round(n * TEST_SHARE))
    return np.sort(order[n_test:]), np.sort(order[:n_test])


def limited(split: Split, limit: int | None) -> Split:
    """The split cut to ``limit`` images, evenly spaced; None keeps all.

    Examples:
        >>> import torch
        >>> split = Split(torch.zeros(9, 3, 8, 8, dtype=torch.uint8), np.arange(9))
        >>> limited(split, 3).labels
        array([0, 4, 8])
    """
    if limit is None or limit >= len(split):
        return split
    rows = evenly_spaced(len(split), limit)
    return Split(take(split.images, rows), None if split.labels is None else split.labels[rows])
