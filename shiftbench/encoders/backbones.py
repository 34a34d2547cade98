"""Networks that turn normalised images into one feature vector each, and the small heads that stand on them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
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
        A module float (N, 3, H, W) -> (N, D) with the attribute ``feature_dim`` = D. Our own also have ``stride``, the
        number of image pixels between two positions of their last feature map.

    Raises:
        InputError: no such backbone, or a backbone without ``feature_dim``.

    Examples:
        >>> build_backbone("small_cnn").feature_dim
        128
    """
    build = BACKBONES.load(name)
    try:
        backbone: nn.Module = build()
    except Exception as error:  # a user's own class may raise anything
        raise InputError(
            f"Backbone {name!r} cannot be built without arguments: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(getattr(backbone, "feature_dim", None), int):
        raise InputError(f"Backbone {name!r} needs an integer attribute feature_dim, the width of its output.")
    return backbone


class Head(nn.Sequential):
    """A linear map or a multi-layer perceptron on top of a backbone, (N, dims[0]) -> (N, dims[-1]).

    Args:
        dims: widths from the input to the output; two widths make a single linear layer.
        batch_norm: put BatchNorm before each ReLU.
        normalize: scale each output row to unit L2 norm.

    Raises:
        InputError: fewer than two widths.

    Examples:
        >>> head = Head([128, 64, 10], batch_norm=True)
        >>> head(torch.zeros(2, 128)).shape
        torch.Size([2, 10])
        >>> head.spec()
        {'dims': [128, 64, 10], 'batch_norm': True, 'normalize': False}
    """

    def __init__(self, dims: Sequence[int], *, batch_norm: bool = False, normalize: bool = False) -> None:
        super().__init__()
        if len(dims) < 2:
            raise InputError(f"A head needs at least an input and an output width, got dims={list(dims)}.")
        for number, (width, following) in enumerate(pairwise(dims)):
            if number:
                self.extend([nn.BatchNorm1d(width)] * batch_norm + [nn.ReLU(inplace=True)])
            self.append(nn.Linear(width, following))
        self._dims, self._batch_norm, self._normalize = [int(width) for width in dims], batch_norm, normalize

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, dims[0]) -> (N, dims[-1])."""
        for layer in self:
            features = layer(features)
        return nn.functional.normalize(features, dim=1) if self._normalize else features

    def spec(self) -> dict[str, Any]:
        """The arguments that build this head again: ``Head(**head.spec())``."""
        return {"dims": list(self._dims), "batch_norm": self._batch_norm, "normalize": self._normalize}


class SmallCNN(nn.Module):
    """Three convolutions and a linear layer, for small drawings on a plain ground (ours): (N, 3, H, W) -> (N, 128).

    The image is averaged over 2x2 pixels, by which enlarged 8x8 digits lose nothing, and standardised by its own mean and
    deviation: otherwise images are told apart by their amount of ink, which is the easiest answer to instance
    discrimination and of no use for clusters. The last map keeps 4x4 positions, since the place of a stroke matters.

    Examples:
        >>> SmallCNN()(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 128])
    """

    feature_dim = 128
    stride = 8

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width, following, stride in ((3, 16, 1), (16, 32, 2), (32, 64, 2)):
            layers += [nn.Conv2d(width, following, 3, stride=stride, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(following), nn.ReLU(inplace=True)]
        self.convolutions = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4))
        self.linear = nn.Sequential(nn.Linear(64 * 4 * 4, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU(inplace=True))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised float (N, 3, H, W) -> (N, 128)."""
        smaller = nn.functional.avg_pool2d(images, 2)
        standard = nn.functional.layer_norm(smaller, smaller.shape[1:])
        features: torch.Tensor = self.linear(self.convolutions(standard).flatten(1))
        return features


def small_cnn() -> nn.Module:
    """The network that learns the digits on a CPU in two minutes.

    Examples:
        >>> small_cnn().stride
        8
    """
    return SmallCNN()
