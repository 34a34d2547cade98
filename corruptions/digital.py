"""Digital corruptions (Hendrycks & Dietterich 2019): contrast, elastic transform, pixelation, JPEG, saturation."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from shiftbench.corruptions.colour import shift_hsv
from shiftbench.corruptions.jpeg import jpeg
from shiftbench.corruptions.backend import to_uint8
from shiftbench.corruptions.linear import gaussian, separable
from shiftbench.corruptions.sampling import Draws
from shiftbench.corruptions.severity import Row, Table
from shiftbench.errors import InputError


def contrast(images: Tensor, constants: Row, table: Table, draws: Draws) -> Tensor:
    """Pull every value towards the mean of its channel; constants: (what remains of the difference)."""
    x = images.float()
    mean = x.mean((2, 3), keepdim=True)
    return to_uint8((x - mean) * constants[0] + mean)


def saturate(images: Tensor, constants: Row, table: Table, draws: Draws) -> Tensor:
    """Scale and shift the saturation of HSV (an extra corruption); constants: (factor, what is added).

    Raises:
        InputError: grey images, which have no saturation.
    """
    if images.shape[1] == 1:
        raise InputError("saturate needs colour: images must be (N, 3, H, W), not grey (N, 1, H, W).")
    return shift_hsv(images, gain=constants[0], saturation=constants[1])


def jpeg_compression(images: Tensor, constants: Row, table: Table, draws: Draws) -> Tensor:
    """Baseline JPEG with 4:2:0 chroma, there and back; constants: (quality)."""
    return jpeg(images, int(constants[0]))


def pixelate(images: Tensor, constants: Row, table: Table, draws: Draws) -> Tensor:
    """Shrink by box averages, enlarge by repetition, as Pillow does; constants: (scale)."""
    height, width = images.shape[2:]
    small = int(height * constants[0]), int(width * constants[0])
    columns, rows = (
        box_weights(n, size).to(images.device) for n, size in ((width, small[1]), (height, small[0]))
    )
    x = _rounded(images.double() @ columns.T)
    x = _rounded(rows @ x).to(torch.uint8)
    up, left = (
        torch.from_numpy(((np.arange(n) + 0.5) * size / n).astype(int)).to(images.device)
        for n, size in ((height, small[0]), (width, small[1]))
    )
    return x[:, :, up][..., left]


@cache
def box_weights(n: int, size: int) -> Tensor:
    """Pillow's box filter from n to size samples, float64 (size, n): whole numbers, to be divided by 2**22."""
    scale = n / size
    centre = (np.arange(size) + 0.5) * scale
    support = 0.5 * scale
    first = np.maximum((centre - support + 0.5).astype(int), 0)
    last = np.minimum((centre + support + 0.5).astype(int), n)
    sample = np.arange(n)
    inside = (sample >= first[:, None]) & (sample < last[:, None])
    distance = (sample - centre[:, None] + 0.5) / scale
    inside &= (distance > -0.5) & (distance <= 0.5)
    weights = inside / inside.sum(1, keepdims=True)
    return torch.from_numpy(np.floor(weights * 2**22 + 0.5))


def _rounded(x: Tensor) -> Tensor:
    return ((x + 2**21) / 2**22).floor().clamp(0, 255)


def elastic_transform(images: Tensor, constants: Row, table: Table, draws: Draws) -> Tensor:
    """Warp by a random affine map, then by a smooth random field.

    The published constants are multiples of the image side; at other sizes they scale with it. Borders are reflected.

    Constants: (height of the field, its smoothing, largest move of the affine map's corners), in multiples of the side.
    The imagecorruptions variant has no affine map.
    """
    n, _, height, width = images.shape
    unit = table.unit / table.size
    strength, smoothing, corner = (value * unit for value in constants)
    x = images.float()
    rows = torch.arange(height, device=x.device, dtype=torch.float32)[:, None]
    columns = torch.arange(width, device=x.device, dtype=torch.float32)[None]
    if corner:
        jitter = draws.uniform((3, 2), -corner * height, corner * height, 0)
        inverse = _inverse_affine(jitter, height, width).float()[..., None, None]
        x = _sample(
            x,
            inverse[:, 1, 0] * columns + inverse[:, 1, 1] * rows + inverse[:, 1, 2],
            inverse[:, 0, 0] * columns + inverse[:, 0, 1] * rows + inverse[:, 0, 2],
            _reflect,
        )
    if strength:
        field = draws.uniform((2, height, width), -1, 1, 1).float() * (strength * height)
        field = separable(
            field,
            gaussian(height, smoothing * height, truncate=3.0, mirrored=True),
            gaussian(width, smoothing * width, truncate=3.0, mirrored=True),
        )
        x = _sample(x, rows + field[:, 1], columns + field[:, 0], _mirror)
    return to_uint8(x)


def _inverse_affine(jitter: Tensor, height: int, width: int) -> Tensor:
    """The map from warped to source coordinates, float64 (N, 2, 3).

    Args:
        jitter: (N, 3, 2), how three points around the centre move in (x, y).
    """
    centre = torch.tensor([width // 2, height // 2], dtype=torch.float64)
    reach = min(height, width) // 3
    corners = torch.tensor([[1, 1], [1, -1], [-1, -1]], dtype=torch.float64)
    source = (centre + reach * corners).to(jitter.device)
    moved = torch.cat([source + jitter, jitter.new_ones(len(jitter), 3, 1)], 2)
    return torch.linalg.solve(moved, source.expand(len(jitter), -1, -1)).transpose(1, 2)


def _reflect(index: Tensor, n: int) -> Tensor:
    index = index.abs() % (2 * n - 2)
    return torch.minimum(index, 2 * n - 2 - index)


def _mirror(index: Tensor, n: int) -> Tensor:
    index = index % (2 * n)
    return torch.minimum(index, 2 * n - 1 - index)


def _sample(x: Tensor, row: Tensor, column: Tensor, border) -> Tensor:
    """Bilinear interpolation of x (N, C, H, W) at row and column (N, H, W)."""
    n, channels, height, width = x.shape
    row, column = row.expand(n, height, width), column.expand(n, height, width)
    top, left = row.floor(), column.floor()
    down, right = (row - top)[:, None], (column - left)[:, None]
    rows = [border(top.long() + i, height) * width for i in (0, 1)]
    columns = [border(left.long() + i, width) for i in (0, 1)]

    def at(i: int, j: int) -> Tensor:
        place = (rows[i] + columns[j]).flatten(1)[:, None].expand(-1, channels, -1)
        return x.flatten(2).gather(2, place).view(x.shape)

    upper = at(0, 0) * (1 - right) + at(0, 1) * right
    lower = at(1, 0) * (1 - right) + at(1, 1) * right
    return upper * (1 - down) + lower * down
