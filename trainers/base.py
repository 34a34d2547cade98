"""What a training method is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


class Method(nn.Module, ABC):
    """A way to learn features from unlabelled images: a backbone, heads on top of it, and a loss.

    A subclass takes its hyper-parameters as annotated keyword-only arguments after ``samples`` and ``k``;
    they are what ``trainer.method.*`` may set. It fills ``heads`` and writes :meth:`losses`. All state that a
    resumed run needs (memory banks, fixed projections) is in parameters and buffers. Random draws in
    :meth:`losses` come from torch's global generator, which the engine seeds anew for each epoch.

    Args:
        backbone: normalised float images (B, 3, H, W) -> (B, backbone.feature_dim).
        samples: number of training images N.
        k: number of clusters.

    Attributes:
        views: how many augmented views of each image :meth:`losses` wants.
        heads: what is saved with the encoder, :class:`~shiftbench.encoders.backbones.Head` by name; the first
            is its default feature.
        precision: what :meth:`encode` computes in; set by the engine.
    """

    views: int = 2
    precision: torch.dtype = torch.float32

    def __init__(self, backbone: Any, *, samples: int, k: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.samples = samples
        self.k = k
        self.heads = nn.ModuleDict()

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """The backbone's features, float32 (B, D). Only it runs in low precision: heads and losses never do."""
        low = self.precision != torch.float32
        with torch.autocast(images.device.type, dtype=self.precision if low else None, enabled=low):
            return self.backbone(images).float()

    @abstractmethod
    def losses(self, views: Sequence[torch.Tensor], index: torch.Tensor) -> dict[str, torch.Tensor]:
        """The weighted terms whose sum is the loss.

        Args:
            views: ``self.views`` tensors, float (B, 3, H, W), normalised: augmentations of the same B images.
            index: int64 (B,), which training images these are.

        Returns:
            ``{name: scalar}``; the same names in every step.
        """

    def before_step(self) -> None:
        """Called before each step's forward pass, without gradients (renormalise prototypes)."""

    def after_step(self) -> None:
        """Called after each optimiser step, without gradients (update a memory bank)."""
