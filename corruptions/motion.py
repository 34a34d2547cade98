"""Blur along a ray, for motion_blur and the flakes of snow: ImageMagick's and imagecorruptions'."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from shiftbench.corruptions import backend
from shiftbench.corruptions.backend import cut, to_uint8
from shiftbench.corruptions.severity import SeverityTable


def motion(x: Tensor, radius: float, sigma: float, angle: Tensor, table: SeverityTable) -> Tensor:
    """ImageMagick's motion blur: pixels along a ray, weighted by half a Gaussian, edges repeated.

    Args:
        x: uint8 or float32 (N, C, H, W).
        radius: the ray has 2 * radius + 1 pixels.
        sigma: standard deviation in pixels.
        angle: (N,), degrees; 0 looks to the right, 90 down.
        table: imagecorruptions ends the sum where the ray leaves an image of this size.

    Returns:
        (N, C, H, W), the dtype of x; uint8 is rounded as ImageMagick does for a published table, else truncated.

    Examples:
        >>> step = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
        >>> step[..., 8:] = 200
        >>> from shiftbench.corruptions.severity import TABLES
        >>> motion(step, radius=1, sigma=1, angle=torch.zeros(1), table=TABLES["cifar"])[0, 0, 0, 5:9]
        tensor([  0,  16,  85, 200], dtype=torch.uint8)
    """
    height, width = x.shape[2:]
    taps = np.arange(2 * int(radius) + 1)
    weights = np.exp(-0.5 * (taps / sigma) ** 2)
    weights = np.tile(weights / weights.sum(), (len(x), 1)).astype(np.float32)
    weights[weights < 1e-9] = 0  # far below a level; denormal numbers would be slow
    radians = np.deg2rad(angle.double().cpu().numpy())[:, None]
    down, right = np.ceil(taps * np.sin(radians) - 0.5), np.ceil(taps * np.cos(radians) - 0.5)
    if not table.published:
        weights *= np.logical_and.accumulate((abs(down) < height) & (abs(right) < width), 1)
    down, right = down.astype(int), right.astype(int)
    nudge = 0.5 if table.published else backend.NUDGE
    if backend.compiled(x):
        out = torch.empty_like(x)
        _motion(x.numpy(), down, right, weights, nudge, out.numpy())
        return out
    moves, scale = torch.from_numpy(np.stack([down, right])).to(x.device), torch.from_numpy(weights).to(x.device)
    rows, columns = torch.arange(height, device=x.device)[:, None], torch.arange(width, device=x.device)
    flat, total = x.flatten(2).float(), torch.zeros_like(x, dtype=torch.float32)
    for (below, beside), weight in zip(moves[..., None, None].unbind(2), scale.unbind(1), strict=True):
        source = (rows + below).clamp(0, height - 1) * width + (columns + beside).clamp(0, width - 1)
        tap = flat.gather(2, source.flatten(1)[:, None].expand(-1, x.shape[1], -1)).view(x.shape)
        total += tap * weight[:, None, None, None]
    return to_uint8(total, nudge) if x.dtype == torch.uint8 else total


@numba.njit(nogil=True, cache=True)
def _motion(
    x: np.ndarray, down: np.ndarray, right: np.ndarray, weights: np.ndarray, nudge: float, out: np.ndarray
) -> None:
    """Padded by repeated edges, every tap is the same plane from another start."""
    n, channels, height, width = x.shape
    cutting = out.itemsize == 1
    for i in range(n):
        taps = down.shape[1]
        while weights[i, taps - 1] == 0:
            taps -= 1
        last_down, last_right = down[i, taps - 1], right[i, taps - 1]
        top, left = max(0, -last_down), max(0, -last_right)
        tall, wide = height + abs(last_down), width + abs(last_right)
        size = (height - 1) * wide + width
        start = (top + down[i]) * wide + left + right[i]
        padded, total = np.empty((tall, wide), np.float32), np.empty(height * wide, np.float32)
        flat, scale = padded.ravel(), weights[i]
        for c in range(channels):
            for v in range(tall):
                row, target = x[i, c, min(max(v - top, 0), height - 1)], padded[v]
                target[:left] = row[0]
                target[left + width :] = row[width - 1]
                middle = target[left : left + width]
                for u in range(width):
                    middle[u] = row[u]
            total[:] = 0
            t = 0
            while t + 4 <= taps:
                first, second, third, fourth = (
                    flat[start[t] :],
                    flat[start[t + 1] :],
                    flat[start[t + 2] :],
                    flat[start[t + 3] :],
                )
                s0, s1, s2, s3 = scale[t], scale[t + 1], scale[t + 2], scale[t + 3]
                for j in range(size):
                    value = (total[j] + s0 * first[j]) + s1 * second[j]
                    total[j] = (value + s2 * third[j]) + s3 * fourth[j]
                t += 4
            while t < taps:
                first, s0 = flat[start[t] :], scale[t]
                for j in range(size):
                    total[j] += s0 * first[j]
                t += 1
            for y in range(height):
                line, target = total[y * wide :], out[i, c, y]
                for u in range(width):
                    target[u] = cut(line[u], nudge) if cutting else line[u]
