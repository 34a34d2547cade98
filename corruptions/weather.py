"""Weather (Hendrycks & Dietterich 2019): snow, frost, fog, brightness, and spatter on the lens."""

from __future__ import annotations

import importlib.util
from functools import cache
from math import ceil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from shiftbench.corruptions.blur import motion
from shiftbench.corruptions.colour import shift_hsv
from shiftbench.corruptions.droplets import droplets
from shiftbench.corruptions.backend import to_uint8
from shiftbench.corruptions.linear import gaussian, resize, separable, zoom
from shiftbench.corruptions.sampling import Draws
from shiftbench.corruptions.severity import Row, Table
from shiftbench.errors import InputError

_LUMA = (0.299, 0.587, 0.114)
_WATER = (175.0, 238.0, 238.0)
_MUD = (63.0, 42.0, 20.0)


def snow(images: Tensor, constants: Row, table: Table, draws: Draws) -> Tensor:
    """Flakes, blurred along their fall, and the same turned by 180 degrees, over a whitened image.

    The published scripts cut the flake layer to 8 bit before its blur, imagecorruptions rounds it after.

    Constants: (mean and standard deviation of the flakes, their size, threshold, radius and standard deviation of the
    motion blur in pixels, weight of the image against its whitened self).
    """
    mean, std, size, threshold, radius, sigma, weight = constants
    height, width = images.shape[2:]
    keep = "centre" if table.published else "all"
    layer = draws.normal((1, height, width), mean, std, 0).float()
    layer = separable(layer, zoom(height, size, keep), zoom(width, size, keep))
    layer = torch.where(layer < threshold, 0.0, layer.clamp(0, 1)) * 255
    if table.published:
        layer = layer.floor()
    layer = motion(layer, radius, sigma, draws.uniform((), -135, -45, 1), table).round()
    layer = layer[..., :height, :width]
    x = images.float()
    grey = _luma(x)
    x = weight * x + (1 - weight) * torch.maximum(x, grey * 1.5 + 127.5)
    return to_uint8(x + layer + layer.flip(-1, -2))


def _luma(x: Tensor) -> Tensor:
    if x.shape[1] == 1:
        return x
    return (x * torch.tensor(_LUMA, device=x.device)[:, None, None]).sum(1, keepdim=True)


def frost(images: Tensor, constants: Row, table: Table, draws: Draws) -> Tensor:
    """Add a random crop of one of five photographed frost textures; constants: (weight of image, weight of frost).

    The published code lists six textures and draws the first five; so do we. A texture that is smaller than the image
    is enlarged until it covers it by a tenth more, as imagecorruptions does.
    """
    channels, height, width = images.shape[1:]
    pixels, shape, start = (part.to(images.device) for part in _textures(table.frost, height, width))
    place = draws.uniform((3,), 0, 1, 0)
    which = (place[:, 0] * len(shape)).long()
    top = (place[:, 1] * (shape[which, 0] - height)).long()
    left = (place[:, 2] * (shape[which, 1] - width)).long()
    row = (start[which] + top * shape[which, 1] + left)[:, None]
    row = row + torch.arange(height, device=images.device) * shape[which, 1, None]
    crop = pixels[row[..., None] + torch.arange(width, device=images.device)].float().permute(0, 3, 1, 2)
    if channels == 1:
        crop = _luma(crop)
    return to_uint8(constants[0] * images.float() + constants[1] * crop)


@cache
def _textures(factor: float, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The five textures, resized for an image size.

    Returns:
        All pixels, uint8 (P, 3); the textures' (height, width), int64 (5, 2); the first pixel of each, int64 (5,).
    """
    textures = [_resized(texture, factor, height, width) for texture in _texture_files()]
    shape = torch.tensor([texture.shape[1:] for texture in textures])
    sizes = shape.prod(1)
    return torch.cat([texture.flatten(1).T for texture in textures]), shape, sizes.cumsum(0) - sizes


def _resized(texture: Tensor, factor: float, height: int, width: int) -> Tensor:
    """One texture (3, h, w), shrunk linearly or enlarged cubically; uint8."""
    h, w = texture.shape[1:]
    covers = factor * h > height and factor * w > width
    if factor == 1 and covers:
        return texture
    if factor < 1 and covers:
        size, step, cubic = (round(h * factor), round(w * factor)), (1 / factor, 1 / factor), False
    else:
        scale = max(1.0 if factor > 1 else 0.0, height / h, width / w) * 1.1
        size = ceil(h * scale), ceil(w * scale)
        step, cubic = (h / size[0], w / size[1]), True
    rows, columns = resize(h, size[0], step[0], cubic), resize(w, size[1], step[1], cubic)
    return to_uint8(separable(texture, rows, columns) + 0.5)


@cache
def _texture_files() -> list[Tensor]:
    """The first five textures of the imagecorruptions package, uint8 (3, h, w), read without importing it."""
    spec = importlib.util.find_spec("imagecorruptions")
    if spec is None or spec.origin is None:
        raise InputError("frost needs the textures of the package imagecorruptions: pip install imagecorruptions.")
    folder = Path(spec.origin).parent / "frost"
    textures = []
    for name in ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg"):
        with Image.open(folder / name) as picture:
            textures.append(torch.from_numpy(np.array(picture)[..., :3].copy()).permute(2, 0, 1))
    return textures


def fog(images: Tensor, constants: Row, table: Table, draws: Draws) -> Tensor:
    """Add a plasma fractal and scale back to the image's maximum; constants: (thickness, decay of the detail)."""
    thickness, decay = constants
    height, width = images.shape[2:]
    size = 1 << (max(height, width) - 1).bit_length()
    haze = plasma(draws.uniform((size * size - 1,), -1, 1, 0).float(), size, decay)[:, None, :height, :width]
    x = images.float()
    peak = x.amax((1, 2, 3), keepdim=True)
    return to_uint8((x + 255 * thickness * haze) * (peak / (peak + 255 * thickness)))


def plasma(noise: Tensor, size: int, decay: float) -> Tensor:
    """Height map by the diamond-square algorithm on a torus, scaled to 0..1.

    As in the published scripts, the noise of a level of amplitude a is uniform within a**2, not a.

    Args:
        noise: float (N, size**2 - 1), uniform in (-1, 1), taken in the order in which the scripts draw it.
        size: side of the map, a power of two.
        decay: by what the amplitude is divided from level to level.

    Returns:
        (N, size, size).
    """
    n = len(noise)
    heights = noise.new_zeros(n, size, size)
    step, amplitude, used = size, 100.0, 0
    while step >= 2:
        half, cells = step // 2, size // step
        wobble = noise[:, used : used + 3 * cells**2].view(n, 3, cells, cells) * amplitude**2
        used += 3 * cells**2
        corners = heights[:, ::step, ::step]
        pairs = corners + corners.roll(-1, 1)
        centres = (pairs + pairs.roll(-1, 2)) / 4 + wobble[:, 0]
        across = (centres + centres.roll(1, 1) + corners + corners.roll(-1, 2)) / 4 + wobble[:, 1]
        down = (centres + centres.roll(1, 2) + corners + corners.roll(-1, 1)) / 4 + wobble[:, 2]
        heights[:, half::step, half::step] = centres
        heights[:, ::step, half::step] = across
        heights[:, half::step, ::step] = down
        step, amplitude = half, amplitude / decay
    heights -= heights.amin((1, 2), keepdim=True)
    return heights / heights.amax((1, 2), keepdim=True)


def brightness(images: Tensor, constants: Row, table: Table, draws: Draws) -> Tensor:
    """Raise the value of HSV; constants: (what is added, in units of the full range)."""
    return shift_hsv(images, value=constants[0])


def spatter(images: Tensor, constants: Row, table: Table, draws: Draws) -> Tensor:
    """Drops of water, or spots of mud, on the lens (an extra corruption).

    The published code divides by zero where no drop forms and writes what the NaN becomes; we leave that image as it
    is.

    Constants: (mean, standard deviation and smoothing of the liquid, threshold of the drops, strength of the water or
    smoothing of the mud, whether it is mud).
    """
    mean, std, smoothing, threshold, strength, is_mud = constants
    height, width = images.shape[2:]
    liquid = draws.normal((1, height, width), mean, std, 0).float()
    liquid = separable(liquid, gaussian(height, smoothing), gaussian(width, smoothing))
    colour = torch.tensor(_MUD if is_mud else _WATER, device=images.device)[:, None, None]
    if images.shape[1] == 1:
        colour = _luma(colour[None])[0]
    if is_mud:
        spots = (liquid > threshold).float()
        spots = separable(spots, gaussian(height, strength), gaussian(width, strength))
        spots = torch.where(spots < 0.8, 0.0, spots)
        return to_uint8(images * (1 - spots) + spots * colour)
    liquid = torch.where(liquid < threshold, 0.0, liquid * 255).to(torch.uint8)
    return to_uint8(images + strength * droplets(liquid[:, 0])[:, None] * colour)
