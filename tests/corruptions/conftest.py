"""Images and draws for the corruptions' tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor

from shiftbench.corruptions import backend
from shiftbench.corruptions.sampling import Draws
from shiftbench.runtime import compat


@pytest.fixture(scope="session")
def photographs() -> Callable[..., Tensor]:
    """``photographs(n, height, width)``: crops of scikit-learn's two photographs, uint8 (n, 3, height, width)."""
    sources = [Image.fromarray(picture) for picture in load_sample_images().images]

    def crops(n: int, height: int = 32, width: int = 32) -> Tensor:
        chooser = np.random.default_rng(0)
        pictures = []
        for i in range(n):
            source = sources[i % 2]
            side = int(chooser.integers(160, 400))
            left, top = chooser.integers(0, source.width - side), chooser.integers(0, source.height - side)
            crop = source.crop((int(left), int(top), int(left) + side, int(top) + side)).resize((width, height))
            pictures.append(np.asarray(crop))
        return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()

    return crops


@pytest.fixture(scope="session")
def images(photographs: Callable[..., Tensor]) -> Tensor:
    """Ten photographs, an image of noise and a plain one, uint8 (12, 3, 32, 32)."""
    noise = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return torch.cat([photographs(10), noise, torch.full_like(noise, 200)])


@pytest.fixture(scope="session")
def cifar_test(real_data: Path) -> Tensor:
    """CIFAR-10's test images, uint8 (10000, 3, 32, 32)."""
    batch = np.load(real_data / "cifar-10-batches-py" / "test_batch", allow_pickle=True, encoding="bytes")
    return torch.from_numpy(batch[b"data"].reshape(-1, 3, 32, 32).copy())


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """The package imagecorruptions, repaired."""
    return compat.imagecorruptions()


@pytest.fixture
def tensor_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sends the CPU down the path that other devices take."""
    monkeypatch.setattr(backend, "compiled", lambda _: False)
    return


class Recorded(Draws):
    """Draws that were recorded elsewhere.

    Each keyword is the method's initial and the field, its value (N, ...): ``u0`` for field 0 of uniform in [0, 1),
    ``n0`` standard normal, ``i0`` integers.
    """

    def __init__(self, **recorded: np.ndarray) -> None:
        self.recorded = recorded

    def _get(self, key: str, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(self.recorded[key]).reshape(-1, *shape)

    def uniform(self, shape: tuple[int, ...], low: float, high: float, field: int) -> Tensor:
        return (low + (high - low) * self._get(f"u{field}", shape)).float()

    def normal(self, shape: tuple[int, ...], mean: float, std: float, field: int) -> Tensor:
        return (mean + std * self._get(f"n{field}", shape)).float()

    def integers(self, shape: tuple[int, ...], stop: int, field: int) -> Tensor:
        return self._get(f"i{field}", shape).to(torch.uint8)


@pytest.fixture(scope="session")
def recorded() -> type[Recorded]:
    return Recorded
