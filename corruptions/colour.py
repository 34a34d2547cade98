"""Luma, and saturation and value of HSV, these in float64 and in scikit-image's order of operations, to the bit."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from shiftbench.corruptions import backend

# Which of (value, q, p, t) red, green and blue are in each sixth of the hue circle (Smith 1978).
_SECTORS = ((0, 1, 2, 2, 3, 0), (3, 0, 0, 1, 2, 2), (2, 2, 3, 0, 0, 1))


def luma(x: Tensor) -> Tensor:
    """Weighted sum of red, green and blue (ITU-R BT.601), float32 (N, 3, H, W) to (N, 1, H, W); grey is its own luma."""
    return x if x.shape[1] == 1 else (x[:, :1] * 0.299 + x[:, 1:2] * 0.587) + x[:, 2:] * 0.114


def shift_hsv(images: Tensor, gain: float = 1.0, saturation: float = 0.0, value: float = 0.0) -> Tensor:
    """Replace S by ``gain * S + saturation`` and V by ``V + value``, both cut off at 1.

    Args:
        images: uint8 (N, 3, H, W).
        gain: factor of the saturation, not negative.
        saturation: added to the saturation, not negative.
        value: added to the value, not negative.

    Returns:
        uint8, the shape of images.
    """
    if backend.compiled(images):
        out = torch.empty_like(images)
        _shift_hsv(images.flatten(2).numpy(), gain, saturation, value, out.flatten(2).numpy())
        return out
    x = images.double() / 255
    red, green, blue = x.unbind(1)
    top = x.amax(1)
    spread = top - x.amin(1)
    hue = torch.where(green == top, 2 + (blue - red) / spread, (green - blue) / spread)
    hue = torch.where(blue == top, 4 + (red - green) / spread, hue)
    hue = torch.where(spread == 0, 0.0, torch.remainder(hue / 6, 1))
    s = (torch.where(spread == 0, 0.0, spread / top) * gain + saturation).clamp(max=1)
    v = (top + value).clamp(max=1)
    sector = torch.floor(hue * 6)
    f = hue * 6 - sector
    parts = torch.stack([v, v * (1 - f * s), v * (1 - s), v * (1 - (1 - f) * s)], 1)
    choice = torch.tensor(_SECTORS, device=images.device)[:, sector.long()].transpose(0, 1)
    return (parts.gather(1, choice) * 255).to(torch.uint8)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _shift_hsv(images: np.ndarray, gain: float, saturation: float, value: float, out: np.ndarray) -> None:
    """The same without branches, on images (N, 3, pixels), so that it runs on vectors."""
    n, _, size = images.shape
    buffer = np.empty((3, 256))
    red, green, blue = buffer[0], buffer[1], buffer[2]
    for i in range(n):
        for first in range(0, size, 256):
            count = min(256, size - first)
            for c in range(3):
                source, target = images[i, c, first : first + count], buffer[c]
                for j in range(count):
                    target[j] = source[j] / 255.0
            for j in range(count):
                r, g, b = red[j], green[j], blue[j]
                top, low = (r, g) if r > g else (g, r)
                top, low = b if b > top else top, b if b < low else low
                spread = top - low
                side = r - g if b == top else (b - r if g == top else g - b)
                turn = 4.0 if b == top else (2.0 if g == top else 0.0)
                hue = (turn + side / spread) / 6.0
                hue = hue + 1.0 if hue < 0.0 else hue
                hue = 0.0 if spread == 0.0 else hue
                s = (0.0 if spread == 0.0 else spread / top) * gain + saturation
                s = s if s < 1.0 else 1.0
                v = top + value
                v = v if v < 1.0 else 1.0
                k = np.floor(hue * 6.0)
                f = hue * 6.0 - k
                p, q, t = v * (1.0 - s), v * (1.0 - f * s), v * (1.0 - (1.0 - f) * s)
                red[j] = v if (k == 0) | (k == 5) else (q if k == 1 else (t if k == 4 else p))
                green[j] = v if (k == 1) | (k == 2) else (q if k == 3 else (t if k == 0 else p))
                blue[j] = v if (k == 3) | (k == 4) else (q if k == 5 else (t if k == 2 else p))
            for c in range(3):
                source, target = buffer[c], out[i, c, first : first + count]
                for j in range(count):
                    target[j] = np.int32(source[j] * 255.0)
