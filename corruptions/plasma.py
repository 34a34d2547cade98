"""The plasma fractal of fog: a height map by the diamond-square algorithm on a torus (Fournier et al. 1982)."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from shiftbench.corruptions import backend


def plasma(noise: Tensor, size: int, decay: float) -> Tensor:
    """Height maps scaled to 0..1.

    As in the published scripts, the noise of a level of amplitude a is uniform within a**2, not a.

    Args:
        noise: float32 (N, size**2 - 1), uniform in (-1, 1), in the order in which the scripts draw it: level by level,
            first the centres of the cells, then their upper, then their left sides.
        size: side of the maps, a power of two.
        decay: by what the amplitude is divided from level to level.

    Returns:
        float32 (N, size, size).
    """
    levels = size.bit_length() - 1
    reach = np.array([(100 / decay**level) ** 2 for level in range(levels)], np.float32)
    heights = torch.zeros(len(noise), size, size, device=noise.device)
    if backend.compiled(noise):
        _grow(noise.numpy(), reach, heights.numpy())
        return heights
    used = 0
    for level in range(levels):
        step, half, cells = size >> level, size >> level + 1, 1 << level
        wobble = noise[:, used : used + 3 * cells**2].view(-1, 3, cells, cells) * reach[level].item()
        used += 3 * cells**2
        corner = heights[:, ::step, ::step]
        right, down = corner.roll(-1, 2), corner.roll(-1, 1)
        centre = ((corner + down) + (right + down.roll(-1, 2))) / 4 + wobble[:, 0]
        heights[:, half::step, half::step] = centre
        heights[:, ::step, half::step] = ((centre + centre.roll(1, 1)) + (corner + right)) / 4 + wobble[:, 1]
        heights[:, half::step, ::step] = ((centre + centre.roll(1, 2)) + (corner + down)) / 4 + wobble[:, 2]
    heights -= heights.amin((1, 2), keepdim=True)
    return heights / heights.amax((1, 2), keepdim=True)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _grow(noise: np.ndarray, reach: np.ndarray, heights: np.ndarray) -> None:
    n, size, _ = heights.shape
    four = np.float32(4)
    for i in range(n):
        height, used = heights[i], 0
        for level in range(len(reach)):
            step, half, cells, wobble = size >> level, size >> (level + 1), 1 << level, reach[level]
            for j in range(cells):
                y, below = j * step, (j + 1) % cells * step
                for k in range(cells):
                    x, right = k * step, (k + 1) % cells * step
                    total = (height[y, x] + height[below, x]) + (height[y, right] + height[below, right])
                    height[y + half, x + half] = total / four + noise[i, used + j * cells + k] * wobble
            upper, left = used + cells * cells, used + 2 * cells * cells
            used += 3 * cells * cells
            for j in range(cells):
                y, below = j * step, (j + 1) % cells * step
                above = (y - half) % size
                for k in range(cells):
                    x, right, before = k * step, (k + 1) % cells * step, (k * step - half) % size
                    here, centre = height[y, x], height[y + half, x + half]
                    total = (centre + height[above, x + half]) + (here + height[y, right])
                    height[y, x + half] = total / four + noise[i, upper + j * cells + k] * wobble
                    total = (centre + height[y + half, before]) + (here + height[below, x])
                    height[y + half, x] = total / four + noise[i, left + j * cells + k] * wobble
        low, high = height[0, 0], height[0, 0]
        for y in range(size):
            for x in range(size):
                low, high = min(low, height[y, x]), max(high, height[y, x])
        for y in range(size):
            for x in range(size):
                height[y, x] = (height[y, x] - low) / (high - low)
