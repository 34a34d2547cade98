"""What baseline JPEG does to an image, without the file: libjpeg's integer arithmetic (Independent JPEG Group).

Four steps lose information: the colour conversion, the averaging of chroma over 2 x 2 pixels, the accurate integer DCT
("islow", Loeffler, Ligtenberg & Moschytz 1989) and the quantisation. Entropy coding loses none and is left out. The bytes
equal those of Pillow's ``save(quality=q)`` and ``open``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from shiftbench.corruptions import backend

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
    tables = quantisation(quality)
    if backend.compiled(images):
        out = torch.empty_like(images)
        steps = np.tile(tables.numpy(), (1, 1, (images.shape[3] + 7) // 8))
        _jpeg(images.numpy(), steps, out.numpy())
        return out
    height, width = images.shape[2:]
    luma, chroma = tables.to(images.device)
    if images.shape[1] == 1:
        return _coded(_pad(images[:, 0].int(), 8, 8), luma)[:, None, :height, :width].to(torch.uint8)
    red, green, blue = images.int().unbind(1)
    y = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    cb = (-11059 * red - 21709 * green + 32768 * blue + (128 << 16) + 32767) >> 16
    cr = (32768 * red - 27439 * green - 5329 * blue + (128 << 16) + 32767) >> 16
    y = _coded(_pad(y, 8, 8), luma)[:, :height, :width]
    cb, cr = (_subsampled(plane, chroma) - 128 for plane in (cb, cr))
    red = y + ((91881 * cr + 32768) >> 16)
    green = y + ((-22554 * cb - 46802 * cr + 32768) >> 16)
    blue = y + ((116130 * cb + 32768) >> 16)
    return torch.stack([red, green, blue], 1).clamp(0, 255).to(torch.uint8)


def _pad(x: Tensor, rows: int, columns: int) -> Tensor:
    """Repeat the last row and column up to multiples of rows and columns."""
    down, right = -x.shape[1] % rows, -x.shape[2] % columns
    x = torch.cat([x, x[:, -1:].expand(-1, down, -1)], 1)
    return torch.cat([x, x[:, :, -1:].expand(-1, -1, right)], 2)


def _coded(x: Tensor, table: Tensor) -> Tensor:
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


def _subsampled(plane: Tensor, table: Tensor) -> Tensor:
    """Average over 2 x 2, code, and interpolate back with weights 3/4 and 1/4 ("fancy upsampling")."""
    height, width = plane.shape[1:]
    even = _pad(plane, 2, 16)
    total = even[:, ::2, ::2] + even[:, ::2, 1::2] + even[:, 1::2, ::2] + even[:, 1::2, 1::2]
    bias = 1 + torch.arange(total.shape[2], device=plane.device, dtype=torch.int32) % 2
    small = _coded(_pad((total + bias) >> 2, 8, 8), table)[:, : (height + 1) // 2, : (width + 1) // 2]
    above = torch.cat([small[:, :1], small[:, :-1]], 1)
    below = torch.cat([small[:, 1:], small[:, -1:]], 1)
    tall = torch.stack([3 * small + above, 3 * small + below], 2).flatten(1, 2)
    before = torch.cat([tall[:, :, :1], tall[:, :, :-1]], 2)
    after = torch.cat([tall[:, :, 1:], tall[:, :, -1:]], 2)
    wide = torch.stack([(3 * tall + before + 8) >> 4, (3 * tall + after + 7) >> 4], 3).flatten(2, 3)
    return wide[:, :height, :width]


_forward, _inverse = numba.njit(forward_dct), numba.njit(inverse_dct)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _code(plane: np.ndarray, steps: np.ndarray) -> None:
    """Quantise a plane, int32 (multiple of 8, multiple of 8), in place; steps is the table, repeated along its width.

    Eight rows at a time, so that the inner loops run along a whole row of blocks.
    """
    rows, columns, back = np.int64(11), np.int64(15), np.int64(18)  # typed, or numba compiles a copy per number
    turned = np.empty((8, plane.shape[1]), np.int32)
    for top in range(0, plane.shape[0], 8):
        strip = plane[top : top + 8]
        for x in range(strip.shape[1]):
            for r in range(8):
                strip[r, x] -= 128
        _turn(strip, turned)
        _transform_forward(turned, rows)
        _turn(turned, strip)
        _transform_forward(strip, columns)
        for v in range(8):
            line = strip[v]
            for x in range(strip.shape[1]):
                value, step = np.float32(line[x]), np.float32(steps[v, x])
                level = np.floor((abs(value) + np.float32(4) * step + np.float32(0.5)) / (np.float32(8) * step))
                line[x] = np.int32(level * step if value >= np.float32(0) else -level * step)
        _transform_inverse(strip, rows)
        _turn(strip, turned)
        _transform_inverse(turned, back)
        _turn(turned, strip)
        for r in range(8):
            line = strip[r]
            for x in range(strip.shape[1]):
                line[x] = min(max(line[x] + 128, 0), 255)


@numba.njit(nogil=True, cache=True)
def _turn(x: np.ndarray, out: np.ndarray) -> None:
    """Transpose every 8 x 8 block of x (8, W)."""
    for block in range(0, x.shape[1], 8):
        for r in range(8):
            for k in range(8):
                out[k, block + r] = x[r, block + k]


@numba.njit(nogil=True, cache=True)
def _transform_forward(x: np.ndarray, shift: np.int64) -> None:
    x0, x1, x2, x3, x4, x5, x6, x7 = x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]
    for i in range(x.shape[1]):
        samples = x0[i], x1[i], x2[i], x3[i], x4[i], x5[i], x6[i], x7[i]
        x0[i], x1[i], x2[i], x3[i], x4[i], x5[i], x6[i], x7[i] = _forward(samples, shift)


@numba.njit(nogil=True, cache=True)
def _transform_inverse(x: np.ndarray, shift: np.int64) -> None:
    x0, x1, x2, x3, x4, x5, x6, x7 = x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]
    for i in range(x.shape[1]):
        samples = x0[i], x1[i], x2[i], x3[i], x4[i], x5[i], x6[i], x7[i]
        x0[i], x1[i], x2[i], x3[i], x4[i], x5[i], x6[i], x7[i] = _inverse(samples, shift)


@numba.njit(nogil=True, cache=True)
def _jpeg(images: np.ndarray, steps: np.ndarray, out: np.ndarray) -> None:
    n, channels, height, width = images.shape
    tall, wide = (height + 7) // 8 * 8, (width + 7) // 8 * 8
    h, w = (height + 1) // 2, (width + 1) // 2
    y = np.empty((tall, wide), np.int32)
    cb, cr = np.empty((2 * h, 2 * w), np.int32), np.empty((2 * h, 2 * w), np.int32)
    small = np.empty((2, (h + 7) // 8 * 8, (w + 7) // 8 * 8), np.int32)
    sums = np.empty(w + 2, np.int32)
    for i in range(n):
        if channels == 1:
            for v in range(height):
                for u in range(width):
                    y[v, u] = images[i, 0, v, u]
        else:
            _to_ycc(images[i], y, cb, cr)
            _halve(cb, height, width, small[0])
            _halve(cr, height, width, small[1])
            for c in range(2):
                _code(small[c], steps[1])
        _extend(y, height, width)
        _code(y, steps[0])
        if channels == 1:
            for v in range(height):
                for u in range(width):
                    out[i, 0, v, u] = y[v, u]
        else:
            _double(small[0, :h, :w], sums, cb)
            _double(small[1, :h, :w], sums, cr)
            _to_rgb(y, cb, cr, out[i])


@numba.njit(nogil=True, cache=True)
def _to_ycc(image: np.ndarray, y: np.ndarray, cb: np.ndarray, cr: np.ndarray) -> None:
    for v in range(image.shape[1]):
        red, green, blue = image[0, v], image[1, v], image[2, v]
        a, b, c = y[v], cb[v], cr[v]
        for u in range(image.shape[2]):
            r, g, s = np.int32(red[u]), np.int32(green[u]), np.int32(blue[u])
            a[u] = (19595 * r + 38470 * g + 7471 * s + 32768) >> 16
            b[u] = (-11059 * r - 21709 * g + 32768 * s + 8421375) >> 16
            c[u] = (32768 * r - 27439 * g - 5329 * s + 8421375) >> 16


@numba.njit(nogil=True, cache=True)
def _to_rgb(y: np.ndarray, cb: np.ndarray, cr: np.ndarray, out: np.ndarray) -> None:
    for v in range(out.shape[1]):
        red, green, blue = out[0, v], out[1, v], out[2, v]
        a, b, c = y[v], cb[v], cr[v]
        for u in range(out.shape[2]):
            s, t = b[u] - 128, c[u] - 128
            red[u] = min(max(a[u] + ((91881 * t + 32768) >> 16), 0), 255)
            green[u] = min(max(a[u] + ((-22554 * s - 46802 * t + 32768) >> 16), 0), 255)
            blue[u] = min(max(a[u] + ((116130 * s + 32768) >> 16), 0), 255)


@numba.njit(nogil=True, cache=True)
def _extend(plane: np.ndarray, height: int, width: int) -> None:
    """Repeat the last of the leading rows and columns through the rest of the plane."""
    for v in range(height):
        for u in range(width, plane.shape[1]):
            plane[v, u] = plane[v, width - 1]
    for v in range(height, plane.shape[0]):
        for u in range(plane.shape[1]):
            plane[v, u] = plane[height - 1, u]


@numba.njit(nogil=True, cache=True)
def _halve(plane: np.ndarray, height: int, width: int, out: np.ndarray) -> None:
    """Average over 2 x 2 pixels of the leading (height, width), rounded down and up in turns; edges repeated."""
    _extend(plane, height, width)
    h, w = plane.shape[0] // 2, plane.shape[1] // 2
    for v in range(h):
        above, below, line = plane[2 * v], plane[2 * v + 1], out[v]
        for u in range(w):
            line[u] = (above[2 * u] + above[2 * u + 1] + below[2 * u] + below[2 * u + 1] + 1 + u % 2) >> 2
        edge = above[2 * w - 1] + below[2 * w - 1]
        for u in range(w, out.shape[1]):
            line[u] = (2 * edge + 1 + u % 2) >> 2
    _extend(out, h, out.shape[1])


@numba.njit(nogil=True, cache=True)
def _double(small: np.ndarray, sums: np.ndarray, out: np.ndarray) -> None:
    """Interpolate to twice the size with weights 3/4 and 1/4, edges repeated."""
    h, w = small.shape
    for v in range(2 * h):
        near, far = small[v // 2], small[min(max(v // 2 + 2 * (v % 2) - 1, 0), h - 1)]
        for u in range(w):
            sums[u + 1] = 3 * near[u] + far[u]
        sums[0], sums[w + 1] = sums[1], sums[w]
        line = out[v]
        for u in range(w):
            line[2 * u] = (3 * sums[u + 1] + sums[u] + 8) >> 4
            line[2 * u + 1] = (3 * sums[u + 1] + sums[u + 2] + 7) >> 4
