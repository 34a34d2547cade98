"""Saturation and value of HSV, in float64 and in scikit-image's order of operations, so that every bit agrees."""

from __future__ import annotations

import torch
from torch import Tensor

# Which of (value, q, p, t) red, green and blue are in each sixth of the hue circle (Smith 1978).
_SECTORS = ((0, 1, 2, 2, 3, 0), (3, 0, 0, 1, 2, 2), (2, 2, 3, 0, 0, 1))


def shift_hsv(images: Tensor, gain: float = 1.0, saturation: float = 0.0, value: float = 0.0) -> Tensor:
    """Replace S by ``gain * S + saturation`` and V by ``V + value``, both clipped to 0..1.

    Args:
        images: uint8 (N, 3, H, W), or (N, 1, H, W), of which only the value changes.
        gain: factor of the saturation.
        saturation: added to the saturation.
        value: added to the value.

    Returns:
        uint8, the shape of images.
    """
    x = images.double() / 255
    red, green, blue = x.expand(-1, 3, -1, -1).unbind(1)
    top = x.amax(1)
    spread = top - x.amin(1)
    hue = torch.where(blue == top, 4 + (red - green) / spread, 2 + (blue - red) / spread)
    hue = torch.where((red == top) & (green < top) & (blue < top), (green - blue) / spread, hue)
    hue = torch.where(spread == 0, 0.0, torch.remainder(hue / 6, 1))
    s = torch.where(spread == 0, 0.0, spread / top)
    s = (s * gain + saturation).clamp(0, 1)
    v = (top + value).clamp(0, 1)
    sector = torch.floor(hue * 6)
    f = hue * 6 - sector
    parts = torch.stack([v, v * (1 - f * s), v * (1 - s), v * (1 - (1 - f) * s)], 1)
    choice = torch.tensor(_SECTORS, device=images.device)[:, sector.long() % 6].transpose(0, 1)
    return (parts.gather(1, choice[:, : images.shape[1]]).clamp(0, 1) * 255).to(torch.uint8)
