"""Linear maps along one side of an image, as banded matrices: blurs, zooms and resizes with their border rules."""

from __future__ import annotations

from functools import lru_cache
from math import ceil
from typing import NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from shiftbench.corruptions import backend


class Band(NamedTuple):
    """A matrix (m, n) whose rows are zero outside a band.

    Attributes:
        start: int64 (m,), the first column of each row's band.
        weights: float32 (m, k), the band.
    """

    start: np.ndarray
    weights: np.ndarray


def _band(sources: np.ndarray, weights: np.ndarray, n: int) -> Band:
    """The matrix (m, n) with weights[i, j] added at column sources[i, j]."""
    rows = np.arange(len(sources))[:, None]
    width = int((sources.max(1) - sources.min(1)).max()) + 1
    start = np.minimum(sources.min(1), n - width)
    band = np.zeros((len(sources), width))
    np.add.at(band, (rows, sources - start[:, None]), weights)
    return Band(start, band.astype(np.float32))


def mirror(index: np.ndarray, n: int) -> np.ndarray:
    """Half-sample symmetric border, ``b a | a b c | c b``."""
    index = index % (2 * n)
    folded: np.ndarray = np.minimum(index, 2 * n - 1 - index)
    return folded


def reflect(index: np.ndarray, n: int) -> np.ndarray:
    """Whole-sample symmetric border, ``c b | a b c | b a``."""
    index = index % (2 * n - 2)
    folded: np.ndarray = np.minimum(index, 2 * n - 2 - index)
    return folded


@lru_cache(maxsize=128)
def gaussian(n: int, sigma: float, truncate: float = 4.0, mirrored: bool = False) -> Band:
    """Gaussian smoothing of n samples.

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
    sources = mirror(sources, n) if mirrored else sources.clip(0, n - 1)
    return _band(sources, np.broadcast_to(kernel / kernel.sum(), sources.shape), n)


@lru_cache(maxsize=128)
def zoom(n: int, factor: float, keep: str) -> Band:
    """Zoom into the centre of n samples by linear interpolation, first sample on first and last on last.

    Args:
        n: number of samples.
        factor: zoom factor, at least 1.
        keep: which of the resulting samples stay, of which there are a few more than n: n at the "centre", n from the
            "corner", or "all".
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
    sources = top + np.stack([first, np.minimum(first + 1, crop - 1)], 1)
    return _band(sources, np.stack([1 - share, share], 1), n)


def resize(n: int, size: int, step: float, cubic: bool) -> Band:
    """Resampling without anti-aliasing as OpenCV does it.

    Args:
        n: number of samples.
        size: number of samples wanted.
        step: distance of neighbouring results in samples.
        cubic: cubic convolution with a = -0.75 instead of linear interpolation.
    """
    position = (np.arange(size) + 0.5) * step - 0.5
    first = np.floor(position).astype(int)
    t = (position - first)[:, None]
    if not cubic:
        return _band((first[:, None] + [0, 1]).clip(0, n - 1), np.concatenate([1 - t, t], 1), n)
    a, distance = -0.75, np.abs(t - [-1, 0, 1, 2])
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    return _band((first[:, None] + [-1, 0, 1, 2]).clip(0, n - 1), np.where(distance <= 1, near, far), n)


def separable(x: Tensor, rows: Band, columns: Band) -> Tensor:
    """``rows @ x @ columns.T`` in float32.

    Args:
        x: uint8 or float32 (N, C, H, W), contiguous.
        rows: (h, H).
        columns: (w, W).

    Returns:
        (N, C, h, w), the dtype of x; uint8 is truncated.
    """
    if backend.compiled(x):
        out = torch.empty(*x.shape[:2], len(rows.start), len(columns.start), dtype=x.dtype)
        _separable(x.flatten(0, 1).numpy(), *rows, *columns, out.flatten(0, 1).numpy())
        return out
    out = _along_rows(_along_rows(x, rows).mT, columns).mT.contiguous()
    return backend.to_uint8(out) if x.dtype == torch.uint8 else out


def _along_rows(x: Tensor, band: Band) -> Tensor:
    start, weights = (torch.from_numpy(part).to(x.device) for part in band)
    total = x[..., start, :] * weights[:, 0, None]
    for k in range(1, weights.shape[1]):
        total += x[..., start + k, :] * weights[:, k, None]
    return total


@numba.njit(nogil=True, cache=True)
def _separable(
    planes: np.ndarray,
    row_start: np.ndarray,
    row_weights: np.ndarray,
    column_start: np.ndarray,
    column_weights: np.ndarray,
    out: np.ndarray,
) -> None:
    count, height, width = planes.shape
    _, h, w = out.shape
    cutting = out.itemsize == 1
    group = max(1, min(count, 192 // width))  # planes side by side: long rows make the loops worth their start
    flat, tall = np.empty((height, group * width), np.float32), np.empty((h, group * width), np.float32)
    turned, wide = np.empty((width, group * h), np.float32), np.empty((w, group * h), np.float32)
    for first in range(0, count, group):
        members = min(group, count - first)
        for p in range(members):
            for y in range(height):
                for x in range(width):
                    flat[y, p * width + x] = planes[first + p, y, x]
        _smear(flat, row_start, row_weights, tall)
        for p in range(members):
            for y in range(h):
                for x in range(width):
                    turned[x, p * h + y] = tall[y, p * width + x]
        _smear(turned, column_start, column_weights, wide)
        for p in range(members):
            for x in range(w):
                for y in range(h):
                    value = wide[x, p * h + y]
                    out[first + p, y, x] = backend.cut(value) if cutting else value


@numba.njit(nogil=True, cache=True)
def _smear(x: np.ndarray, start: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    """out[i] = sum over k of weights[i, k] * x[start[i] + k], added in the order of k."""
    taps, width = weights.shape[1], x.shape[1]
    for i in range(out.shape[0]):
        s = start[i]
        w = weights[i, 0]
        for j in range(width):
            out[i, j] = w * x[s, j]
        k = 1
        while k + 4 <= taps:
            a, b, c, d = weights[i, k], weights[i, k + 1], weights[i, k + 2], weights[i, k + 3]
            for j in range(width):
                total = out[i, j] + a * x[s + k, j]
                total = total + b * x[s + k + 1, j]
                total = total + c * x[s + k + 2, j]
                out[i, j] = total + d * x[s + k + 3, j]
            k += 4
        while k < taps:
            a = weights[i, k]
            for j in range(width):
                out[i, j] += a * x[s + k, j]
            k += 1
