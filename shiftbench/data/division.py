"""How images that come without a test split are divided."""

from __future__ import annotations

import numpy as np

from shiftbench.errors import InputError

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
