"""A training run that takes a second: 48 small images, a small network, three steps an epoch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from shiftbench.configs import compose
from shiftbench.registry import METHODS
from shiftbench.trainers.base import Method
from shiftbench.trainers.options import accepted

TINY = (
    "data=npz",
    "trainer.backbone=small_cnn",
    "trainer.epochs=3",
    "trainer.batch=16",
    "trainer.threads=1",
    "trainer.optimizer=sgd",
    "trainer.lr=0.05",
    "trainer.warmup=0",
    "trainer.final_lr=0",
    "trainer.drop_last=false",
    "trainer.augmentation.size=null",
)


def small(method: str) -> dict[str, int]:
    """Whole numbers of a method that are larger than 16, such as widths of heads, brought down to 16."""
    defaults = {name: parameter.default for name, parameter in accepted(METHODS.load(method)).items()}
    return {name: 16 for name, default in defaults.items() if type(default) is int and default > 16}


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
        method = next((text.removeprefix("method=") for text in overrides if text.startswith("method=")), "concurl")
        sizes = [f"trainer.method.{name}={value}" for name, value in small(method).items()]
        own = ["device=cpu", f"data.path='{path}'", f"runs='{tmp_path}/runs'"]
        return compose("train", [*TINY, *sizes, *own, *overrides])

    return config


class Flatten(nn.Module):
    """A backbone small enough for tests of losses: (B, 3, 4, 4) -> (B, 16)."""

    feature_dim = 16
    stride = 1

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 4 * 4, 16)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images.flatten(1)).relu()


@pytest.fixture
def build() -> Callable[..., Method]:
    """``build("idfd", temperature=0.5)``: that method on a tiny backbone, 40 images, 5 clusters, seed 0."""

    def made(name: str, *, seed: int = 0, k: int = 5, **options: Any) -> Method:
        torch.manual_seed(seed)
        return METHODS.load(name)(Flatten(), samples=40, k=k, **{**small(name), **options})

    return made


@pytest.fixture
def train_steps() -> Callable[..., list[dict[str, torch.Tensor]]]:
    """``train_steps(method, 3)``: what the engine does, by hand, with SGD; returns the terms of each step.

    ``same=True`` shows the same views again and again.
    """

    def steps(method: Method, count: int, lr: float = 0.1, same: bool = False) -> list[dict[str, torch.Tensor]]:
        groups = [{"params": group["params"], "lr": lr * group["lr_scale"]} for group in method.parameter_groups()]
        optimizer = torch.optim.SGD(groups, momentum=0.9, weight_decay=5e-4)
        with torch.no_grad():
            method.before_epoch(0, count, lambda: iter([pictures(40, 99)]))
        seen = []
        for step in range(count):
            torch.manual_seed(step)
            first = 0 if same else 3 * step
            with torch.no_grad():
                method.before_step()
            terms = method.losses([pictures(10, first + view) for view in range(method.views)], torch.arange(10))
            optimizer.zero_grad()
            sum(terms.values()).backward()
            optimizer.step()
            with torch.no_grad():
                method.complete()
                method.after_step()
            seen.append({name: term.detach() for name, term in terms.items()})
        return seen

    return steps


def pictures(count: int, seed: int) -> torch.Tensor:
    """Normalised images (count, 3, 4, 4)."""
    return torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
