"""IDFD: instance discrimination and feature decorrelation.

Tao, Takagi, Nakata, "Clustering-friendly representation learning via instance discrimination and feature
decorrelation", ICLR 2021.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch.nn import functional

from shiftbench.trainers.base import at_least_float32
from shiftbench.trainers.npid import NPID
from shiftbench.trainers.ranges import above_zero, at_least

Constraint = Literal["softmax", "frobenius"]


def feature_decorrelation(
    features: torch.Tensor, temperature: float = 2.0, kind: Constraint = "softmax", center: bool = False
) -> torch.Tensor:
    """Push the dimensions of the features apart: their Gram matrix over the batch towards the identity.

    Each dimension is a vector over the batch, scaled to unit norm; G holds their inner products.

    Args:
        features: float (B, D).
        temperature: of the softmax form.
        kind: ``softmax``: the mean over l of -ln softmax_m(G_lm / temperature) at m = l, ln D where all dimensions are
            the same; ``frobenius`` (IDFO): the mean over l of sum_m (G_lm - [l = m])^2, 0 where they are orthogonal.
        center: subtract each dimension's mean first, which makes G a correlation matrix.

    Returns:
        Scalar.
    """
    columns = at_least_float32(features)
    if center:
        columns = columns - columns.mean(dim=0)
    columns = functional.normalize(columns, dim=0)
    gram = columns.t() @ columns
    if kind == "frobenius":
        return (gram - torch.eye(len(gram), device=gram.device, dtype=gram.dtype)).square().sum(dim=1).mean()
    return functional.cross_entropy(gram / temperature, torch.arange(len(gram), device=gram.device))


class IDFD(NPID):
    """Instance discrimination at a high temperature, and decorrelated dimensions of the same features.

    Args:
        backbone, temperature, npid: see :class:`NPID`.
        decorrelation: weight of the second term; 0 = instance discrimination alone.
        feature_temperature: of its softmax form.
        constraint: ``softmax`` (IDFD) or ``frobenius`` (IDFO).
        center: see :func:`feature_decorrelation`.

    Raises:
        InputError: a value outside its range.
    """

    def __init__(
        self,
        backbone: Any,
        *,
        temperature: float = 1.0,
        decorrelation: float = 1.0,
        feature_temperature: float = 2.0,
        constraint: Constraint = "softmax",
        center: bool = False,
        **npid: Any,
    ) -> None:
        super().__init__(backbone, temperature=temperature, **npid)
        above_zero(feature_temperature=feature_temperature)
        at_least(0, decorrelation=decorrelation)
        self.decorrelation, self.feature_temperature = decorrelation, feature_temperature
        self.constraint, self.center = constraint, center

    def _losses(self, features: torch.Tensor, index: torch.Tensor) -> dict[str, torch.Tensor]:
        terms = super()._losses(features, index)
        if self.decorrelation:
            apart = feature_decorrelation(features, self.feature_temperature, self.constraint, self.center)
            terms["decorrelation"] = self.decorrelation * apart
        return terms
