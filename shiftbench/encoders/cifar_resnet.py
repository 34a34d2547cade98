"""ResNets for 32x32 images: of three stages (He et al. 2016, section 4.2), and a narrow ResNet-18 of four stages."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import nn
from torch.nn.functional import pad

NAME = "CIFAR ResNet"
ANCHOR = r"layer1\.0\.conv1\.weight"


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut: (N, C, H, W) -> (N, width, H/stride, W/stride).

    Where the shape changes, the shortcut takes every second pixel and adds empty channels (option A of the paper),
    or is a 1x1 convolution with BatchNorm (option B, ``projection``).
    """

    def __init__(self, channels: int, width: int, stride: int, projection: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.extra = stride, width - channels
        changes = stride > 1 or self.extra > 0
        self.downsample = (
            nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
            if changes and projection
            else None
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, width, H/stride, W/stride)."""
        hidden = torch.relu(self.bn1(self.conv1(maps)))
        return torch.relu(self.bn2(self.conv2(hidden)) + self._shortcut(maps))

    def _shortcut(self, maps: torch.Tensor) -> torch.Tensor:
        if self.downsample is not None:
            projected: torch.Tensor = self.downsample(maps)
            return projected
        if self.stride == 1 and not self.extra:
            return maps
        before = self.extra // 2
        return pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.extra - before))


class CifarResNet(nn.Module):
    """(N, 3, H, W) -> (N, widths[-1]).

    Args:
        blocks: residual blocks per stage; n in each of three makes a ResNet-(6n+2).
        widths: channels per stage.
        projection: option B shortcuts in place of option A.
    """

    def __init__(self, blocks: Sequence[int], widths: Sequence[int] = (16, 32, 64), projection: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        channels, self.stages = widths[0], [f"layer{number}" for number in range(1, len(blocks) + 1)]
        for stage, (name, count, width) in enumerate(zip(self.stages, blocks, widths, strict=True)):
            layers = [
                Block(channels if i == 0 else width, width, 2 if stage and i == 0 else 1, projection)
                for i in range(count)
            ]
            self.add_module(name, nn.Sequential(*layers))
            channels = width
        self.feature_dim, self.stride = channels, 2 ** (len(blocks) - 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised float (N, 3, H, W) -> (N, widths[-1])."""
        maps = torch.relu(self.bn1(self.conv1(images)))
        for name in self.stages:
            maps = self.get_submodule(name)(maps)
        return maps.mean((2, 3))


def resnet8() -> nn.Module:
    """ResNet-8: 0.08 million parameters, option A shortcuts; small enough to be trained on a CPU.

    Examples:
        >>> resnet8().feature_dim
        64
    """
    return CifarResNet((1, 1, 1))


def resnet18_narrow() -> nn.Module:
    """ResNet-18 for 32x32 images with a quarter of the channels, 16 to 128 (ours): 0.7 million parameters.

    It has a sixteenth of the full network's operations, so that a CPU core can train it.

    Examples:
        >>> resnet18_narrow().feature_dim
        128
    """
    return CifarResNet((2, 2, 2, 2), (16, 32, 64, 128), projection=True)


def resnet20() -> nn.Module:
    """ResNet-20: 0.27 million parameters, option A shortcuts.

    Examples:
        >>> resnet20().feature_dim
        64
    """
    return CifarResNet((3, 3, 3))


def resnet32() -> nn.Module:
    """ResNet-32: 0.46 million parameters, option A shortcuts.

    Examples:
        >>> resnet32().feature_dim
        64
    """
    return CifarResNet((5, 5, 5))


def resnet44() -> nn.Module:
    """ResNet-44: 0.66 million parameters, option A shortcuts.

    Examples:
        >>> resnet44().feature_dim
        64
    """
    return CifarResNet((7, 7, 7))


def resnet56() -> nn.Module:
    """ResNet-56: 0.85 million parameters, option A shortcuts.

    Examples:
        >>> resnet56().feature_dim
        64
    """
    return CifarResNet((9, 9, 9))


def rename(names: Sequence[str]) -> dict[str, str]:
    """New names for the names of other code bases: their downsampling shortcut is ``shortcut``."""
    return {name: name.replace(".shortcut.", ".downsample.") for name in names}


def infer(shapes: Mapping[str, Sequence[int]]) -> tuple[str, Callable[[], nn.Module]] | None:
    """Name and builder of the network with tensors of these names and shapes; None where it is of another kind."""
    stages = sorted({int(match.group(1)) for name in shapes if (match := re.match(r"layer(\d+)\.", name))})
    wide = stages == [1, 2, 3, 4] and shapes.get("conv1.weight", ())[:1] == (64,)  # torchvision's, see resnet.py
    if stages not in ([1, 2, 3], [1, 2, 3, 4]) or wide or "layer1.0.conv3.weight" in shapes:
        return None
    firsts = [shapes.get(f"layer{stage}.0.conv1.weight", ()) for stage in stages]
    if shapes.get("layer2.0.bn1.weight") != firsts[1][:1] or shapes.get("conv1.weight", ())[1:] != (3, 3, 3):
        return None  # BatchNorm before the convolution, or another stem: other networks
    widths = [first[0] for first in firsts]
    blocks = [len({name.split(".")[1] for name in shapes if name.startswith(f"layer{stage}.")}) for stage in stages]
    projection = "layer2.0.downsample.0.weight" in shapes
    name = f"resnet{2 * sum(blocks) + 2}"
    if (blocks, widths, projection) == ([2, 2, 2, 2], [16, 32, 64, 128], True):
        name += "_narrow"
    else:
        name += "_projection" * projection
        name += "" if widths == [16, 32, 64] else f"[{','.join(map(str, widths))}]"
    return name, partial(CifarResNet, blocks, widths, projection)
