"""NPID: plain instance discrimination, every image its own class.

Wu, Xiong, Yu, Lin, "Unsupervised feature learning via non-parametric instance discrimination", CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from shiftbench.encoders.backbones import Head
from shiftbench.trainers.base import Method
from shiftbench.trainers.distributed import gathered
from shiftbench.trainers.instance import InstanceBank
from shiftbench.trainers.ranges import at_least


class NPID(Method):
    """Find each image's own entry in the bank of all images, from one view of it.

    Args:
        backbone, base: see :class:`Method`; k is not used in training.
        temperature: divides the inner products; small ones tell even similar images apart.
        negatives: m of the noise-contrastive estimate; 0 = exact softmax over all images.
        bank_momentum: share of the old entry kept in a bank update.
        instance_dim: width of the head.

    Raises:
        InputError: a value outside its range.
    """

    views = 1

    def __init__(
        self,
        backbone: Any,
        *,
        temperature: float = 0.1,
        negatives: int = 0,
        bank_momentum: float = 0.5,
        instance_dim: int = 128,
        **base: Any,
    ) -> None:
        super().__init__(backbone, **base)
        at_least(1, instance_dim=instance_dim)
        self.heads["head"] = Head([backbone.feature_dim, instance_dim], normalize=True)
        self.bank = InstanceBank(
            self.samples, instance_dim, temperature=temperature, momentum=bank_momentum, negatives=negatives
        )

    def losses(self, views: Sequence[torch.Tensor], index: torch.Tensor) -> dict[str, torch.Tensor]:
        """The term ``instance``."""
        return self._losses(*self._embed(views, index))

    def after_step(self) -> None:
        """Move the bank entries of this batch."""
        self.bank.update(*self._seen)

    def _embed(self, views: Sequence[torch.Tensor], index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The whole batch's unit features (B, D) and which images they are of."""
        [hidden] = self.hidden(views)
        features, index = self.heads["head"](hidden), gathered(index)
        self._seen = features.detach(), index
        return features, index

    def _losses(self, features: torch.Tensor, index: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"instance": self.bank.loss(features, index)}
