"""SimCLR: two views of an image attract each other and repel all other images of the batch.

Chen, Kornblith, Norouzi, Hinton, "A simple framework for contrastive learning of visual representations", ICML 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from shiftbench.encoders.backbones import Head
from shiftbench.errors import InputError
from shiftbench.trainers.base import Method, at_least_float32
from shiftbench.trainers.ranges import above_zero, at_least


def nt_xent(first: torch.Tensor, second: torch.Tensor, temperature: float = 0.5) -> torch.Tensor:
    """Normalised temperature-scaled cross-entropy: each row finds its partner among the 2B - 1 others (equation 1).

    Similarities are cosines. With transposed assignments, (k, B), it contrasts clusters instead of images.

    Args:
        first, second: float (B, D), matched rows.
        temperature: divides the cosines.

    Returns:
        Scalar, mean over the 2B rows.

    Raises:
        InputError: fewer than two pairs, so that there is nothing to contrast with.
    """
    if len(first) < 2 or first.shape != second.shape:
        raise InputError(
            f"Contrast needs two or more matched rows, got {tuple(first.shape)} and {tuple(second.shape)}."
        )
    rows = functional.normalize(at_least_float32(torch.cat([first, second])), dim=1)
    itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    scores = (rows @ rows.t() / temperature).masked_fill(itself, -torch.inf)
    partner = torch.arange(len(rows), device=rows.device).roll(len(first))
    return functional.cross_entropy(scores, partner)


class SimCLR(Method):
    """Contrast between images on top of a small projector.

    Args:
        backbone, base: see :class:`Method`; k is not used in training.
        temperature: of :func:`nt_xent`.
        hidden_dim, instance_dim: widths of the projector, whose output is the default feature.

    Raises:
        InputError: a value outside its range.
    """

    def __init__(
        self, backbone: Any, *, temperature: float = 0.5, hidden_dim: int = 512, instance_dim: int = 128, **base: Any
    ) -> None:
        super().__init__(backbone, **base)
        above_zero(temperature=temperature)
        at_least(1, hidden_dim=hidden_dim, instance_dim=instance_dim)
        self.temperature, self.hidden_dim = temperature, hidden_dim
        self.heads["head"] = Head([backbone.feature_dim, hidden_dim, instance_dim], normalize=True)

    def losses(self, views: Sequence[torch.Tensor], index: torch.Tensor) -> dict[str, torch.Tensor]:
        """The term ``instance``."""
        return self._instance(*self.hidden(views))

    def _instance(self, first: torch.Tensor, second: torch.Tensor) -> dict[str, torch.Tensor]:
        head = self.heads["head"]
        return {"instance": nt_xent(head(first), head(second), self.temperature)}
