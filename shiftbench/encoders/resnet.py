"""ResNets of four stages (He et al. 2016), built by torchvision, with the stem of ImageNet or of 32x32 images."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch import nn

from shiftbench.runtime.compat import torchvision

NAME = "ResNet"
ANCHOR = r"(?:layer1|\d)\.0\.conv1\.weight"
DEPTHS: dict[tuple[bool, tuple[int, ...]], str] = {
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (True, (3, 8, 36, 3)): "resnet152",
}


def resnet18_cifar() -> nn.Module:
    """ResNet-18 for 32x32 images (He et al. 2016): 3x3 stem of stride 1, no max-pooling; (N, 3, H, W) -> (N,
    512).

    Convolutions start as PyTorch starts them, which is what the published ConCURL code trains on the CIFAR
    sets.

    Examples:
        >>> import torch
        >>> with torch.device("meta"):
        ...     network = resnet18_cifar()
        >>> network.feature_dim
        512
    """
    return _resnet(False, (2, 2, 2, 2), small=True)


def resnet18() -> nn.Module:
    """ResNet-18 with the 7x7 stem for ImageNet-sized images (He et al. 2016): (N, 3, H, W) -> (N, 512).

    Examples:
        >>> import torch
        >>> with torch.device("meta"):
        ...     network = resnet18()
        >>> network.feature_dim
        512
    """
    return _resnet(False, (2, 2, 2, 2))


def resnet34() -> nn.Module:
    """ResNet-34 with the 7x7 stem for ImageNet-sized images (He et al. 2016): (N, 3, H, W) -> (N, 512).

    Examples:
        >>> import torch
        >>> with torch.device("meta"):
        ...     network = resnet34()
        >>> network.feature_dim
        512
    """
    return _resnet(False, (3, 4, 6, 3))


def resnet50() -> nn.Module:
    """ResNet-50, stride on the 3x3 convolution as in torchvision (He et al. 2016): (N, 3, H, W) -> (N, 2048).

    Examples:
        >>> import torch
        >>> with torch.device("meta"):
        ...     network = resnet50()
        >>> network.feature_dim
        2048
    """
    return _resnet(True, (3, 4, 6, 3))


def rename(names: Sequence[str]) -> dict[str, str]:
    """New names for the names of other code bases.

    The downsampling shortcut may be ``shortcut``. In ``nn.Sequential(*resnet.children())`` parts have numbers for
    names: the first convolution is 0 and its BatchNorm 1, and the four numbers that hold blocks are the stages,
    whichever of the activation and the pooling stand before them.
    """
    blocks = sorted({int(match.group(1)) for name in names if (match := re.match(r"(\d+)\.0\.conv1\.weight", name))})
    parts = {"0": "conv1", "1": "bn1"} | {str(number): f"layer{i}" for i, number in enumerate(blocks, 1)}
    if len(blocks) != 4:
        parts = {}
    renamed = {}
    for name in names:
        first, dot, rest = name.partition(".")
        renamed[name] = (parts.get(first, first) + dot + rest).replace(".shortcut.", ".downsample.")
    return renamed


def infer(shapes: Mapping[str, Sequence[int]]) -> tuple[str, Callable[[], nn.Module]] | None:
    """Name and builder of the network with tensors of these names and shapes; None where it is of another kind."""
    stem, first = shapes.get("conv1.weight", ()), shapes.get("layer1.0.conv2.weight", ())
    if (
        len(stem) != 4
        or stem[0] != 64
        or stem[-1] not in (3, 7)
        or len(first) != 4
        or "layer4.0.conv1.weight" not in shapes
    ):
        return None
    if shapes.get("layer2.0.bn1.weight") != shapes.get("layer2.0.conv1.weight", ())[:1]:  # BatchNorm comes first
        return None
    layers = tuple(len({n.split(".")[1] for n in shapes if n.startswith(f"layer{stage}.")}) for stage in (1, 2, 3, 4))
    deep, small = "layer1.0.conv3.weight" in shapes, stem[-1] == 3
    group_width = first[1]
    groups = first[0] // group_width
    name = DEPTHS.get((deep, layers), f"resnet[{','.join(map(str, layers))}]")
    name += f"_{groups}x{group_width}d" * (deep and (groups, group_width) != (1, 64)) + "_cifar" * small
    return name, partial(_resnet, deep, layers, small, groups, group_width if deep else 64)


def _resnet(deep: bool, layers: Sequence[int], small: bool = False, groups: int = 1, width: int = 64) -> nn.Module:
    resnet = torchvision().models.resnet
    block = resnet.Bottleneck if deep else resnet.BasicBlock
    network = resnet.ResNet(block, list(layers), groups=groups, width_per_group=width)
    network.feature_dim = network.fc.in_features
    network.stride = 8 if small else 32
    network.fc = nn.Identity()
    if small:
        network.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
        network.maxpool = nn.Identity()
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()
    backbone: nn.Module = network
    return backbone
