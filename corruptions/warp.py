"""Resampling an image at shifted places, for elastic_transform."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from shiftbench.corruptions import backend


def inverse_affine(jitter: Tensor, height: int, width: int) -> Tensor:
    """The affine maps from warped to source coordinates, float32 (N, 2, 3), on the CPU.

    Args:
        jitter: (N, 3, 2), how three points around the centre move, in pixels (x, y).
        height: of the images.
        width: of the images.
    """
    centre = torch.tensor([width // 2, height // 2])
    source = centre + min(height, width) // 3 * torch.tensor([[1, 1], [1, -1], [-1, -1]])
    moved = torch.cat([source + jitter.double().cpu(), torch.ones(len(jitter), 3, 1, dtype=torch.float64)], 2)
    affine: Tensor = torch.linalg.solve(moved, source.double().expand(len(jitter), -1, -1))
    return affine.transpose(1, 2).float()


def elastic(images: Tensor, affine: Tensor | None, field: Tensor | None) -> Tensor:
    """Map affinely, then displace; each a bilinear interpolation.

    Args:
        images: uint8 (N, C, H, W).
        affine: float32 (N, 2, 3), on the CPU: times (x, y, 1) it is the place that is read; the border is reflected
            about the outermost pixels. None for no such map.
        field: float32 (N, 2, H, W), added to x and to y; the border is mirrored at the image's edge. None for no
            displacement.

    Returns:
        uint8 (N, C, H, W), truncated.
    """
    height, width = images.shape[2:]
    if backend.compiled(images):
        out = torch.empty_like(images)
        maps = np.empty((0, 2, 3), np.float32) if affine is None else affine.contiguous().numpy()
        moves = np.empty((0, 2, 0, 0), np.float32) if field is None else field.numpy()
        _elastic(images.numpy(), maps, moves, out.numpy())
        return out
    x = images.float()
    rows = torch.arange(height, device=x.device)[:, None]
    columns = torch.arange(width, device=x.device)
    if affine is not None:
        (a, b, c), (d, e, f) = affine.to(x.device)[..., None, None].permute(1, 2, 0, 3, 4)
        x = _resampled(x, (a * columns + b * rows) + c, (d * columns + e * rows) + f, whole=1)
    if field is not None:
        x = _resampled(x, columns + field[:, 0], rows + field[:, 1], whole=0)
    return backend.to_uint8(x)


def _resampled(x: Tensor, across: Tensor, down: Tensor, whole: int) -> Tensor:
    channels, height, width = x.shape[1:]
    left, top = across.floor(), down.floor()
    share_x, share_y = (across - left)[:, None], (down - top)[:, None]

    def pixel(dy: int, dx: int) -> Tensor:
        place = _inside(top.long() + dy, height, whole) * width + _inside(left.long() + dx, width, whole)
        return x.flatten(2).gather(2, place.flatten(1)[:, None].expand(-1, channels, -1)).view(x.shape)

    upper = pixel(0, 0) * (1 - share_x) + pixel(0, 1) * share_x
    lower = pixel(1, 0) * (1 - share_x) + pixel(1, 1) * share_x
    return upper * (1 - share_y) + lower * share_y


def _inside(index: Tensor, n: int, whole: int) -> Tensor:
    """Reflect an index into 0 .. n - 1, about the outermost pixel itself (whole = 1) or about its edge (whole = 0)."""
    period = 2 * (n - whole)
    index = index % period
    return torch.minimum(index, period - 1 + whole - index)


@numba.njit(nogil=True, cache=True)
def _elastic(images: np.ndarray, affine: np.ndarray, field: np.ndarray, out: np.ndarray) -> None:
    n, channels, height, width = images.shape
    x, moved = np.empty((channels, height, width), np.float32), np.empty((channels, height, width), np.float32)
    across, down = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
    for i in range(n):
        for k in range(channels):
            for v in range(height):
                for u in range(width):
                    x[k, v, u] = images[i, k, v, u]
        if len(affine):
            a, b, c = affine[i, 0, 0], affine[i, 0, 1], affine[i, 0, 2]
            d, e, f = affine[i, 1, 0], affine[i, 1, 1], affine[i, 1, 2]
            for v in range(height):
                for u in range(width):
                    across[v, u] = (a * np.float32(u) + b * np.float32(v)) + c
                    down[v, u] = (d * np.float32(u) + e * np.float32(v)) + f
            _resample(x, across, down, np.int64(1), moved)
            x, moved = moved, x
        if len(field):
            for v in range(height):
                for u in range(width):
                    across[v, u] = np.float32(u) + field[i, 0, v, u]
                    down[v, u] = np.float32(v) + field[i, 1, v, u]
            _resample(x, across, down, np.int64(0), moved)
            x, moved = moved, x
        for k in range(channels):
            for v in range(height):
                for u in range(width):
                    out[i, k, v, u] = backend.cut(x[k, v, u])


@numba.njit(nogil=True, cache=True)
def _resample(x: np.ndarray, across: np.ndarray, down: np.ndarray, whole: np.int64, out: np.ndarray) -> None:
    """Row by row: first all places and shares, on vectors; then the pixels."""
    channels, height, width = x.shape
    one, stride = np.float32(1), np.int32(width)
    share_x, share_y = np.empty(width, np.float32), np.empty(width, np.float32)
    places = np.empty((4, width), np.uint32)
    north_west, north_east, south_west, south_east = places[0], places[1], places[2], places[3]
    for v in range(height):
        for u in range(width):
            left, top = np.floor(across[v, u]), np.floor(down[v, u])
            share_x[u], share_y[u] = across[v, u] - left, down[v, u] - top
            west, east = _inside_one(left, width, whole), _inside_one(left + one, width, whole)
            north = np.int32(_inside_one(top, height, whole) * stride)
            south = np.int32(_inside_one(top + one, height, whole) * stride)
            north_west[u], north_east[u] = north + west, north + east
            south_west[u], south_east[u] = south + west, south + east
        for k in range(channels):
            plane, target = x[k].ravel(), out[k, v]
            for u in range(width):
                upper = plane[north_west[u]] * (one - share_x[u]) + plane[north_east[u]] * share_x[u]
                lower = plane[south_west[u]] * (one - share_x[u]) + plane[south_east[u]] * share_x[u]
                target[u] = upper * (one - share_y[u]) + lower * share_y[u]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _inside_one(index: np.float32, n: int, whole: np.int64) -> np.int32:
    """:func:`_inside` of a whole float32 number, without branches; clamped for the far places of a near-singular map."""
    period = np.float32(2 * (n - whole))
    index = index - period * np.floor(index / period)
    place = int(np.int32(min(index, period - np.float32(1 - whole) - index)))
    return np.int32(min(max(place, 0), n - 1))
