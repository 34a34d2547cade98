"""From uint8 images to the input of a network, and the options of a URI that say how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from shiftbench.errors import InputError, unknown

INTERPOLATIONS = ("bilinear", "bicubic", "nearest")
NORMS = {
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    "mnist": ((0.1307,) * 3, (0.3081,) * 3),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}


class Preprocess(nn.Module):
    """uint8 (N, 3, H, W) -> normalised float32 (N, 3, size, size). Part of the encoder, saved with it.

    Resized pixels are rounded and clipped to 0..255, as in the pipelines that networks were trained with; bilinear and
    bicubic are antialiased. torchvision's and PIL's transforms of the same images give the same pixels, but for rounding:
    a level of 255 at most, or for noise images two levels at less than a thousandth of the pixels.

    Args:
        mean, std: per channel, on the 0..1 scale.
        size: side of the network's input; None takes images as they are.
        crop: None stretches images to (size, size). A number in (0, 1] keeps their aspect: the shorter side becomes
            ``size / crop`` (rounded down), and the central (size, size) is cut out.
        interpolation: "bilinear", "bicubic" or "nearest".

    Raises:
        InputError: an impossible size or crop, or an unknown interpolation.

    Examples:
        >>> preprocess = Preprocess(*NORMS["half"], size=16)
        >>> preprocess(torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)).unique()
        tensor([1.])
        >>> preprocess.describe()["size"]
        16
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        size: int | None = None,
        *,
        crop: float | None = None,
        interpolation: str = "bilinear",
    ) -> None:
        super().__init__()
        if size is not None and not (isinstance(size, int) and size >= 1):
            raise InputError(f"size={size}: a whole number of pixels is needed.")
        if crop is not None and not (size is not None and 0 < crop <= 1):
            raise InputError(f"crop={crop}: a share of the image in (0, 1] is needed, beside a size.")
        if interpolation not in INTERPOLATIONS:
            raise unknown("interpolation", interpolation, INTERPOLATIONS)
        self.size, self.crop, self.interpolation = size, crop, interpolation
        self._mean, self._std = [float(value) for value in mean], [float(value) for value in std]
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1) * 255, persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise a batch on the device it is on."""
        return (self._resized(images).float() - self.mean) / self.std

    def describe(self) -> dict[str, Any]:
        """Plain values from which the same preprocessing is built: ``Preprocess(**preprocess.describe())``."""
        about: dict[str, Any] = {"mean": self._mean, "std": self._std, "size": self.size}
        if self.size is not None:
            about |= {"crop": self.crop, "interpolation": self.interpolation}
        return about

    def _resized(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[-2:]
        if self.size is None or (self.crop is None and (height, width) == (self.size, self.size)):
            return images
        if self.crop is None:
            return self._interpolated(images, self.size, self.size)
        shorter = int(self.size / self.crop + 1e-6)  # 224 / (224 / 232) must not become 231
        scaled = [int(shorter * side / min(height, width)) for side in (height, width)]
        images = self._interpolated(images, *scaled)
        top, left = (round((side - self.size) / 2) for side in scaled)
        return images[..., top : top + self.size, left : left + self.size]

    def _interpolated(self, images: torch.Tensor, height: int, width: int) -> torch.Tensor:
        if tuple(images.shape[-2:]) == (height, width):
            return images
        pixels = images.float()
        if self.interpolation == "nearest":
            return nn.functional.interpolate(pixels, (height, width), mode="nearest")
        for shape in ((images.shape[-2], width), (height, width)):  # bicubic overshoots: PIL cuts after each direction
            pixels = nn.functional.interpolate(pixels, shape, mode=self.interpolation, antialias=True)
            pixels = pixels.add_(0.5).floor_().clamp_(0, 255)  # halves go up, as in integer arithmetic
        return pixels


def normalisation(norm: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, on the 0..1 scale.

    Args:
        norm: a name of ``NORMS``, or the numbers themselves: ``0.5,0.5,0.5/0.2,0.2,0.2``.

    Raises:
        InputError: neither a name nor three means and three deviations, or a deviation that is not positive.

    Examples:
        >>> normalisation("0.5,0.5,0.5/0.2,0.2,0.2")
        ((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    """
    if norm in NORMS:
        return NORMS[norm]
    if "/" not in norm:
        raise unknown("norm", norm, [*NORMS, "MEAN,MEAN,MEAN/STD,STD,STD"])
    try:
        mean, std = (tuple(float(number) for number in part.split(",")) for part in norm.split("/"))
    except ValueError as error:
        raise InputError(f"norm={norm}: three means, a slash and three deviations are needed.") from error
    if len(mean) != 3 or len(std) != 3 or not min(std) > 0 or not max(map(abs, mean + std)) < 1e3:
        raise InputError(
            f"norm={norm}: three means, a slash and three positive deviations are needed, on the 0..1 scale."
        )
    return mean, std


def preprocessing(
    where: str,
    *,
    norm: str | None = None,
    size: str | int | None = None,
    crop: str | float | None = None,
    interpolation: str = "bilinear",
    default_size: int | None = None,
) -> Preprocess:
    """The preprocessing that a URI asks for.

    Args:
        where: the checkpoint, for messages.
        norm: input normalisation, as :func:`normalisation` takes it. It is needed, since no state dict says it.
        size: side of the network's input in pixels; None takes images as they are.
        crop: share of the image's shorter side that is cut out, in (0, 1]; None stretches the whole image.
        interpolation: "bilinear", "bicubic" or "nearest".
        default_size: the size without ``size``.

    Raises:
        InputError: a norm that is missing or unknown, a size that is no whole number from 8 to 4096, or a crop outside
            (0, 1].

    Examples:
        >>> preprocessing("weights.pt", norm="imagenet", size="224", crop="0.875").crop
        0.875
    """
    if norm is None:
        raise InputError(
            f"{where} does not say how its images were normalised: add ?norm= with one of {', '.join(NORMS)}, "
            "or MEAN,MEAN,MEAN/STD,STD,STD."
        )
    if size is not None and not (str(size).isdigit() and 8 <= int(size) <= 4096):
        raise InputError(f"size={size}: a whole number of pixels, 8 to 4096, is needed.")
    try:
        share = None if crop is None else float(crop)
    except ValueError as error:
        raise InputError(f"crop={crop}: a share of the image in (0, 1] is needed.") from error
    mean, std = normalisation(norm)
    return Preprocess(mean, std, int(size) if size else default_size, crop=share, interpolation=interpolation)


def flag(name: str, value: str | bool) -> bool:
    """A yes or no that may have come from a URI.

    Raises:
        InputError: neither true nor false.

    Examples:
        >>> flag("l2", "true")
        True
    """
    known = {"true": True, "false": False}
    if str(value).lower() not in known:
        raise InputError(f"{name}={value}: use true or false.")
    return known[str(value).lower()]
