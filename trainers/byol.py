"""BYOL: a network predicts what a slowly moving copy of itself says about the other view.

Grill and others, "Bootstrap your own latent: a new approach to self-supervised learning", NeurIPS 2020.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn import functional

from shiftbench.encoders.backbones import Head
from shiftbench.trainers.base import Method, at_least_float32
from shiftbench.trainers.ranges import above_zero, at_least, share

Module = TypeVar("Module", bound=nn.Module)


def byol_loss(predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mean of 2 - 2 cos between matched rows (equation 2): 0 where they agree, 2 where they are orthogonal.

    Args:
        predictions, targets: float (B, D); targets are constant.
    """
    cosines = functional.cosine_similarity(at_least_float32(predictions), at_least_float32(targets.detach()), dim=1)
    return (2 - 2 * cosines).mean()


def slow_copy(module: Module) -> Module:
    """A copy that gets no gradients."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, momentum: float) -> None:
    """Move the slow module's parameters: momentum * slow + (1 - momentum) * fast. BatchNorm's statistics stay its own."""
    torch._foreach_lerp_(list(slow.parameters()), list(fast.parameters()), 1 - momentum)


def momentum_at(start: float, progress: float) -> float:
    """From ``start`` to 1 along a cosine (section 3.3); progress is the share of the training that is done."""
    return 1 - (1 - start) * (1 + math.cos(math.pi * progress)) / 2


class BYOL(Method):
    """Each view's prediction meets the slow network's projection of the other view; there are no negatives.

    ``backbone`` and ``heads`` are the slow network's, which is the one that is saved; ``online`` is trained.

    Args:
        backbone, base: see :class:`Method`; k is not used in training.
        momentum: of the slow network at the start.
        hidden_dim, instance_dim: widths of projector and predictor.
        predictor_lr: learning rate of the predictor relative to everything else's.

    Raises:
        InputError: a value outside its range.
    """

    def __init__(
        self,
        backbone: Any,
        *,
        momentum: float = 0.996,
        hidden_dim: int = 4096,
        instance_dim: int = 256,
        predictor_lr: float = 10.0,
        **base: Any,
    ) -> None:
        super().__init__(slow_copy(backbone), **base)
        share(momentum=momentum)
        at_least(1, hidden_dim=hidden_dim, instance_dim=instance_dim)
        above_zero(predictor_lr=predictor_lr)
        self.momentum, self.predictor_lr = momentum, predictor_lr
        dims = [backbone.feature_dim, hidden_dim, instance_dim]
        projector = Head(dims, batch_norm=True)
        predictor = Head([instance_dim, hidden_dim, instance_dim], batch_norm=True)
        self.online = nn.ModuleDict({"backbone": backbone, "projector": projector, "predictor": predictor})
        slow = Head(dims, batch_norm=True, normalize=True)  # the loss sees directions only, and so do its clusters
        slow.load_state_dict(projector.state_dict())
        self.heads["head"] = slow.requires_grad_(False)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The predictor has its own learning rate."""
        network = [*self.online["backbone"].parameters(), *self.online["projector"].parameters()]
        predictor = list(self.online["predictor"].parameters())
        return [{"params": network, "lr_scale": 1.0}, {"params": predictor, "lr_scale": self.predictor_lr}]

    def losses(self, views: Sequence[torch.Tensor], index: torch.Tensor) -> dict[str, torch.Tensor]:
        """The term ``prediction``: half the sum of both directions."""
        with torch.no_grad():
            target1, target2 = (self.heads["head"](hidden) for hidden in self.hidden(views))
        projector, predictor = self.online["projector"], self.online["predictor"]
        first, second = (predictor(projector(hidden)) for hidden in self.hidden(views, self.online["backbone"]))
        return {"prediction": (byol_loss(first, target2) + byol_loss(second, target1)) / 2}

    def after_step(self) -> None:
        """The slow network follows."""
        momentum = momentum_at(self.momentum, self.progress)
        follow(self.backbone, self.online["backbone"], momentum)
        follow(self.heads["head"], self.online["projector"], momentum)
