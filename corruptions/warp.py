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
    return torch.linalg.solve(moved, source.double().expand(len(jitter), -1, -1)).transpose(1, 2).float()


def warp(x: Tensor, affine: Tensor | None = None, field: Tensor | None = None) -> Tensor:
    """Bilinear interpolation at affinely mapped or at displaced places.

    Args:
        x: float32 (N, C, H, W).
        affine: (N, 2, 3), the x and the y read at (x, y, 1); the border is reflected about the outermost pixels.
        field: float32 (N, 2, H, W), what is added to x and to y; the border is mirrored at the image's edge.

    Returns:
        float32 (N, C, H, W).
    """
    n, channels, height, width = x.shape
    if affine is None:
        affine = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).expand(n, 2, 3)
    if backend.compiled(x):
        moves = np.empty((0, 2, 0, 0), np.float32) if field is None else field.numpy()
        out = torch.empty_like(x)
        _warp(x.numpy(), affine.contiguous().numpy(), moves, out.numpy())
        return out
    (a, b, c), (d, e, f) = affine.to(x.device)[..., None, None].permute(1, 2, 0, 3, 4)
    rows, columns = torch.arange(height, device=x.device)[:, None], torch.arange(width, device=x.device)
    across, down = (a * columns + b * rows) + c, (d * columns + e * rows) + f
    if field is not None:
        across, down = across + field[:, 0], down + field[:, 1]
    left, top = across.floor(), down.floor()
    share_x, share_y = (across - left)[:, None], (down - top)[:, None]
    whole = int(field is None)

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
def _inside_one(index: int, n: int, whole: int) -> int:
    if 0 <= index < n:
        return index
    period = 2 * (n - whole)
    index = index % period
    return min(index, period - 1 + whole - index)


@numba.njit(nogil=True, cache=True)
def _warp(x: np.ndarray, affine: np.ndarray, field: np.ndarray, out: np.ndarray) -> None:
    n, channels, height, width = x.shape
    one, whole = np.float32(1), 0 if len(field) else 1
    for i in range(n):
        for v in range(height):
            for u in range(width):
                across = (affine[i, 0, 0] * np.float32(u) + affine[i, 0, 1] * np.float32(v)) + affine[i, 0, 2]
                down = (affine[i, 1, 0] * np.float32(u) + affine[i, 1, 1] * np.float32(v)) + affine[i, 1, 2]
                if len(field):
                    across += field[i, 0, v, u]
                    down += field[i, 1, v, u]
                left, top = np.floor(across), np.floor(down)
                share_x, share_y = across - left, down - top
                l, r = _inside_one(int(left), width, whole), _inside_one(int(left) + 1, width, whole)
                t, b = _inside_one(int(top), height, whole), _inside_one(int(top) + 1, height, whole)
                for c in range(channels):
                    plane = x[i, c]
                    upper = plane[t, l] * (one - share_x) + plane[t, r] * share_x
                    lower = plane[b, l] * (one - share_x) + plane[b, r] * share_x
                    out[i, c, v, u] = upper * (one - share_y) + lower * share_y
