"""How the trained network computes: compiled, or in parts that fit into memory. Its weights and their names stay."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from shiftbench.errors import InputError

COMPILERS = ("c++", "g++", "clang++", "cl")

Forward = Callable[[torch.Tensor], torch.Tensor]


def prepare(backbone: nn.Module, *, compiled: bool, parts: int) -> None:
    """Change how a network computes, in place.

    Args:
        backbone: images (B, 3, H, W) -> features (B, D).
        compiled: whether torch.compile makes it faster.
        parts: how many parts of a batch it takes one after the other, see :func:`in_parts`.

    Raises:
        InputError: ``compiled`` without a C++ compiler, which torch.compile calls.
    """
    forward: Forward = backbone.forward
    if compiled:
        if not any(map(shutil.which, (os.environ.get("CXX", ""), *COMPILERS))):
            raise InputError("trainer.compile=true needs a C++ compiler (g++), and there is none here.")
        forward = torch.compile(forward)
    if parts > 1:
        forward = in_parts(backbone, forward, parts)
    backbone.forward = forward


def in_parts(network: nn.Module, forward: Forward, parts: int) -> Forward:
    """Gradients accumulated over parts of a batch, for a loss of the whole batch.

    Only the output of each part is kept; the backward pass computes the rest again (Gao et al. 2021, "Scaling deep
    contrastive learning batch size under memory limited setup"). BatchNorm compares the images of a part, and its
    running statistics count each image once.

    Args:
        network: whose BatchNorm layers these are.
        forward: its forward pass.
        parts: at least 2.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(network)

    def forward_in_parts(images: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return forward(images)
        shares = images.tensor_split(min(parts, max(1, len(images) // 2)))  # of two images at least, for BatchNorm
        features = [checkpoint(forward, part, use_reentrant=False, context_fn=contexts) for part in shares]
        return torch.cat(features)

    return forward_in_parts


@contextmanager
def _statistics_kept(network: nn.Module) -> Iterator[None]:
    """Inside the block BatchNorm computes as in training, and its running statistics stay as they are."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    counts = [None if count is None else count.clone() for _, count in before]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, tracked), count in zip(norms, before, counts, strict=True):
            norm.momentum = momentum
            if tracked is not None and count is not None:
                tracked.copy_(count)
