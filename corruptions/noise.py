"""Noise that is independent for every value (Hendrycks & Dietterich 2019): Gaussian, shot, impulse and speckle noise.

An 8-bit value can only become one of 256 values, so each noise is a 256 x 256 matrix of probabilities. It is computed once
from the exact distribution (clipped and truncated as the published scripts do) and sampled by Walker's alias method: a
32-bit word per value, probabilities exact to 2**-24.
"""

from __future__ import annotations

from functools import lru_cache

import numba
import numpy as np
import torch
from torch import Tensor

from shiftbench.corruptions import backend
from shiftbench.corruptions.sampling import Draws, fill_words
from shiftbench.corruptions.severity import Row, SeverityTable

_LEVELS = np.arange(256)


def gaussian_noise(images: Tensor, constants: Row, _table: SeverityTable, draws: Draws) -> Tensor:
    """Add normal noise; constants: (standard deviation, in units of the full range).

    Examples:
        >>> from shiftbench.corruptions import corrupt
        >>> grey = torch.full((1, 3, 32, 32), 128, dtype=torch.uint8)
        >>> round(corrupt(grey, "gaussian_noise", severity=5).float().std().item() / 255, 2)
        0.1
    """
    return _sample(images, draws, "normal", constants[0], 0.0)


def shot_noise(images: Tensor, constants: Row, _table: SeverityTable, draws: Draws) -> Tensor:
    """Replace each value by a Poisson count; constants: (photons at full brightness).

    Examples:
        >>> from shiftbench.corruptions import corrupt
        >>> grey = torch.full((1, 3, 32, 32), 128, dtype=torch.uint8)
        >>> round(corrupt(grey, "shot_noise", severity=5).float().std().item() / 255, 2)
        0.1
    """
    return _sample(images, draws, "poisson", constants[0], 0.0)


def impulse_noise(images: Tensor, constants: Row, _table: SeverityTable, draws: Draws) -> Tensor:
    """Set values to 0 or 255, each as often; constants: (share of the values).

    Examples:
        >>> from shiftbench.corruptions import corrupt
        >>> grey = torch.full((1, 3, 32, 32), 128, dtype=torch.uint8)
        >>> corrupt(grey, "impulse_noise", severity=5).unique()
        tensor([  0, 128, 255], dtype=torch.uint8)
    """
    return _sample(images, draws, "impulse", constants[0], 0.0)


def speckle_noise(images: Tensor, constants: Row, _table: SeverityTable, draws: Draws) -> Tensor:
    """Add normal noise that grows with the value; constants: (standard deviation relative to the value).

    Examples:
        >>> from shiftbench.corruptions import corrupt
        >>> grey = torch.full((1, 3, 32, 32), 128, dtype=torch.uint8)
        >>> corrupt(torch.zeros_like(grey), "speckle_noise", severity=5).unique()
        tensor([0], dtype=torch.uint8)
    """
    return _sample(images, draws, "normal", 0.0, constants[0])


def _normal(constant: float, relative: float) -> np.ndarray:
    std = constant * 255 + relative * _LEVELS
    edges = torch.from_numpy((_LEVELS[1:] - _LEVELS[:, None]) / np.maximum(std, 1e-9)[:, None])
    below = torch.special.ndtr(edges).numpy()
    return np.diff(below, prepend=0.0, append=1.0)


def _poisson(photons: float, _: float) -> np.ndarray:
    counts = np.arange(int(photons))
    rate = _LEVELS[:, None] / 255 * photons
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(counts[1:]))])
    with np.errstate(divide="ignore", invalid="ignore"):
        log_p = np.where(counts == 0, 0.0, counts * np.log(rate)) - rate - log_factorial
    matrix = np.zeros((256, 256))
    np.add.at(matrix.T, (counts / photons * 255).astype(int), np.exp(log_p).T)
    matrix[:, 255] += np.maximum(1 - matrix.sum(1), 0)
    return matrix


def _impulse(amount: float, _: float) -> np.ndarray:
    matrix = (1 - amount) * np.eye(256)
    matrix[:, 0] += amount / 2
    matrix[:, 255] += amount / 2
    return matrix


_MATRICES = {"normal": _normal, "poisson": _poisson, "impulse": _impulse}


def alias_table(matrix: np.ndarray) -> np.ndarray:
    """Walker's alias table of every row of a stochastic matrix (256, 256).

    Probabilities become integers that sum to 2**24. Each of the 256 columns holds 2**16: a share of its own value, and
    the rest of another value, its alias. With integers, the table is the same on every machine.

    Returns:
        int32 (256, 256): ``own share << 8 | alias``.

    Examples:
        >>> alias_table(np.eye(256)).shape
        (256, 256)
    """
    exact = matrix / matrix.sum(1, keepdims=True) * 2**24
    mass = np.floor(exact).astype(np.int64)
    missing = 2**24 - mass.sum(1)
    rank = np.argsort(np.argsort(mass - exact, axis=1, kind="stable"), axis=1, kind="stable")
    mass += rank < missing[:, None]
    rows = np.arange(256)
    share, alias = np.full((256, 256), 2**16), np.tile(_LEVELS, (256, 1))
    open_ = np.ones((256, 256), bool)
    for _ in range(255):  # the poorest column is filled up by the richest value, and closed
        poorest = np.where(open_, mass, 2**30).argmin(1)
        richest = np.where(open_, mass, -1).argmax(1)
        share[rows, poorest], alias[rows, poorest] = mass[rows, poorest], richest
        mass[rows, richest] -= 2**16 - mass[rows, poorest]
        open_[rows, poorest] = False
    return (share << 8 | alias).astype(np.int32)


@lru_cache(maxsize=64)
def _table(kind: str, constant: float, relative: float) -> Tensor:
    return torch.from_numpy(alias_table(_MATRICES[kind](constant, relative)))


def _sample(images: Tensor, draws: Draws, kind: str, constant: float, relative: float) -> Tensor:
    table = _table(kind, constant, relative)
    if backend.compiled(images):
        out = torch.empty_like(images)
        flat = images.flatten(1).numpy()
        _sample_kernel(flat, table.numpy().ravel(), *draws.key, draws.index.numpy(), out.view(flat.shape).numpy())
        return out
    words = draws.words(tuple(images.shape[1:]), 0)
    column = words >> 24
    entry = table.to(images.device).flatten()[images.long() << 8 | column]
    return torch.where((words >> 8 & 0xFFFF) < entry >> 8, column, entry & 0xFF).to(torch.uint8)


@numba.njit(nogil=True, cache=True)
def _sample_kernel(images: np.ndarray, table: np.ndarray, k0: int, k1: int, index: np.ndarray, out: np.ndarray) -> None:
    count = images.shape[1]
    words = np.empty((count + 3) // 4 * 4, np.uint32)
    for i in range(images.shape[0]):
        fill_words(k0, k1, index[i], 0, words)
        for j in range(count):
            word = words[j]
            column = word >> np.uint32(24)
            entry = np.uint32(table[np.uint32(images[i, j]) << np.uint32(8) | column])
            own = (word >> np.uint32(8)) & np.uint32(0xFFFF) < entry >> np.uint32(8)
            out[i, j] = column if own else entry & np.uint32(0xFF)
