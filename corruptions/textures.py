"""The photographed frost textures, read from the installed imagecorruptions package without importing it."""

from __future__ import annotations

import importlib.util
from functools import cache, lru_cache
from math import ceil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from shiftbench.corruptions.backend import to_uint8
from shiftbench.corruptions.colour import luma
from shiftbench.corruptions.linear import resize, separable
from shiftbench.errors import InputError

_NAMES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")


@lru_cache(maxsize=16)
def textures(factor: float, channels: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The five textures, resized for an image size.

    Args:
        factor: the table's resize factor, :attr:`SeverityTable.frost`.
        channels: 3, or 1 for grey textures.
        height: of the images in pixels.
        width: of the images in pixels.

    Returns:
        All pixels, uint8 (channels, P); the textures' (height, width), int64 (5, 2); the first pixel of each, int64 (5,).

    Raises:
        InputError: imagecorruptions is not installed.
    """
    resized = [_resized(texture, factor, height, width) for texture in _originals()]
    if channels == 1:
        resized = [to_uint8(luma(texture[None].float())[0], nudge=0.5) for texture in resized]
    shape = torch.tensor([texture.shape[1:] for texture in resized])
    sizes = shape.prod(1)
    return torch.cat([texture.flatten(1) for texture in resized], 1), shape, sizes.cumsum(0) - sizes


def _resized(texture: Tensor, factor: float, height: int, width: int) -> Tensor:
    """A texture (3, h, w) shrunk linearly, or enlarged cubically until it covers the image by a tenth more."""
    h, w = texture.shape[1:]
    covers = factor * h > height and factor * w > width
    if covers and factor == 1:
        return texture
    if covers and factor < 1:
        size = round(h * factor), round(w * factor)
        rows, columns = (resize(n, m, 1 / factor, cubic=False) for n, m in zip((h, w), size, strict=True))
    else:
        scale = 1.1 * max(height / h, width / w, min(factor, 1.0) if factor >= 1 else 0.0)
        size = ceil(h * scale), ceil(w * scale)
        rows, columns = (resize(n, m, n / m, cubic=True) for n, m in zip((h, w), size, strict=True))
    return to_uint8(separable(texture[None].float(), rows, columns)[0], nudge=0.5)


@cache
def _originals() -> list[Tensor]:
    """uint8 (3, h, w) each."""
    spec = importlib.util.find_spec("imagecorruptions")
    if spec is None or spec.origin is None:
        raise InputError("frost needs the textures of the package imagecorruptions: pip install imagecorruptions.")
    pictures = []
    for name in _NAMES:
        with Image.open(Path(spec.origin).parent / "frost" / name) as picture:
            pixels = np.array(picture)[..., :3]  # drops an opaque alpha channel
            pictures.append(torch.from_numpy(pixels.transpose(2, 0, 1).copy()))
    return pictures
