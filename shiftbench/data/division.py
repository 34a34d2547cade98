"""Which of the images are used: a test split for those that come without one, and a few of many."""

from __future__ import annotations

import numpy as np

from shiftbench.errors import InputError
from shiftbench.images import evenly_spaced, take
from shiftbench.records import Split

TEST_SHARE = 0.2
FEWEST = 5


def divide(n: int) -> tuple[np.ndarray, np.ndarray]:
    """The positions, sorted, of the images to fit on and of the fifth to score, drawn with a fixed seed.

    Raises:
        InputError: fewer than five images.
    """
    if n < FEWEST:
        raise InputError(f"{n} images are too few to split into train and test: at least {FEWEST} are needed.")
    order = np.random.default_rng(0).permutation(n)
    n_test = max(1, round(n * TEST_SHARE))
    return np.sort(order[n_test:]), np.sort(order[:n_test])


def limited(split: Split, limit: int | None) -> Split:
    """The split cut to ``limit`` images, evenly spaced; None keeps all."""
    if limit is None or limit >= len(split):
        return split
    rows = evenly_spaced(len(split), limit)
    return Split(take(split.images, rows), None if split.labels is None else split.labels[rows])
