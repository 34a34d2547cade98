"""Blurs (Hendrycks & Dietterich 2019): defocus, glass, motion, zoom and Gaussian blur."""

from __future__ import annotations

from functools import lru_cache

import numba
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from shiftbench.corruptions import backend
from shiftbench.corruptions.linear import gaussian, reflect, separable, zoom
from shiftbench.corruptions.motion import motion
from shiftbench.corruptions.sampling import Draws
from shiftbench.corruptions.severity import Row, SeverityTable

_BITS = 22  # of fraction in whole-number weights: 255 * 2**22 fits into 31 bits


def gaussian_blur(images: Tensor, constants: Row, *_: object) -> Tensor:
    """Gaussian low-pass, edges repeated; constants: (standard deviation in pixels).

    Examples:
        >>> step = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
        >>> step[..., 8:] = 200
        >>> gaussian_blur(step, (1.0,))[0, 0, 0, 5:11]
        tensor([  0,  11,  60, 139, 188, 199], dtype=torch.uint8)
    """
    return _gaussian(images, constants[0])


def _gaussian(images: Tensor, sigma: float) -> Tensor:
    height, width = images.shape[2:]
    return separable(images, gaussian(height, sigma), gaussian(width, sigma))


def defocus_blur(images: Tensor, constants: Row, *_: object) -> Tensor:
    """Convolve with an anti-aliased disk, borders reflected; constants: (radius, blur of the disk's rim), in pixels.

    Examples:
        >>> step = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
        >>> step[..., 8:] = 200
        >>> defocus_blur(step, (1.5, 0.1))[0, 0, 0, 5:11]
        tensor([  0,   0,  66, 133, 200, 200], dtype=torch.uint8)
    """
    weights = disk_weights(*constants)
    reach = len(weights) - 1
    height, width = images.shape[2:]
    rows, columns = (reflect(np.arange(-reach, size + reach + 1), size) for size in (height, width))
    if backend.compiled(images):
        out = torch.empty_like(images)
        steps = weights - np.pad(weights, ((0, 0), (0, 1)))[:, 1:]
        _defocus(images.flatten(0, 1).numpy(), steps, rows, columns, out.flatten(0, 1).numpy())
        return out
    whole = np.block([[weights[:0:-1, :0:-1], weights[:0:-1]], [weights[:, :0:-1], weights]])
    padded = images[:, :, torch.from_numpy(rows[:-1])][..., torch.from_numpy(columns[:-1])].double()
    kernel = torch.from_numpy(whole).to(padded)[None, None]
    total = functional.conv2d(padded.flatten(0, 1)[:, None], kernel).view(images.shape)
    return (total.round().long() >> _BITS).clamp(max=255).to(torch.uint8)


@lru_cache(maxsize=64)
def disk_weights(radius: float, alias_blur: float) -> np.ndarray:
    """Lower right quarter of the anti-aliased disk: whole numbers to be divided by 2**22, int32 (r + 1, r + 1).

    The published scripts blur a disk on a grid of 17 x 17 (radius 8 and less) or (2r + 1) x (2r + 1) pixels whose border
    reflects, so that a disk that touches the border weighs a little more than 1. That is kept. Whether the sum of their
    float32 weights is above or below 1 is kept too: it decides whether a plain area keeps its value or loses a level.

    Examples:
        >>> (disk_weights(1, 0.2) / 2**22).round(2)
        array([[0.2, 0.2, 0. ],
               [0.2, 0. , 0. ],
               [0. , 0. , 0. ]])
    """
    half, ends = (8, 1) if radius <= 8 else (int(radius), 2)
    offsets = np.arange(-half, half + 1)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.float32)
    disk /= disk.sum()
    taps = np.arange(-ends, ends + 1)
    rim = np.exp(-0.5 * (taps / alias_blur) ** 2)
    rim = (rim / rim.sum()).astype(np.float32)[ends:]
    disk = _rim_blurred(_rim_blurred(disk, rim).T, rim).T
    quarter: np.ndarray = np.rint(disk[half:, half:].astype(float) * 2**_BITS).astype(np.int32)
    reach = int(np.nonzero(quarter[0])[0].max())
    quarter = quarter[: reach + 1, : reach + 1].copy()
    surplus = 4 * quarter[1:, 1:].sum() + 4 * quarter[0, 1:].sum() + quarter[0, 0] - 2**_BITS
    below = disk.sum(dtype=float) < 1
    quarter[0, 0] -= max(surplus + 1, 0) if below else min(surplus, 0)
    return quarter


def _rim_blurred(disk: np.ndarray, rim: np.ndarray) -> np.ndarray:
    """Along the rows, in float32 with fused multiply-adds, as OpenCV does."""
    places = np.arange(disk.shape[1])
    total: np.ndarray = rim[0] * disk
    for tap, weight in enumerate(rim[1:].astype(float), 1):
        pair = disk[:, reflect(places - tap, len(places))] + disk[:, reflect(places + tap, len(places))]
        total = (pair.astype(float) * weight + total).astype(np.float32)
    return total


@numba.njit(nogil=True, cache=True)
def _defocus(planes: np.ndarray, steps: np.ndarray, rows: np.ndarray, columns: np.ndarray, out: np.ndarray) -> None:
    """Sums over a row of the kernel as differences of running sums: a term for each step between its weights.

    Running sums wrap around in 16 bits; their differences, at most 2 * (2 * reach + 1) * 255, do not.
    """
    count, height, width = planes.shape
    reach = steps.shape[0] - 1
    wide = width + 2 * reach + 1
    size = height * wide
    running = np.empty((height + 2 * reach) * wide, np.int16)
    pair, total = np.zeros(size + wide, np.int16), np.empty(size, np.int32)
    for p in range(count):
        for y in range(height + 2 * reach):
            row, line, value = planes[p, rows[y]], running[y * wide :], np.int16(0)
            for x in range(wide):
                line[x] = value
                value = np.int16(value + row[columns[x]])
        total[:] = 0
        for dy in range(reach + 1):
            above, below = running[(reach - dy) * wide :], running[(reach + dy) * wide :]
            for i in range(size):
                pair[i] = below[i]
            if dy > 0:
                for i in range(size):
                    pair[i] += above[i]
            dx = reach
            while dx >= 0:
                left, right, a = pair[reach - dx :], pair[reach + dx + 1 :], steps[dy, dx]
                if dx >= 2 and steps[dy, dx - 2] != 0:  # three at a time save two thirds of the traffic of total
                    b, c = steps[dy, dx - 1], steps[dy, dx - 2]
                    left_b, right_b = pair[reach - dx + 1 :], pair[reach + dx :]
                    left_c, right_c = pair[reach - dx + 2 :], pair[reach + dx - 1 :]
                    for i in range(size):
                        value_b, value_c = np.int16(right_b[i] - left_b[i]), np.int16(right_c[i] - left_c[i])
                        total[i] += a * np.int16(right[i] - left[i]) + b * value_b + c * value_c
                    dx -= 3
                else:
                    if a != 0:
                        for i in range(size):
                            total[i] += a * np.int16(right[i] - left[i])
                    dx -= 1
        for y in range(height):
            line = total[y * wide :]
            for x in range(width):
                out[p, y, x] = min(line[x] >> 22, 255)


def glass_blur(images: Tensor, constants: Row, _table: SeverityTable, draws: Draws) -> Tensor:
    """Blur, let pixels take a random neighbour's place, blur again.

    The published loop means to swap two pixels, but it copies the second over the first (both sides of the assignment
    are views). It runs from the bottom right to the top left, so a copied pixel may move on. We do the same.

    Constants: (standard deviation of the blurs in pixels, largest displacement, repetitions).

    Examples:
        >>> from shiftbench.corruptions import corrupt
        >>> images = torch.eye(16).mul(255).to(torch.uint8).expand(1, 3, 16, 16)
        >>> corrupt(images, "glass_blur", severity=3).shape
        torch.Size([1, 3, 16, 16])
    """
    sigma, delta, repetitions = constants[0], int(constants[1]), int(constants[2])
    height, width = images.shape[2:]
    moves = draws.integers((repetitions, height - 2 * delta, width - 2 * delta, 2), 2 * delta, 0)
    values = _gaussian(images, sigma)
    if backend.compiled(images):
        _displace(values.numpy(), moves.numpy(), delta)
    else:
        values = _displaced(values, moves, delta)
    return _gaussian(values, sigma)


@numba.njit(nogil=True, cache=True)
def _displace(values: np.ndarray, moves: np.ndarray, delta: int) -> None:
    """The loop, in place; the channels of a pixel move together in one word."""
    n, channels, height, width = values.shape
    pixels = np.empty((height, width), np.uint32)
    for i in range(n):
        for y in range(height):
            for x in range(width):
                word = np.uint32(values[i, 0, y, x])
                for c in range(1, channels):
                    word |= np.uint32(values[i, c, y, x]) << np.uint32(8 * c)
                pixels[y, x] = word
        for r in range(moves.shape[1]):
            for j in range(moves.shape[2]):
                y = height - delta - j
                for k in range(moves.shape[3]):
                    x = width - delta - k
                    pixels[y, x] = pixels[y + moves[i, r, j, k, 1] - delta, x + moves[i, r, j, k, 0] - delta]
        for c in range(channels):
            for y in range(height):
                for x in range(width):
                    values[i, c, y, x] = pixels[y, x] >> np.uint32(8 * c) & np.uint32(255)


def _displaced(values: Tensor, moves: Tensor, delta: int) -> Tensor:
    """The loop above in parallel: follow each pixel's origin to a pixel that had not been replaced yet."""
    n, channels, height, width = values.shape
    places = torch.arange(height * width, device=values.device)
    visited = places.view(height, width)[delta + 1 : height - delta + 1, delta + 1 : width - delta + 1].flip(0, 1)
    flat = values.flatten(2)
    is_visited = torch.isin(places, visited)
    for move in (moves.long() - delta).unbind(1):
        origin = places.repeat(n, 1)
        origin[:, visited.flatten()] = (visited + move[..., 1] * width + move[..., 0]).flatten(1)
        replaced = (origin > places) & is_visited[origin]  # the loop comes from the end
        link = torch.where(replaced, origin, places)
        while not torch.equal(further := link.gather(1, link), link):
            link = further
        flat = flat.gather(2, origin.gather(1, link)[:, None].expand(-1, channels, -1))
    return flat.view(values.shape)


def motion_blur(images: Tensor, constants: Row, table: SeverityTable, draws: Draws) -> Tensor:
    """One-sided Gaussian blur along a random direction within 45 degrees of the horizontal.

    ImageMagick, which made the published sets, rounds the result; imagecorruptions truncates it.

    Constants: (radius, standard deviation), in pixels.

    Examples:
        >>> from shiftbench.corruptions import corrupt
        >>> line = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
        >>> line[..., 8] = 255
        >>> corrupt(line, "motion_blur", severity=3).max() < 255
        tensor(True)
    """
    return motion(images, constants[0], constants[1], draws.uniform((), -45, 45, 0), table)


def zoom_blur(images: Tensor, constants: Row, table: SeverityTable, *_: object) -> Tensor:
    """Mean of the image and its zooms into the centre; constants: (end of the zoom factors, exclusive; their step).

    Examples:
        >>> from shiftbench.corruptions import corrupt
        >>> line = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
        >>> line[..., 3] = 255
        >>> corrupt(line, "zoom_blur", severity=3).max() < 255
        tensor(True)
    """
    height, width = images.shape[2:]
    begin, source, weights = _zoom_weights(height, width, *constants, "centre" if table.published else "corner")
    planes = images.flatten(2).flatten(0, 1)
    if backend.compiled(images):
        out = torch.empty_like(images)
        _apply(planes.numpy(), begin, source, weights, out.view(planes.shape).numpy())
        return out
    total = torch.zeros(planes.shape, dtype=torch.int32, device=images.device)
    count = np.diff(begin)
    for k in range(count.max()):
        pixels = np.nonzero(count > k)[0]
        entry = begin[pixels] + k
        here, there, weight = (torch.from_numpy(a).to(images.device) for a in (pixels, source[entry], weights[entry]))
        total[:, here] += planes[:, there].int() * weight
    return (total >> _BITS).to(torch.uint8).view(images.shape)


@lru_cache(maxsize=5)
def _zoom_weights(height: int, width: int, end: float, step: float, keep: str) -> tuple[np.ndarray, ...]:
    """Zoom blur as a sparse matrix (pixels x pixels) with whole-number weights that sum to 2**22 in each row.

    Returns:
        For every pixel its first entry, int64 (H*W + 1,); of each entry the source pixel and the weight, int32.
    """
    pixels = np.arange(height * width)
    factors = np.arange(1, end, step)
    keys, shares = [pixels * (height * width + 1)], [np.ones(height * width)]
    for factor in factors:
        rows, columns = zoom(height, float(factor), keep), zoom(width, float(factor), keep)
        for i in range(rows.weights.shape[1]):
            for j in range(columns.weights.shape[1]):
                source = (rows.start[:, None] + i) * width + columns.start + j
                keys.append(pixels * (height * width) + source.ravel())
                shares.append((rows.weights[:, i, None].astype(float) * columns.weights[:, j]).ravel())
    key, entry = np.unique(np.concatenate(keys), return_inverse=True)
    share = np.bincount(entry, np.concatenate(shares)) / (len(factors) + 1)
    weights = np.rint(share * 2**_BITS).astype(np.int64)
    key, weights = key[weights > 0], weights[weights > 0]
    pixel, source = np.divmod(key, height * width)
    begin = np.searchsorted(pixel, np.arange(height * width + 1))
    largest = np.lexsort((weights, pixel))[begin[1:] - 1]
    weights[largest] += 2**_BITS - np.add.reduceat(weights, begin[:-1])
    return begin, source.astype(np.int32), weights.astype(np.int32)


@numba.njit(nogil=True, cache=True)
def _apply(planes: np.ndarray, begin: np.ndarray, source: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    """A sparse whole-number map, on 32 planes at a time with the planes innermost."""
    count, size = planes.shape
    lanes = np.zeros((size, 32), np.uint8)
    total = np.empty(32, np.int32)
    for first in range(0, count, 32):
        members = min(32, count - first)
        for p in range(members):
            for i in range(size):
                lanes[i, p] = planes[first + p, i]
        for i in range(size):
            total[:] = 0
            k = begin[i]
            while k + 2 <= begin[i + 1]:
                a, b, v, w = source[k], source[k + 1], weights[k], weights[k + 1]
                for p in range(32):
                    total[p] += v * np.int32(lanes[a, p]) + w * np.int32(lanes[b, p])
                k += 2
            if k < begin[i + 1]:
                a, v = source[k], weights[k]
                for p in range(32):
                    total[p] += v * np.int32(lanes[a, p])
            for p in range(members):
                out[first + p, i] = total[p] >> 22
