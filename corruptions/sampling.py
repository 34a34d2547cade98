"""Randomness by counter: what is drawn for an image depends on its index, never on what was drawn before.

Philox4x32-10 (Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3") turns a counter and a key into four
32-bit words. The key is a digest of (seed, corruption, severity); the counter holds the image's index, the purpose
of the draw (``field``) and the number of the block, so no two draws ever share a counter.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor


def philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> tuple[Any, Any, Any, Any]:
    """Ten rounds of Philox4x32, on Python integers, on int64 tensors or, compiled, on int64 scalars.

    Args:
        c0, c1, c2, c3: the counter, 32-bit words.
        k0, k1: the key, 32-bit words.

    Returns:
        Four 32-bit words. Where a 64-bit product wraps to a negative number, the masks restore its bits.
    """
    for _ in range(10):
        low, high = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c2 = ((high >> 32) & 0xFFFFFFFF) ^ c1 ^ k0, ((low >> 32) & 0xFFFFFFFF) ^ c3 ^ k1
        c1, c3 = high & 0xFFFFFFFF, low & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


_philox = numba.njit(inline="always")(philox)


@numba.njit(nogil=True, cache=True)
def fill_words(k0: int, k1: int, index: int, field: int, out: np.ndarray) -> None:
    """Write the words of one image: word ``lane * blocks + block`` is lane ``lane`` of that block."""
    blocks = out.shape[0] // 4
    low, high = index & 0xFFFFFFFF, (index >> 32) & 0xFFFFFFFF
    for block in range(blocks):
        a, b, c, d = _philox(low, high, block, field, k0, k1)
        out[block] = a
        out[blocks + block] = b
        out[2 * blocks + block] = c
        out[3 * blocks + block] = d


@numba.njit(nogil=True, cache=True)
def _fill_batch(k0: int, k1: int, index: np.ndarray, field: int, out: np.ndarray) -> None:
    for i in range(index.shape[0]):
        fill_words(k0, k1, index[i], field, out[i])


@cache
def _normal_quantiles() -> Tensor:
    """65,536 equally likely standard normal values, float64: the mean of each slice of the distribution.

    Slice means keep the mean exact and lose 2e-5 of the variance.
    """
    edges = torch.special.ndtri(torch.arange(65537, dtype=torch.float64) / 65536)
    density = torch.exp(-0.5 * edges**2)
    return (density[:-1] - density[1:]) * 65536 / (2 * torch.pi) ** 0.5


class Draws:
    """The random numbers of one (seed, corruption, severity) for a batch of images.

    Every draw names its purpose by a small integer ``field``; two draws of one corruption use two fields.

    Attributes:
        index: the images' global indices, int64 (N,), on the images' device.
        key: two 32-bit words.
    """

    def __init__(self, seed: int, name: str, severity: int, index: Tensor) -> None:
        digest = hashlib.blake2b(f"{seed}/{name}/{severity}".encode(), digest_size=8).digest()
        self.key = int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")
        self.index = index

    def words(self, shape: tuple[int, ...], field: int) -> Tensor:
        """Uniform 32-bit words, int64 (N, *shape)."""
        count = int(np.prod(shape))
        blocks = -(-count // 4)
        n = len(self.index)
        if self.index.device.type == "cpu":
            out = np.empty((n, 4 * blocks), np.int64)
            _fill_batch(*self.key, self.index.numpy(), field, out)
            words = torch.from_numpy(out)
        else:
            words = torch.stack(self._lanes(blocks, field), dim=1).flatten(1)
        return words[:, :count].reshape(n, *shape)

    def _lanes(self, blocks: int, field: int) -> tuple[Tensor, ...]:
        low, high = (self.index & 0xFFFFFFFF)[:, None], ((self.index >> 32) & 0xFFFFFFFF)[:, None]
        block = torch.arange(blocks, device=self.index.device)[None]
        return philox(low, high, block, torch.full_like(block, field), *self.key)

    def uniform(self, shape: tuple[int, ...], low: float, high: float, field: int) -> Tensor:
        """Uniform on the open interval (low, high), float64 (N, *shape), 2**32 equidistant values."""
        return low + (self.words(shape, field) + 0.5) * ((high - low) / 2**32)

    def normal(self, shape: tuple[int, ...], mean: float, std: float, field: int) -> Tensor:
        """Normal, float64 (N, *shape): one of 65,536 equally likely values, the largest 4.4 from the mean."""
        table = _normal_quantiles().to(self.index.device)
        return mean + std * table[self.words(shape, field) >> 16]

    def integers(self, shape: tuple[int, ...], stop: int | Tensor, field: int) -> Tensor:
        """Uniform on 0 .. stop - 1, int64 (N, *shape); a tensor ``stop`` broadcasts against that shape."""
        return (self.words(shape, field) * stop) >> 32
