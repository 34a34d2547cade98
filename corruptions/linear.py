"""Linear maps along one side of an image, as small matrices: blurs, zooms and resizes with their border rules.

A separable map of an image ``X`` (H, W) is ``rows @ X @ columns.T``. The matrices are float64, built once per size.
"""

from __future__ import annotations

from functools import cache
from math import ceil

import numpy as np
import torch
from torch import Tensor


def _matrix(sources: np.ndarray, weights: np.ndarray, n: int) -> Tensor:
    """(rows, n) float64 with weights[i, j] added at column sources[i, j]."""
    matrix = np.zeros((len(sources), n))
    np.add.at(matrix, (np.arange(len(sources))[:, None], sources), weights)
    return torch.from_numpy(matrix)


def _clamp(index: np.ndarray, n: int) -> np.ndarray:
    return np.clip(index, 0, n - 1)


def mirror(index: np.ndarray, n: int) -> np.ndarray:
    """Half-sample symmetric border, ``b a | a b c | c b``."""
    index = index % (2 * n)
    return np.minimum(index, 2 * n - 1 - index)


def reflect(index: np.ndarray, n: int) -> np.ndarray:
    """Whole-sample symmetric border, ``c b | a b c | b a`` (OpenCV's default)."""
    index = np.abs(index) % (2 * n - 2)
    return np.minimum(index, 2 * n - 2 - index)


@cache
def gaussian(n: int, sigma: float, truncate: float = 4.0, mirrored: bool = False) -> Tensor:
    """Gaussian smoothing of n samples, (n, n).

    Args:
        n: number of samples.
        sigma: standard deviation in samples.
        truncate: the kernel ends at this many standard deviations, rounded to whole samples.
        mirrored: border half-sample symmetric instead of the edge sample repeated.
    """
    radius = int(truncate * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2) if radius else np.ones(1)
    sources = np.arange(n)[:, None] + offsets
    border = mirror if mirrored else _clamp
    return _matrix(border(sources, n), np.broadcast_to(kernel / kernel.sum(), sources.shape), n)


@cache
def zoom(n: int, factor: float, keep: str) -> Tensor:
    """Zoom into the centre of n samples by linear interpolation, first sample on first and last on last.

    Args:
        n: number of samples.
        factor: zoom factor, at least 1.
        keep: which of the slightly more than n resulting samples stay: "centre" or "corner" n of them, or "all".
    """
    crop = ceil(n / factor)
    top = (n - crop) // 2
    size = round(crop * factor)
    position = np.arange(size) * ((crop - 1) / (size - 1))
    if keep != "all":
        start = (size - n) // 2 if keep == "centre" else 0
        position = position[start : start + n]
    first = np.floor(position).astype(int)
    share = position - first
    return _matrix(
        top + np.stack([first, np.minimum(first + 1, crop - 1)], 1), np.stack([1 - share, share], 1), n
    )


def resize(n: int, size: int, step: float, cubic: bool) -> Tensor:
    """Resampling without anti-aliasing as OpenCV does it, (size, n).

    Args:
        n: number of samples.
        size: number of samples wanted.
        step: distance of neighbouring results in samples.
        cubic: cubic convolution with a = -0.75 instead of linear interpolation.
    """
    position = (np.arange(size) + 0.5) * step - 0.5
    first = np.floor(position).astype(int)
    t = (position - first)[:, None]
    if cubic:
        a, distance = -0.75, np.abs(t - np.arange(-1, 3))
        near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
        far = ((distance - 5) * distance + 8) * distance * a - 4 * a
        return _matrix(_clamp(first[:, None] + np.arange(-1, 3), n), np.where(distance <= 1, near, far), n)
    return _matrix(_clamp(first[:, None] + np.arange(2), n), np.concatenate([1 - t, t], 1), n)


def separable(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """``rows @ x @ columns.T`` for x (..., H, W), in x's dtype and on its device."""
    return rows.to(x) @ (x @ columns.to(x).T)


def to_uint8(x: Tensor) -> Tensor:
    """Clip to 0..255 and cut the fraction off, as the published sets do."""
    return x.clamp(0, 255).to(torch.uint8)
