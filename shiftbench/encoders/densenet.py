"""DenseNet-BC (Huang et al. 2017), built by torchvision: the ImageNet networks, and those of three blocks for CIFAR."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch import nn

from shiftbench.runtime.compat import torchvision

NAME = "DenseNet-BC"
ANCHOR = r"(?:features\.denseblock1\.denselayer1\.norm\.?1|block1\.layer\.0\.bn1|dense1\.0\.bn1)\.weight"
OTHERS = (
    (r"^conv1\.", "features.conv0."),
    (r"^trans(\d+)\.bn1\.", r"features.transition\1.norm."),
    (r"^trans(\d+)\.conv1\.", r"features.transition\1.conv."),
    (r"^(?:bn1?|features\.norm_final)\.", "features.norm5."),
    (r"(denselayer\d+\.(?:norm|conv))\.(\d)\.", r"\1\2."),
)


def densenet_bc_100_12() -> nn.Module:
    """DenseNet-BC-100 with growth rate 12 for 32x32 images: (N, 3, H, W) -> (N, 342).

    Examples:
        >>> densenet_bc_100_12().feature_dim
        342
    """
    return _densenet(12, (16, 16, 16), 24, 4, small=True)


def rename(names: Sequence[str]) -> dict[str, str]:
    """New names for the names of other code bases (``dense1.0.bn1``, ``block1.layer.0.bn1``)."""

    def new(name: str) -> str:
        layer = re.match(r"(?:block|dense)(\d+)\.(?:layer\.)?(\d+)\.(bn|conv)(\d)\.(.*)", name)
        if layer:
            block, number, kind, place, rest = layer.groups()
            part = "norm" if kind == "bn" else "conv"
            return f"features.denseblock{block}.denselayer{int(number) + 1}.{part}{place}.{rest}"
        for pattern, replacement in OTHERS:
            name = re.sub(pattern, replacement, name)
        return name

    return {name: new(name) for name in names}


def infer(shapes: Mapping[str, Sequence[int]]) -> tuple[str, Callable[[], nn.Module]] | None:
    """Name and builder of the network with tensors of these names and shapes; None where it is of another kind."""
    first = "features.denseblock1.denselayer1"
    needed = ("features.conv0.weight", f"{first}.conv1.weight", f"{first}.conv2.weight", "features.norm5.weight")
    if not all(name in shapes for name in needed):
        return None
    stem, squeeze, grow, _ = (shapes[name] for name in needed)
    if len(squeeze) != 4 or squeeze[-1] != 1:  # a WideResNet in some code bases has the same names
        return None
    growth, small = grow[0], stem[-1] == 3
    layers = {
        match.groups() for name in shapes if (match := re.match(r"features\.denseblock(\d+)\.denselayer(\d+)\.", name))
    }
    count = max(int(block) for block, _ in layers)
    blocks = [sum(int(block) == number for block, _ in layers) for number in range(1, count + 1)]
    depth = 2 * sum(blocks) + len(blocks) + 1
    name = f"densenet_bc_{depth}_{growth}" if small else f"densenet{depth}"
    return name, partial(_densenet, growth, blocks, stem[0], squeeze[0] // growth, small)


def _densenet(growth: int, blocks: Sequence[int], stem: int, squeeze: int, small: bool) -> nn.Module:
    network = torchvision().models.DenseNet(growth, tuple(blocks), stem, squeeze, num_classes=1)
    network.feature_dim = network.classifier.in_features
    network.classifier = nn.Identity()
    network.stride = 2 ** (len(blocks) - 1) * (1 if small else 4)
    if small:
        network.features.conv0 = nn.Conv2d(3, stem, 3, 1, 1, bias=False)
        for part in ("norm0", "relu0", "pool0"):
            delattr(network.features, part)
    backbone: nn.Module = network
    return backbone
