"""A training run that takes a second: 48 small images, a small network, three steps an epoch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shiftbench.configs import compose

TINY = (
    "data=npz",
    "trainer.backbone=small_cnn",
    "trainer.epochs=3",
    "trainer.batch=16",
    "trainer.threads=1",
    "trainer.lr=0.05",
    "trainer.method.negatives=8",
    "trainer.method.hidden_dim=16",
    "trainer.method.cluster_dim=8",
    "trainer.method.transform_count=3",
    "trainer.method.projection_dim=4",
)


def write_images(path: Path, count: int = 60, size: int = 16, seed: int = 0) -> Path:
    """An ``.npz`` of random images with labels; a fifth of them becomes the test split."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    np.savez(path, images=images, labels=np.arange(count) % 3)
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """``tiny("trainer.epochs=2", ...)``: the configuration of such a run, on the CPU, below ``tmp_path``."""
    path = write_images(tmp_path / "tiny.npz")

    def config(*overrides: str) -> dict[str, Any]:
        return compose("train", [*TINY, "device=cpu", f"data.path='{path}'", f"runs='{tmp_path}/runs'", *overrides])

    return config
