"""Where a corruption runs: compiled kernels on the CPU, tensor operations elsewhere.

Both do the same operations in the same order, in integers or in float32 without fused or reordered sums. So an image's
bytes depend neither on the device nor on the batch it comes in, nor on how many threads work.
"""

from __future__ import annotations

import torch
from torch import Tensor


def compiled(x: Tensor) -> bool:
    """Whether x's device is served by the compiled kernels."""
    return x.device.type == "cpu"


def to_uint8(x: Tensor, nudge: float = 2**-12) -> Tensor:
    """Clip to 0..255 and cut the fraction off, as the published sets do.

    Args:
        x: float32, any shape.
        nudge: added first. The default keeps a value that is whole in exact arithmetic from losing a level to rounding.
    """
    return (x + nudge).clamp_(0, 255).to(torch.uint8)
