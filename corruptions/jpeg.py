"""What baseline JPEG does to an image, without the file: libjpeg's integer arithmetic (Independent JPEG Group).

Lossy are the colour conversion, the averaging of chroma over 2 x 2 pixels, the accurate integer DCT ("islow", Loeffler,
Ligtenberg & Moschytz 1989) and the quantisation; entropy coding is not, and is left out. The bytes equal those of
Pillow's ``save(quality=q)`` and ``open``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *[(99,) * 8] * 4,
)


@cache
def quantisation(quality: int) -> Tensor:
    """The luma and chroma tables of the standard (ITU-T T.81, annex K) at a quality of 1..100, int32 (2, 8, 8)."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((torch.tensor([_LUMA, _CHROMA]) * scale + 50) // 100).clamp(1, 255).int()


def forward_dct(d: Any, shift: int) -> tuple[Any, ...]:
    """DCT of eight samples, times 2**(13 - shift) * sqrt(8), rounded; on tensors or on scalars."""
    s07, s16, s25, s34 = d[0] + d[7], d[1] + d[6], d[2] + d[5], d[3] + d[4]
    d07, d16, d25, d34 = d[0] - d[7], d[1] - d[6], d[2] - d[5], d[3] - d[4]
    half = 1 << (shift - 1)
    e0, e1, e2, e3 = s07 + s34, s16 + s25, s16 - s25, s07 - s34
    z1 = (e2 + e3) * 4433
    z5 = (d34 + d16 + d25 + d07) * 9633
    p, q = (d34 + d07) * -7373, (d25 + d16) * -20995
    r, s = (d34 + d16) * -16069 + z5, (d25 + d07) * -3196 + z5
    return (
        (((e0 + e1) << 13) + half) >> shift,
        (d07 * 12299 + p + s + half) >> shift,
        (z1 + e3 * 6270 + half) >> shift,
        (d16 * 25172 + q + r + half) >> shift,
        (((e0 - e1) << 13) + half) >> shift,
        (d25 * 16819 + q + s + half) >> shift,
        (z1 - e2 * 15137 + half) >> shift,
        (d34 * 2446 + p + r + half) >> shift,
    )


def inverse_dct(c: Any, shift: int) -> tuple[Any, ...]:
    """Inverse DCT of eight coefficients, times 2**(13 - shift) * sqrt(8), rounded; on tensors or on scalars."""
    half = 1 << (shift - 1)
    z1 = (c[2] + c[6]) * 4433
    low, high = z1 - c[6] * 15137, z1 + c[2] * 6270
    plus, minus = ((c[0] + c[4]) << 13) + half, ((c[0] - c[4]) << 13) + half
    e0, e1, e2, e3 = plus + high, minus + low, minus - low, plus - high
    z5 = (c[7] + c[5] + c[3] + c[1]) * 9633
    p, q = (c[7] + c[1]) * -7373, (c[5] + c[3]) * -20995
    r, s = (c[7] + c[3]) * -16069 + z5, (c[5] + c[1]) * -3196 + z5
    o0, o1, o2, o3 = c[1] * 12299 + p + s, c[3] * 25172 + q + r, c[5] * 16819 + q + s, c[7] * 2446 + p + r
    return (
        (e0 + o0) >> shift,
        (e1 + o1) >> shift,
        (e2 + o2) >> shift,
        (e3 + o3) >> shift,
        (e3 - o3) >> shift,
        (e2 - o2) >> shift,
        (e1 - o1) >> shift,
        (e0 - o0) >> shift,
    )


def jpeg(images: Tensor, quality: int) -> Tensor:
    """Compress and decompress.

    Args:
        images: uint8 (N, 3, H, W), or (N, 1, H, W), which is coded as its luma.
        quality: 1..100.

    Returns:
        uint8, the shape of images.
    """
    height, width = images.shape[2:]
    tables = quantisation(quality).to(images.device)
    if images.shape[1] == 1:
        return _plane(_pad(images[:, 0].int(), 8, 8), tables[0])[:, None, :height, :width].to(torch.uint8)
    red, green, blue = images.int().unbind(1)
    y = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    cb = (-11059 * red - 21709 * green + 32768 * blue + (128 << 16) + 32767) >> 16
    cr = (32768 * red - 27439 * green - 5329 * blue + (128 << 16) + 32767) >> 16
    y = _plane(_pad(y, 8, 8), tables[0])[:, :height, :width]
    cb, cr = (_chroma(plane, tables[1]) - 128 for plane in (cb, cr))
    red = y + ((91881 * cr + 32768) >> 16)
    green = y + ((-22554 * cb - 46802 * cr + 32768) >> 16)
    blue = y + ((116130 * cb + 32768) >> 16)
    return torch.stack([red, green, blue], 1).clamp(0, 255).to(torch.uint8)


def _pad(x: Tensor, rows: int, columns: int) -> Tensor:
    """Repeat the last row and column up to multiples of rows and columns."""
    down, right = -x.shape[1] % rows, -x.shape[2] % columns
    x = torch.cat([x, x[:, -1:].expand(-1, down, -1)], 1)
    return torch.cat([x, x[:, :, -1:].expand(-1, -1, right)], 2)


def _plane(x: Tensor, table: Tensor) -> Tensor:
    """Quantise a plane (N, H, W) of multiples of 8 in the DCT domain; int32 in and out, 0..255."""
    n, height, width = x.shape
    blocks = (x - 128).view(n, height // 8, 8, width // 8, 8)
    c = torch.stack(forward_dct(blocks.unbind(4), 11), 4)
    c = torch.stack(forward_dct(c.unbind(2), 15), 2)
    step = table[:, None] * 8
    c = c.sign() * torch.div(c.abs() + step // 2, step, rounding_mode="floor") * table[:, None]
    c = torch.stack(inverse_dct(c.unbind(2), 11), 2)
    c = torch.stack(inverse_dct(c.unbind(4), 18), 4)
    return (c + 128).clamp(0, 255).view(n, height, width)


def _chroma(plane: Tensor, table: Tensor) -> Tensor:
    """Average over 2 x 2, code, and interpolate back with weights 3/4 and 1/4 ("fancy upsampling")."""
    height, width = plane.shape[1:]
    even = _pad(plane, 2, 16)
    total = even[:, ::2, ::2] + even[:, ::2, 1::2] + even[:, 1::2, ::2] + even[:, 1::2, 1::2]
    bias = 1 + torch.arange(total.shape[2], device=plane.device, dtype=torch.int32) % 2
    small = _plane(_pad((total + bias) >> 2, 8, 8), table)[:, : (height + 1) // 2, : (width + 1) // 2]
    above = torch.cat([small[:, :1], small[:, :-1]], 1)
    below = torch.cat([small[:, 1:], small[:, -1:]], 1)
    tall = torch.stack([3 * small + above, 3 * small + below], 2).flatten(1, 2)
    before = torch.cat([tall[:, :, :1], tall[:, :, :-1]], 2)
    after = torch.cat([tall[:, :, 1:], tall[:, :, -1:]], 2)
    wide = torch.stack([(3 * tall + before + 8) >> 4, (3 * tall + after + 7) >> 4], 3).flatten(2, 3)
    return wide[:, :height, :width]
