"""Wide ResNets for 32x32 images (Zagoruyko & Komodakis 2016): WRN-28-10, WRN-40-2, WRN-16-8."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import nn

NAME = "WideResNet"
ANCHOR = r"block1\.layer\.0\.conv1\.weight"


class Block(nn.Module):
    """BatchNorm, ReLU and a 3x3 convolution, twice, beside a shortcut: (N, C, H, W) -> (N, width, H/stride, W/stride).

    Where the width changes, the first activation feeds the 1x1 shortcut too.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.convShortcut = nn.Conv2d(channels, width, 1, stride, bias=False) if channels != width else None

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, width, H/stride, W/stride)."""
        active = torch.relu(self.bn1(maps))
        shortcut = maps if self.convShortcut is None else self.convShortcut(active)
        output: torch.Tensor = shortcut + self.conv2(torch.relu(self.bn2(self.conv1(active))))
        return output


class Stage(nn.Module):
    """Blocks of one width, the first of which takes the stride."""

    def __init__(self, count: int, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(*(Block(width if i else channels, width, 1 if i else stride) for i in range(count)))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, width, H/stride, W/stride)."""
        output: torch.Tensor = self.layer(maps)
        return output


class WideResNet(nn.Module):
    """(N, 3, H, W) -> (N, 64*widen).

    Args:
        count: blocks per stage; a WRN-d-k has (d - 4) / 6.
        widen: the widening factor k.
    """

    stride = 4

    def __init__(self, count: int, widen: int) -> None:
        super().__init__()
        widths = (16 * widen, 32 * widen, 64 * widen)
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.block1 = Stage(count, 16, widths[0], 1)
        self.block2 = Stage(count, widths[0], widths[1], 2)
        self.block3 = Stage(count, widths[1], widths[2], 2)
        self.bn1 = nn.BatchNorm2d(widths[2])
        self.feature_dim = widths[2]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised float (N, 3, H, W) -> (N, 64*widen)."""
        maps = self.block3(self.block2(self.block1(self.conv1(images))))
        return torch.relu(self.bn1(maps)).mean((2, 3))


def wrn28_10() -> nn.Module:
    """WRN-28-10: 36.5 million parameters, (N, 3, H, W) -> (N, 640).

    Examples:
        >>> import torch
        >>> with torch.device("meta"):
        ...     network = wrn28_10()
        >>> network.feature_dim
        640
    """
    return WideResNet(4, 10)


def wrn40_2() -> nn.Module:
    """WRN-40-2: 2.2 million parameters, (N, 3, H, W) -> (N, 128).

    Examples:
        >>> wrn40_2().feature_dim
        128
    """
    return WideResNet(6, 2)


def rename(names: Sequence[str]) -> dict[str, str]:
    """New names for the names of other code bases: none here."""
    return {}


def infer(shapes: Mapping[str, Sequence[int]]) -> tuple[str, Callable[[], nn.Module]] | None:
    """Name and builder of the network with tensors of these names and shapes; None where it is of another kind."""
    width, stem = shapes.get("block1.layer.0.conv1.weight", (0,))[0], shapes.get("conv1.weight", ())
    if tuple(stem) != (16, 3, 3, 3) or width % 16 or "block3.layer.0.conv2.weight" not in shapes:
        return None
    count = len({match.group(1) for name in shapes if (match := re.match(r"block1\.layer\.(\d+)\.", name))})
    return f"wrn{6 * count + 4}_{width // 16}", partial(WideResNet, count, width // 16)
