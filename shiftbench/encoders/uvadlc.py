"""Networks of the UvA deep learning tutorials (Lippe 2022): the CIFAR ResNet of tutorial 5, the autoencoder of 9."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import nn

NAME = "UvA-tutorial ResNet"
ANCHOR = r"blocks\.0\.net\.0\.weight"


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, a biased 1x1 convolution where the width doubles."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        stride = 1 if channels == width else 2
        self.net = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.downsample = nn.Conv2d(channels, width, 1, stride) if stride > 1 else None

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, width, H/stride, W/stride)."""
        return torch.relu(self.net(maps) + (maps if self.downsample is None else self.downsample(maps)))


class TutorialResNet(nn.Module):
    """(N, 3, H, W) -> (N, widths[-1]).

    Args:
        widths: output channels of each block; a block that changes the width halves the resolution.
    """

    stride = 4

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.input_net = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        pairs = zip([widths[0], *widths], widths, strict=False)
        self.blocks = nn.Sequential(*(Block(channels, width) for channels, width in pairs))
        self.feature_dim = widths[-1]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised float (N, 3, H, W) -> (N, widths[-1])."""
        maps: torch.Tensor = self.blocks(self.input_net(images))
        return maps.mean((2, 3))


class TutorialEncoder(nn.Module):
    """The encoder half of the convolutional autoencoder: (N, 3, 32, 32) -> (N, latent).

    Args:
        latent: width of the code.
        width: channels of the first convolution.
    """

    image_size = 32
    stride = 8

    def __init__(self, latent: int = 64, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels, following, stride in ((3, 1, 2), (1, 1, 1), (1, 2, 2), (2, 2, 1), (2, 2, 2)):
            inputs = 3 if channels == 3 else channels * width
            layers += [nn.Conv2d(inputs, following * width, 3, stride, 1), nn.GELU()]
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(2 * 16 * width, latent))
        self.feature_dim = latent

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised float (N, 3, 32, 32) -> (N, latent)."""
        latent: torch.Tensor = self.net(images)
        return latent


def resnet20() -> nn.Module:
    """Tutorial 5's ResNet: three times three blocks of 16, 32 and 64 channels.

    Examples:
        >>> resnet20().feature_dim
        64
    """
    return TutorialResNet([16] * 3 + [32] * 3 + [64] * 3)


def autoencoder64() -> nn.Module:
    """Tutorial 9's encoder with a code of 64 numbers; its inputs are scaled to -1..1 (``norm=half``).

    Examples:
        >>> autoencoder64().feature_dim
        64
    """
    return TutorialEncoder(64)


def rename(names: Sequence[str]) -> dict[str, str]:
    """New names for the names of other code bases: none here."""
    return {}


def infer(shapes: Mapping[str, Sequence[int]]) -> tuple[str, Callable[[], nn.Module]] | None:
    """Name and builder of the network with tensors of these names and shapes; None where it is of another kind."""
    numbers = sorted({int(match.group(1)) for name in shapes if (match := re.match(r"blocks\.(\d+)\.net\.0\.", name))})
    widths = [shapes.get(f"blocks.{number}.net.0.weight", ()) for number in numbers]
    if "input_net.0.weight" not in shapes or any(
        len(width) != 4 for width in widths
    ):  # pre-activation: BatchNorm first
        return None
    return f"uvadlc_resnet{2 * len(widths) + 2}", partial(TutorialResNet, [width[0] for width in widths])
