"""Networks that turn normalised images into one feature vector each, and the small heads that stand on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from shiftbench.errors import InputError
from shiftbench.registry import BACKBONES


def build_backbone(name: str) -> nn.Module:
    """Build a registered backbone with fresh random weights.

    Args:
        name: a name of the registry, or ``package.module:function``.

    Returns:
        A module float (N, 3, H, W) -> (N, D) with the attribute ``feature_dim`` = D. Ours also say how many image
        pixels lie between two positions of their last feature map (``stride``).

    Raises:
        InputError: no such backbone, or it does not say its ``feature_dim``.
    """
    backbone = BACKBONES.load(name)()
    if not isinstance(getattr(backbone, "feature_dim", None), int):
        raise InputError(f"Backbone {name!r} needs an integer attribute feature_dim, the width of its output.")
    return backbone


class Head(nn.Sequential):
    """A linear map or a multi-layer perceptron on top of a backbone, (N, dims[0]) -> (N, dims[-1]).

    Args:
        dims: widths from the input to the output; two of them make a single linear layer.
        batch_norm: put BatchNorm before each ReLU.
        normalize: scale each output row to unit L2 norm.

    Raises:
        InputError: fewer than two widths.
    """

    def __init__(self, dims: Sequence[int], *, batch_norm: bool = False, normalize: bool = False) -> None:
        super().__init__()
        if len(dims) < 2:
            raise InputError(f"A head needs at least an input and an output width, got dims={list(dims)}.")
        for number, (width, following) in enumerate(zip(dims[:-1], dims[1:], strict=True)):
            if number:
                self.append(nn.BatchNorm1d(width) if batch_norm else nn.Identity())
                self.append(nn.ReLU(inplace=True))
            self.append(nn.Linear(width, following))
        self._spec = {"dims": [int(width) for width in dims], "batch_norm": batch_norm, "normalize": normalize}

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, dims[0]) -> (N, dims[-1])."""
        output = super().forward(features)
        return nn.functional.normalize(output, dim=1) if self._spec["normalize"] else output

    def spec(self) -> dict[str, Any]:
        """The arguments that build this head again: ``Head(**head.spec())``."""
        return {**self._spec, "dims": list(self._spec["dims"])}


class SmallCNN(nn.Module):
    """Four 3x3 convolutions with BatchNorm and ReLU, then the mean over positions: (N, 3, H, W) -> (N, 128).

    The image is first averaged over 2x2 pixels: small pictures such as the enlarged 8x8 digits lose nothing by it,
    and everything after costs a quarter.
    """

    feature_dim = 128
    stride = 8

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.AvgPool2d(2)]
        for width, following, stride in ((3, 32, 1), (32, 64, 2), (64, 128, 2), (128, 128, 1)):
            convolution = nn.Conv2d(width, following, 3, stride=stride, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(following), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised float (N, 3, H, W) -> (N, 128)."""
        return self.layers(images).mean(dim=(2, 3))


def small_cnn() -> nn.Module:
    """The network that learns digits on a CPU in two minutes (ours)."""
    return SmallCNN()


def resnet18_cifar() -> nn.Module:
    """ResNet-18 for 32x32 images (He et al. 2016): 3x3 stem of stride 1, no max-pooling; (N, 3, H, W) -> (N, 512).

    Convolutions start as PyTorch starts them, which is what the published ConCURL code trains on the CIFAR sets.
    """
    network = _torchvision_resnet("resnet18", stride=8)
    network.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    network.maxpool = nn.Identity()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    return network


def resnet18() -> nn.Module:
    """ResNet-18 with the 7x7 stem for ImageNet-sized images (He et al. 2016): (N, 3, H, W) -> (N, 512)."""
    return _torchvision_resnet("resnet18", stride=32)


def resnet50() -> nn.Module:
    """ResNet-50, stride on the 3x3 convolution as in torchvision (He et al. 2016): (N, 3, H, W) -> (N, 2048)."""
    return _torchvision_resnet("resnet50", stride=32)


def _torchvision_resnet(name: str, stride: int) -> Any:
    from torchvision.models import get_model

    network = get_model(name, weights=None)
    network.feature_dim = network.fc.in_features
    network.stride = stride
    network.fc = nn.Identity()
    return network
