"""Digital corruptions (Hendrycks & Dietterich 2019): contrast, elastic transform, pixelation, JPEG, saturation."""

from __future__ import annotations

from functools import cache

import numba
import numpy as np
import torch
from torch import Tensor

from shiftbench.corruptions import backend
from shiftbench.corruptions.backend import to_uint8
from shiftbench.corruptions.colour import shift_hsv
from shiftbench.corruptions.jpeg import jpeg
from shiftbench.corruptions.linear import gaussian, separable
from shiftbench.corruptions.sampling import Draws
from shiftbench.corruptions.severity import Row, SeverityTable
from shiftbench.corruptions.warp import elastic, inverse_affine
from shiftbench.errors import InputError


def contrast(images: Tensor, constants: Row, *_: object) -> Tensor:
    """Pull every value towards the mean of its channel; constants: (what remains of the difference).

    Examples:
        >>> step = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
        >>> step[..., 8:] = 200
        >>> contrast(step, (0.5,)).unique()
        tensor([ 50, 150], dtype=torch.uint8)
    """
    if backend.compiled(images):
        out = torch.empty_like(images)
        _contrast(images.flatten(2).flatten(0, 1).numpy(), constants[0], out.flatten(2).flatten(0, 1).numpy())
        return out
    x = images.double()
    mean = x.sum((2, 3), keepdim=True) / (images.shape[2] * images.shape[3])
    return to_uint8((x - mean) * constants[0] + mean)


@numba.njit(nogil=True, cache=True)
def _contrast(planes: np.ndarray, factor: float, out: np.ndarray) -> None:
    count, size = planes.shape
    for p in range(count):
        plane, target, total = planes[p], out[p], 0
        for i in range(size):
            total += plane[i]
        mean = total / size
        for i in range(size):
            target[i] = np.int32(min(max((plane[i] - mean) * factor + mean + 2.0**-12, 0.0), 255.0))


def elastic_transform(images: Tensor, constants: Row, table: SeverityTable, draws: Draws) -> Tensor:
    """Warp by a random affine map, then by a smooth random field.

    The published constants are multiples of the image side; at other sizes they scale with it. Borders are reflected.

    Constants: (height of the field, its smoothing, largest move of the affine map's corners), in multiples of the side.
    The imagecorruptions variant has no affine map.

    Examples:
        >>> from shiftbench.corruptions import corrupt
        >>> images = torch.eye(16).mul(255).to(torch.uint8).expand(1, 3, 16, 16)
        >>> torch.equal(corrupt(images, "elastic_transform", severity=3), images)
        False
    """
    height, width = images.shape[2:]
    strength, smoothing, corner = (value * table.unit / table.size for value in constants)
    affine = field = None
    if corner:
        jitter = draws.uniform((3, 2), -corner * height, corner * height, 0)
        affine = inverse_affine(jitter, height, width)
    if strength:
        field = separable(
            draws.uniform((2, height, width), -strength * height, strength * height, 1),
            gaussian(height, smoothing * height, truncate=3.0, mirrored=True),
            gaussian(width, smoothing * width, truncate=3.0, mirrored=True),
        )
    return elastic(images, affine, field)


def pixelate(images: Tensor, constants: Row, table: SeverityTable, *_: object) -> Tensor:
    """Shrink by box averages, enlarge by repetition; constants: (scale).

    As Pillow's filters BOX and BOX do, or BOX and NEAREST for imagecorruptions.

    Examples:
        >>> from shiftbench.corruptions import corrupt
        >>> images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
        >>> len(corrupt(images, "pixelate", severity=5).unique()) < 256
        True
    """
    height, width = images.shape[2:]
    rows, columns = (_box_weights(n, int(n * constants[0])) for n in (height, width))
    up, left = (_repeats(n, int(n * constants[0]), table.published) for n in (height, width))
    if backend.compiled(images):
        out = torch.empty_like(images)
        _pixelate(images.flatten(0, 1).numpy(), *rows, *columns, up, left, out.flatten(0, 1).numpy())
        return out
    small = _averaged(_averaged(images.int(), *columns).mT, *rows).mT.to(torch.uint8)
    return small[:, :, torch.from_numpy(up.astype(int))][..., torch.from_numpy(left.astype(int))]


@cache
def _box_weights(n: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pillow's box filter from n to size samples.

    Returns:
        The first sample of each average, uint32 (size,), and the weights of this and the following samples, whole
        numbers to be divided by 2**22, int32 (size, k).
    """
    scale = n / size
    centre = (np.arange(size) + 0.5) * scale
    first = np.maximum((centre - 0.5 * scale + 0.5).astype(int), 0)
    last = np.minimum((centre + 0.5 * scale + 0.5).astype(int), n)
    width = (last - first).max()
    first = np.minimum(first, n - width)
    sample = first[:, None] + np.arange(width)
    distance = (sample + 0.5 - centre[:, None]) / scale
    inside = (distance > -0.5) & (distance <= 0.5) & (sample < last[:, None])
    return first.astype(np.uint32), np.floor(inside / inside.sum(1, keepdims=True) * 2**22 + 0.5).astype(np.int32)


def _repeats(n: int, size: int, centred: bool) -> np.ndarray:
    """Which of the size samples each of the n samples becomes: uint32 (n,).

    BOX multiplies by the step; NEAREST adds it up, and the sum may be a little less than a whole number.
    """
    step = size / n
    centres = (np.arange(n) + 0.5) * step if centred else np.cumsum([0.5 * step, *[step] * (n - 1)])
    return centres.astype(np.uint32)


def _averaged(x: Tensor, first: np.ndarray, weights: np.ndarray) -> Tensor:
    start = torch.from_numpy(first.astype(int)).to(x.device)
    total = torch.full((*x.shape[:-1], len(first)), 2**21, dtype=torch.int32, device=x.device)
    for k in range(weights.shape[1]):
        total += x[..., start + k] * torch.from_numpy(weights[:, k]).to(x.device)
    return (total >> 22).clamp(max=255)


@numba.njit(nogil=True, cache=True)
def _pixelate(
    planes: np.ndarray,
    row_first: np.ndarray,
    row_weights: np.ndarray,
    column_first: np.ndarray,
    column_weights: np.ndarray,
    up: np.ndarray,
    left: np.ndarray,
    out: np.ndarray,
) -> None:
    count, height, width = planes.shape
    w = len(column_first)
    narrow, total, line = np.empty((height, w), np.int32), np.empty(w, np.int32), np.empty(w, np.uint8)
    for p in range(count):
        for y in range(height):
            row, target = planes[p, y], narrow[y]
            for x in range(w):
                value = np.int32(1 << 21)
                for k in range(np.uint32(column_weights.shape[1])):
                    value += column_weights[x, k] * np.int32(row[column_first[x] + k])
                target[x] = min(value >> 22, 255)
        for y in range(height):
            source, target = up[y], out[p, y]
            if y == 0 or source != up[y - 1]:
                total[:] = 1 << 21
                for k in range(row_weights.shape[1]):
                    row, weight = narrow[row_first[source] + k], row_weights[source, k]
                    for x in range(w):
                        total[x] += weight * row[x]
                for x in range(w):
                    line[x] = min(total[x] >> 22, 255)
            for x in range(width):
                target[x] = line[left[x]]


def jpeg_compression(images: Tensor, constants: Row, *_: object) -> Tensor:
    """Baseline JPEG with 4:2:0 chroma, compressed and decompressed; constants: (quality).

    Examples:
        >>> grey = torch.full((1, 3, 16, 16), 77, dtype=torch.uint8)
        >>> jpeg_compression(grey, (25,)).unique()
        tensor([76], dtype=torch.uint8)
    """
    return jpeg(images, int(constants[0]))


def saturate(images: Tensor, constants: Row, *_: object) -> Tensor:
    """Scale and shift the saturation of HSV (an extra corruption); constants: (factor, what is added).

    Raises:
        InputError: grey images, which have no saturation.

    Examples:
        >>> grey = torch.full((1, 3, 8, 8), 77, dtype=torch.uint8)
        >>> saturate(grey, (5.0, 0.0)).unique()
        tensor([77], dtype=torch.uint8)
    """
    if images.shape[1] == 1:
        raise InputError("saturate needs colour: images must be (N, 3, H, W), not grey (N, 1, H, W).")
    return shift_hsv(images, gain=constants[0], saturation=constants[1])
