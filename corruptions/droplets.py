"""Water drops for spatter: where the liquid lies and how the light breaks at its rim, step by step as in OpenCV."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from shiftbench.corruptions.linear import reflect

_SLOPE = 13573  # tan(22.5 degrees) * 2**15
_STRAIGHT, _DIAGONAL, _KNIGHT = np.float32(1), np.float32(1.4), np.float32(2.1969)
_FAR = np.float32(20)


def droplets(liquid: Tensor) -> Tensor:
    """Brightness of the drops.

    Canny edges of the liquid, the distance to the nearest edge (at most 20 pixels), smoothed, equalised and embossed,
    times the liquid. It depends on random numbers alone, so it is computed on the CPU and moved to the device.

    Args:
        liquid: uint8 (N, H, W), zero where there is no drop.

    Returns:
        float32 (N, H, W) in 0..1, with the maximum 1 in each image; all zero for an image without drops.
    """
    n, height, width = liquid.shape
    out = np.empty((n, height, width), np.float32)
    rows, columns = reflect(np.arange(-1, height + 1), height), reflect(np.arange(-1, width + 1), width)
    _droplets(liquid.cpu().numpy(), rows, columns, out)
    return torch.from_numpy(out).to(liquid.device)


@numba.njit(nogil=True, cache=True)
def _droplets(liquid: np.ndarray, rows: np.ndarray, columns: np.ndarray, out: np.ndarray) -> None:
    n, height, width = liquid.shape
    distance = np.empty((height + 4, width + 4), np.float32)
    image = np.empty((height, width), np.int64)
    for i in range(n):
        _edges(liquid[i], distance)
        _chamfer(distance)
        _box(distance[2:-2, 2:-2], rows, columns, 0.0, image)
        _equalise(image)
        _emboss(image, rows, columns, distance[2:-2, 2:-2])
        _box(distance[2:-2, 2:-2], rows, columns, 0.5, image)
        peak = 0
        for y in range(height):
            for x in range(width):
                peak = max(peak, image[y, x] * liquid[i, y, x])
        for y in range(height):
            for x in range(width):
                out[i, y, x] = image[y, x] * liquid[i, y, x] / max(peak, 1)


@numba.njit(nogil=True, cache=True)
def _edges(liquid: np.ndarray, distance: np.ndarray) -> None:
    """Canny edges (thresholds 50 and 150, L1 gradient): zero on an edge, far elsewhere, with a frame of two."""
    height, width = liquid.shape
    dx, dy = np.empty((height, width), np.int64), np.empty((height, width), np.int64)
    size = np.zeros((height + 2, width + 2), np.int64)
    for y in range(height):
        up, down = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            nw, ne, sw, se = (
                np.int64(liquid[up, left]),
                np.int64(liquid[up, right]),
                np.int64(liquid[down, left]),
                np.int64(liquid[down, right]),
            )
            dx[y, x] = ne + 2 * np.int64(liquid[y, right]) + se - nw - 2 * np.int64(liquid[y, left]) - sw
            dy[y, x] = sw + 2 * np.int64(liquid[down, x]) + se - nw - 2 * np.int64(liquid[up, x]) - ne
            size[y + 1, x + 1] = abs(dx[y, x]) + abs(dy[y, x])
    distance[:] = _FAR
    state = np.zeros((height + 2, width + 2), np.uint8)
    stack = np.empty(height * width, np.int64)
    top = 0
    for y in range(height):
        for x in range(width):
            here = size[y + 1, x + 1]
            if here <= 50:
                continue
            ax, ay = abs(dx[y, x]), abs(dy[y, x]) << 15
            if ay < ax * _SLOPE:
                ridge = here > size[y + 1, x] and here >= size[y + 1, x + 2]
            elif ay > ax * _SLOPE + (ax << 16):
                ridge = here > size[y, x + 1] and here >= size[y + 2, x + 1]
            else:
                s = -1 if (dx[y, x] ^ dy[y, x]) < 0 else 1
                ridge = here > size[y, x + 1 - s] and here > size[y + 2, x + 1 + s]
            if ridge:
                state[y + 1, x + 1] = 1
                if here > 150:
                    state[y + 1, x + 1] = 2
                    stack[top] = y * width + x
                    top += 1
    while top > 0:
        top -= 1
        y, x = divmod(stack[top], width)
        distance[y + 2, x + 2] = 0
        for v in range(y, y + 3):
            for w in range(x, x + 3):
                if state[v, w] == 1:
                    state[v, w] = 2
                    stack[top] = (v - 1) * width + w - 1
                    top += 1


@numba.njit(nogil=True, cache=True)
def _chamfer(distance: np.ndarray) -> None:
    """Distance to the nearest zero by steps to the 5 x 5 neighbourhood (Borgefors 1986), two passes in place."""
    height, width = distance.shape
    for turn in range(2):
        s = 1 - 2 * turn
        for j in range(2, height - 2):
            y = j if turn == 0 else height - 1 - j
            for i in range(2, width - 2):
                x = i if turn == 0 else width - 1 - i
                best = distance[y, x]
                best = min(best, distance[y - 2 * s, x - 1] + _KNIGHT, distance[y - 2 * s, x + 1] + _KNIGHT)
                best = min(best, distance[y - s, x - 2] + _KNIGHT, distance[y - s, x + 2] + _KNIGHT)
                best = min(best, distance[y - s, x - 1] + _DIAGONAL, distance[y - s, x + 1] + _DIAGONAL)
                best = min(best, distance[y - s, x] + _STRAIGHT, distance[y, x - s] + _STRAIGHT)
                distance[y, x] = best


@numba.njit(nogil=True, cache=True)
def _box(image: np.ndarray, rows: np.ndarray, columns: np.ndarray, rounding: float, out: np.ndarray) -> None:
    """Mean of the 3 x 3 neighbourhood, borders reflected, plus rounding, as a whole number."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            total = 0.0
            for v in range(3):
                for w in range(3):
                    total += image[rows[y + v], columns[x + w]]
            out[y, x] = int(np.float32(total * (1 / 9)) + rounding)


@numba.njit(nogil=True, cache=True)
def _equalise(image: np.ndarray) -> None:
    """Histogram equalisation in place; the smallest value present becomes 0."""
    count = np.zeros(256, np.int64)
    for value in image.flat:
        count[value] += 1
    first = 0
    while count[first] == 0:
        first += 1
    if count[first] == image.size:
        return
    scale = np.float32(255) / np.float32(image.size - count[first])
    level = np.zeros(256, np.int64)
    total = 0
    for value in range(first + 1, 256):
        total += count[value]
        level[value] = int(np.rint(np.float32(total) * scale))
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            image[y, x] = level[image[y, x]]


@numba.njit(nogil=True, cache=True)
def _emboss(image: np.ndarray, rows: np.ndarray, columns: np.ndarray, out: np.ndarray) -> None:
    for y in range(image.shape[0]):
        up, down = rows[y], rows[y + 2]
        for x in range(image.shape[1]):
            left, right = columns[x], columns[x + 2]
            value = 2 * (image[down, right] - image[up, left]) + image[y, x] + image[y, right] + image[down, x]
            value -= image[up, x] + image[y, left]
            out[y, x] = min(max(value, 0), 255)
