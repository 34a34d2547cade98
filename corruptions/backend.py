"""Where a corruption runs: compiled kernels on the CPU, tensor operations elsewhere.

Both do the same operations in the same order, in integers or in floating point without fused or reordered sums. So an
image's bytes depend neither on the device nor on the batch it comes in, nor on how many threads work.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

NUDGE = 2**-12


def compiled(x: Tensor) -> bool:
    """Whether x's device is served by the compiled kernels."""
    return x.device.type == "cpu"


def to_uint8(x: Tensor, nudge: float = NUDGE) -> Tensor:
    """Clip to 0..255 and cut the fraction off, as the published sets do.

    Args:
        x: floating point, any shape.
        nudge: added first; 0.5 rounds. With the default, a value that is whole in exact arithmetic does not lose a level
            to rounding.
    """
    return (x + nudge).clamp_(0, 255).to(torch.uint8)


@numba.njit(nogil=True, cache=True)
def cut(x: np.float32, nudge: float = NUDGE) -> np.int32:
    """:func:`to_uint8` of one float32 value."""
    return np.int32(min(max(x + np.float32(nudge), np.float32(0)), np.float32(255)))
