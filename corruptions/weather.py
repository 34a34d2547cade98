"""Weather (Hendrycks & Dietterich 2019): snow, frost, fog, brightness, and spatter on the lens."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from shiftbench.corruptions import backend
from shiftbench.corruptions.backend import cut, to_uint8
from shiftbench.corruptions.colour import luma, shift_hsv
from shiftbench.corruptions.droplets import droplets
from shiftbench.corruptions.linear import gaussian, separable, zoom
from shiftbench.corruptions.motion import motion
from shiftbench.corruptions.plasma import plasma
from shiftbench.corruptions.sampling import Draws
from shiftbench.corruptions.severity import Row, SeverityTable
from shiftbench.corruptions.textures import textures

_WATER = (175.0, 238.0, 238.0)
_MUD = (63.0, 42.0, 20.0)


def snow(images: Tensor, constants: Row, table: SeverityTable, draws: Draws) -> Tensor:
    """Flakes, blurred along their fall, and the same flakes turned by 180 degrees, over a whitened image.

    The published scripts cut the flake layer to 8 bit before its blur, imagecorruptions rounds it after.

    Constants: (mean and standard deviation of the flakes, their size, threshold, radius and standard deviation of the
    motion blur in pixels, weight of the image against the whitened image).

    Examples:
        >>> from shiftbench.corruptions import corrupt
        >>> black = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
        >>> corrupt(black, "snow", severity=5).float().mean() > 0
        tensor(True)
    """
    mean, std, size, threshold, radius, sigma, weight = constants
    height, width = images.shape[2:]
    keep = "centre" if table.published else "all"
    layer = draws.normal((1, height, width), mean, std, 0)
    layer = separable(layer, zoom(height, size, keep), zoom(width, size, keep))
    layer = torch.where(layer < threshold, 0.0, layer).clamp_(0, 1).mul_(255)
    if table.published:
        layer.floor_()
    layer = motion(layer, radius, sigma, draws.uniform((), -135, -45, 1), table)
    if backend.compiled(images):
        out = torch.empty_like(images)
        _snow(images.numpy(), layer.numpy(), np.array([weight, 1 - weight], np.float32), out.numpy())
        return out
    x, layer = images.float(), layer.round()[..., :height, :width]
    x = weight * x + (1 - weight) * torch.maximum(x, luma(x) * 1.5 + 127.5)
    return to_uint8(x + (layer + layer.flip(-1, -2)))


@numba.njit(nogil=True, cache=True)
def _snow(images: np.ndarray, layer: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    n, channels, height, width = images.shape
    white = np.empty(width, np.float32)
    for i in range(n):
        for y in range(height):
            flakes, turned = layer[i, 0, y], layer[i, 0, height - 1 - y]
            red, green, blue = images[i, 0, y], images[i, channels // 2, y], images[i, channels - 1, y]
            for x in range(width):
                grey = np.float32(red[x])
                if channels == 3:
                    grey = grey * np.float32(0.299) + np.float32(green[x]) * np.float32(0.587)
                    grey = grey + np.float32(blue[x]) * np.float32(0.114)
                white[x] = grey * np.float32(1.5) + np.float32(127.5)
            for c in range(channels):
                row, target = images[i, c, y], out[i, c, y]
                for x in range(width):
                    value = np.float32(row[x])
                    value = weights[0] * value + weights[1] * max(value, white[x])
                    target[x] = cut(value + (np.rint(flakes[x]) + np.rint(turned[width - 1 - x])))


def frost(images: Tensor, constants: Row, table: SeverityTable, draws: Draws) -> Tensor:
    """Add a random crop of a photographed frost texture; constants: (weight of the image, weight of the frost).

    The published code lists six textures, but draws among the first five. So do we.

    Examples:
        >>> from shiftbench.corruptions import corrupt
        >>> black = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
        >>> corrupt(black, "frost", severity=5).float().mean() > 0
        tensor(True)
    """
    channels, height, width = images.shape[1:]
    pixels, shape, start = (part.to(images.device) for part in textures(table.frost, channels, height, width))
    place = draws.uniform((3,), 0, 1, 0)
    which = (place[:, 0] * len(shape)).long()
    top, left = (place[:, 1:] * (shape[which] - torch.tensor([height, width], device=images.device))).long().unbind(1)
    stride = shape[which, 1]
    first = start[which] + top * stride + left
    weight, icing = constants
    if backend.compiled(images):
        out = torch.empty_like(images)
        _frost(images.numpy(), pixels.numpy(), first.numpy(), stride.numpy(), weight, icing, out.numpy())
        return out
    rows = first[:, None] + torch.arange(height, device=images.device) * stride[:, None]
    ice = pixels[:, rows[..., None] + torch.arange(width, device=images.device)].transpose(0, 1)
    return to_uint8(weight * images.double() + icing * ice.double(), nudge=0)


@numba.njit(nogil=True, cache=True)
def _frost(
    images: np.ndarray,
    pixels: np.ndarray,
    first: np.ndarray,
    stride: np.ndarray,
    weight: float,
    icing: float,
    out: np.ndarray,
) -> None:
    n, channels, height, width = images.shape
    for i in range(n):
        for c in range(channels):
            for y in range(height):
                begin = first[i] + y * stride[i]
                row, ice, target = images[i, c, y], pixels[c, begin : begin + width], out[i, c, y]
                for x in range(width):
                    target[x] = np.int32(min(weight * row[x] + icing * ice[x], 255.0))


def fog(images: Tensor, constants: Row, _table: SeverityTable, draws: Draws) -> Tensor:
    """Add a plasma fractal and scale back to the image's maximum; constants: (thickness, decay of the detail).

    The fractal covers the next power of two of the longer side and is cropped to the image.

    Examples:
        >>> from shiftbench.corruptions import corrupt
        >>> white = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
        >>> corrupt(white, "fog", severity=5).max() <= 255
        tensor(True)
    """
    thickness, decay = 255 * constants[0], constants[1]
    height, width = images.shape[2:]
    size = 1 << (max(height, width) - 1).bit_length()
    haze = plasma(draws.uniform((size * size - 1,), -1, 1, 0), size, decay)
    if backend.compiled(images):
        out = torch.empty_like(images)
        _fog(images.numpy(), haze.numpy(), np.float32(thickness), out.numpy())
        return out
    x = images.float()
    peak = x.amax((1, 2, 3), keepdim=True)
    return to_uint8((x + thickness * haze[:, None, :height, :width]) * (peak / (peak + thickness)))


@numba.njit(nogil=True, cache=True)
def _fog(images: np.ndarray, haze: np.ndarray, thickness: np.float32, out: np.ndarray) -> None:
    n, channels, height, width = images.shape
    for i in range(n):
        peak = np.float32(0)
        for value in images[i].flat:
            peak = max(peak, np.float32(value))
        scale = peak / (peak + thickness)
        for c in range(channels):
            for y in range(height):
                row, mist, target = images[i, c, y], haze[i, y], out[i, c, y]
                for x in range(width):
                    target[x] = cut((np.float32(row[x]) + thickness * mist[x]) * scale)


def brightness(images: Tensor, constants: Row, *_: object) -> Tensor:
    """Raise the value of HSV; constants: (what is added, in units of the full range).

    Examples:
        >>> black = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
        >>> brightness(black, (0.5,)).unique()
        tensor([127], dtype=torch.uint8)
    """
    colour = images.expand(-1, 3, -1, -1).contiguous()
    return shift_hsv(colour, value=constants[0])[:, : images.shape[1]]


def spatter(images: Tensor, constants: Row, _table: SeverityTable, draws: Draws) -> Tensor:
    """Drops of water, or spots of mud, on the lens (an extra corruption).

    The published code divides by zero where no drop forms, and writes what the NaN becomes. We leave such an image as it
    is.

    Constants: (mean, standard deviation and smoothing of the liquid, threshold of the drops, strength of the water or
    smoothing of the mud, whether it is mud).

    Examples:
        >>> from shiftbench.corruptions import corrupt
        >>> black = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
        >>> corrupt(black, "spatter", severity=4).unique(dim=2).shape[:2]
        torch.Size([1, 3])
    """
    mean, std, smoothing, threshold, strength, is_mud = constants
    height, width = images.shape[2:]
    liquid = draws.normal((1, height, width), mean, std, 0)
    liquid = separable(liquid, gaussian(height, smoothing), gaussian(width, smoothing))
    colour = torch.tensor(_MUD if is_mud else _WATER, device=images.device)[None, :, None, None]
    if images.shape[1] == 1:
        colour = luma(colour)
    if is_mud:
        spots = (liquid > threshold).float()
        spots = separable(spots, gaussian(height, strength), gaussian(width, strength))
        spots = torch.where(spots < 0.8, 0.0, spots)
        return to_uint8(images * (1 - spots) + spots * colour)
    liquid = torch.where(liquid < threshold, 0.0, liquid * 255).clamp_(0, 255).to(torch.uint8)
    return to_uint8(images + (strength * droplets(liquid[:, 0])[:, None]) * colour)
