"""A data set small enough to evaluate in a second, and encoders whose behaviour is known."""

import numpy as np
import pytest
import torch

from shiftbench.encoders.base import Encoder
from shiftbench.records import Dataset, Split


def make_split(seed, n):
    """Three classes told apart by which colour channel is bright; noise elsewhere."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    images = rng.integers(0, 60, (n, 3, 16, 16))
    images[np.arange(n), labels] += 150
    return Split(torch.from_numpy(images.astype(np.uint8)), labels.astype(np.int64))


@pytest.fixture
def colours():
    return Dataset("colours", make_split(0, 60), make_split(1, 30), ("red", "green", "blue"))


@pytest.fixture
def means():
    """Channel means: separates the colours perfectly."""

    def compute(images):
        return {"backbone": images.float().mean(dim=(2, 3)) / 255}

    return Encoder("means", compute, fingerprint="means")


@pytest.fixture
def small(colours, tmp_path):
    """Arguments of a quick evaluation."""
    return {
        "data": colours,
        "floors": [],
        "seeds": 3,
        "shift": ["gaussian_noise-5", "fog-1"],
        "results": tmp_path / "r",
    }
