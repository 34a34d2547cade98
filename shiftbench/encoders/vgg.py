"""VGG (Simonyan & Zisserman 2015), built by torchvision: for ImageNet, and with the small heads used on CIFAR."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import nn

from shiftbench.runtime.compat import torchvision

NAME = "VGG"
ANCHOR = r"features\.0\.weight"
LINEAR = ("classifier.0.weight", "classifier.3.weight", "classifier.6.weight", "classifier.weight")
DEPTHS = {8: 11, 10: 13, 13: 16, 16: 19}


class VGG(nn.Module):
    """(N, 3, H, W) -> (N, D): the convolutions and all but the last linear layer.

    Args:
        plan: output channels of each convolution, "M" for max-pooling.
        batch_norm: BatchNorm after each convolution.
        side: the last map is averaged to this many positions a side.
        hidden: widths of the linear layers before the classifier.
    """

    stride = 16

    def __init__(self, plan: Sequence[int | str], batch_norm: bool, side: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.features = torchvision().models.vgg.make_layers(list(plan), batch_norm=batch_norm)
        self.pool = nn.AdaptiveAvgPool2d(side)
        width = next(int(step) for step in reversed(plan) if step != "M") * side**2
        layers: list[nn.Module] = []
        for following in hidden:
            layers += [nn.Linear(width, following), nn.ReLU(), nn.Dropout()]
            width = following
        self.classifier = nn.Sequential(*layers)
        self.feature_dim = width

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised float (N, 3, H, W) -> (N, D)."""
        features: torch.Tensor = self.classifier(self.pool(self.features(images)).flatten(1))
        return features


def vgg16_bn() -> nn.Module:
    """VGG-16 with BatchNorm as torchvision has it: (N, 3, H, W) -> (N, 4096).

    Examples:
        >>> import torch
        >>> with torch.device("meta"):
        ...     network = vgg16_bn()
        >>> network.feature_dim
        4096
    """
    vgg = torchvision().models.vgg
    return VGG(vgg.cfgs["D"], True, 7, (4096, 4096))


def rename(names: Sequence[str]) -> dict[str, str]:
    """New names for the names of other code bases: none here."""
    return {}


def infer(shapes: Mapping[str, Sequence[int]]) -> tuple[str, Callable[[], nn.Module]] | None:
    """Name and builder of the network with tensors of these names and shapes; None where it is of another kind.

    Between two convolutions lie an activation, BatchNorm where there is any, and one more place for max-pooling.
    """
    weights = {
        int(match.group(1)): name for name in shapes if (match := re.fullmatch(r"features\.(\d+)\.weight", name))
    }
    convolutions = {number: shapes[weights[number]] for number in sorted(weights) if len(shapes[weights[number]]) == 4}
    batch_norm = "features.1.running_mean" in shapes
    between = [later - number - 2 - batch_norm for number, later in pairwise(convolutions)]
    if len(convolutions) < 4 or not set(between) <= {0, 1} or "features.0.bias" not in shapes:
        return None
    if any(shape[-1] != 3 for shape in convolutions.values()):  # AlexNet
        return None
    plan: list[int | str] = []
    for shape, pooled in zip(convolutions.values(), [*between, 1], strict=True):
        plan += [shape[0], *["M"] * pooled]
    linear = [shapes[name] for name in LINEAR if name in shapes]
    channels = next(reversed(convolutions.values()))[0]
    side = max(1, round((linear[0][1] / channels) ** 0.5)) if linear else 1
    hidden = [shapes[name][0] for name in LINEAR[:2] if name in shapes]
    depth = DEPTHS.get(len(convolutions), len(convolutions) + len(linear))
    name = f"vgg{depth}" + "_bn" * batch_norm + "_cifar" * (side != 7)
    return name, partial(VGG, plan, batch_norm, side, hidden)
