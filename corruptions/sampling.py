"""Randomness by counter: what is drawn for an image depends on its index, never on what was drawn before.

Philox4x32-10 (Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3") turns a counter and a key into four
32-bit words. The key is a digest of (seed, corruption, severity); the counter holds the image's index, the purpose of the
draw (``field``) and the number of the block. So no two draws have the same counter.
"""

from __future__ import annotations

import hashlib
from functools import cache
from math import prod
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from shiftbench.corruptions import backend

Shape = tuple[int, ...]


def philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> tuple[Any, Any, Any, Any]:
    """Ten rounds of Philox4x32, on Python integers, on int64 tensors or, compiled, on int64 scalars.

    Args:
        c0, c1, c2, c3: the counter, 32-bit words.
        k0, k1: the key, 32-bit words.

    Returns:
        Four 32-bit words. Where a 64-bit product wraps to a negative number, the masks restore its bits.

    Examples:
        >>> [hex(word) for word in philox(0, 0, 0, 0, 0, 0)]
        ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    for _ in range(10):
        low, high = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c2 = ((high >> 32) & 0xFFFFFFFF) ^ c1 ^ k0, ((low >> 32) & 0xFFFFFFFF) ^ c3 ^ k1
        c1, c3 = high & 0xFFFFFFFF, low & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


class Draws:
    """The random numbers of one (seed, corruption, severity) for a batch of images.

    Every draw names its purpose by a small integer ``field``; two draws of one corruption use two fields.

    Attributes:
        index: the images' global indices, int64 (N,), on the images' device.
        key: two 32-bit words.

    Examples:
        >>> both = Draws(seed=0, name="fog", severity=3, index=torch.tensor([4, 7]))
        >>> second = Draws(seed=0, name="fog", severity=3, index=torch.tensor([7]))
        >>> torch.equal(both.uniform((2,), 0, 1, field=0)[1:], second.uniform((2,), 0, 1, field=0))
        True
    """

    def __init__(self, seed: int, name: str, severity: int, index: Tensor) -> None:
        digest = hashlib.blake2b(f"{seed}/{name}/{severity}".encode(), digest_size=8).digest()
        self.key = int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")
        self.index = index

    def words(self, shape: Shape, field: int) -> Tensor:
        """Uniform 32-bit words, int64 (N, *shape)."""
        if backend.compiled(self.index):
            return self._compiled(_words, shape, field, np.int64)
        count = prod(shape)
        low, high = (self.index & 0xFFFFFFFF)[:, None], ((self.index >> 32) & 0xFFFFFFFF)[:, None]
        block = torch.arange(_blocks(count), device=self.index.device)[None]
        lanes = philox(low, high, block, torch.full_like(block, field), *self.key)
        return torch.cat(lanes, 1)[:, :count].reshape(len(self.index), *shape)

    def uniform(self, shape: Shape, low: float, high: float, field: int) -> Tensor:
        """Uniform on [low, high), float32 (N, *shape): 2**24 equidistant values."""
        step = (high - low) / 2**24
        if backend.compiled(self.index):
            return self._compiled(_uniform, shape, field, np.float32, np.float32(low), np.float32(step))
        return (self.words(shape, field) >> 8).float() * step + low

    def normal(self, shape: Shape, mean: float, std: float, field: int) -> Tensor:
        """Normal, float32 (N, *shape): one of 65,536 equally likely values, at most 4.4 ``std`` from the mean."""
        values = mean + std * normal_quantiles()
        if backend.compiled(self.index):
            return self._compiled(_pick, shape, field, np.float32, values.float().numpy())
        return values.float().to(self.index.device)[self.words(shape, field) >> 16]

    def integers(self, shape: Shape, stop: int, field: int) -> Tensor:
        """Uniform on 0 .. stop - 1, at most 256 values; uint8 (N, *shape)."""
        if backend.compiled(self.index):
            return self._compiled(_integers, shape, field, np.uint8, stop)
        return ((self.words(shape, field) * stop) >> 32).to(torch.uint8)

    def _compiled(self, kernel: Any, shape: Shape, field: int, dtype: type, *options: Any) -> Tensor:
        out: np.ndarray = np.empty((len(self.index), prod(shape)), dtype)
        kernel(*self.key, self.index.numpy(), field, *options, out)
        return torch.from_numpy(out).view(len(self.index), *shape)


@cache
def normal_quantiles() -> Tensor:
    """65,536 equally likely standard normal values, float64: the mean of each slice of the distribution.

    Slice means keep the mean exact and lose 2e-5 of the variance.

    Examples:
        >>> len(normal_quantiles()), round(normal_quantiles().std().item(), 3)
        (65536, 1.0)
    """
    edges = torch.special.ndtri(torch.arange(65537, dtype=torch.float64) / 65536)
    density: Tensor = torch.exp(-0.5 * edges**2) / (2 * torch.pi) ** 0.5
    return (density[:-1] - density[1:]) * 65536


def _blocks(count: int) -> int:
    return -(-count // 4)


_philox = numba.njit(inline="always")(philox)


@numba.njit(nogil=True, cache=True)
def fill_words(k0: int, k1: int, index: int, field: int, out: np.ndarray) -> None:
    """Write the words of one image: word ``lane * blocks + block`` is lane ``lane`` of that block.

    Examples:
        >>> words = np.empty(4, np.uint32)
        >>> fill_words(0, 0, 0, 0, words)
        >>> hex(words[0])
        '0x6627e8d5'
    """
    blocks = out.shape[0] // 4
    low, high = index & 0xFFFFFFFF, (index >> 32) & 0xFFFFFFFF
    for block in range(blocks):
        a, b, c, d = _philox(low, high, block, field, k0, k1)
        out[block] = a
        out[blocks + block] = b
        out[2 * blocks + block] = c
        out[3 * blocks + block] = d


@numba.njit(nogil=True, cache=True)
def _words(k0: int, k1: int, index: np.ndarray, field: int, out: np.ndarray) -> None:
    words = np.empty((out.shape[1] + 3) // 4 * 4, np.uint32)
    for i in range(out.shape[0]):
        fill_words(k0, k1, index[i], field, words)
        for j in range(out.shape[1]):
            out[i, j] = words[j]


@numba.njit(nogil=True, cache=True)
def _integers(k0: int, k1: int, index: np.ndarray, field: int, stop: int, out: np.ndarray) -> None:
    words = np.empty((out.shape[1] + 3) // 4 * 4, np.uint32)
    for i in range(out.shape[0]):
        fill_words(k0, k1, index[i], field, words)
        for j in range(out.shape[1]):
            out[i, j] = (np.int64(words[j]) * stop) >> 32


@numba.njit(nogil=True, cache=True)
def _uniform(
    k0: int, k1: int, index: np.ndarray, field: int, low: np.float32, step: np.float32, out: np.ndarray
) -> None:
    words = np.empty((out.shape[1] + 3) // 4 * 4, np.uint32)
    for i in range(out.shape[0]):
        fill_words(k0, k1, index[i], field, words)
        for j in range(out.shape[1]):
            out[i, j] = np.float32(words[j] >> np.uint32(8)) * step + low


@numba.njit(nogil=True, cache=True)
def _pick(k0: int, k1: int, index: np.ndarray, field: int, values: np.ndarray, out: np.ndarray) -> None:
    words = np.empty((out.shape[1] + 3) // 4 * 4, np.uint32)
    for i in range(out.shape[0]):
        fill_words(k0, k1, index[i], field, words)
        for j in range(out.shape[1]):
            out[i, j] = values[words[j] >> np.uint32(16)]
