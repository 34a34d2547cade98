"""IDFD: instance discrimination and feature decorrelation.

Tao, Takagi, Nakata, "Clustering-friendly representation learning via instance discrimination and feature
decorrelation", ICLR 2021.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch.nn import functional

from shiftbench.errors import InputError
from shiftbench.trainers.base import at_least_float32
from shiftbench.trainers.npid import NPID

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
        backbone, samples, k: see :class:`Method`; k is not used in training.
        temperature, negatives, bank_momentum, instance_dim: see :class:`NPID`.
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
        samples: int,
        k: int,
        temperature: float = 1.0,
        negatives: int = 0,
        bank_momentum: float = 0.5,
        instance_dim: int = 128,
        decorrelation: float = 1.0,
        feature_temperature: float = 2.0,
        constraint: Constraint = "softmax",
        center: bool = False,
    ) -> None:
        super().__init__(
            backbone,
            samples=samples,
            k=k,
            temperature=temperature,
            negatives=negatives,
            bank_momentum=bank_momentum,
            instance_dim=instance_dim,
        )
        if decorrelation < 0 or feature_temperature <= 0:
            raise InputError(
                f"decorrelation={decorrelation} must be >= 0 and feature_temperature={feature_temperature} above 0."
            )
        self.decorrelation, self.feature_temperature = decorrelation, feature_temperature
        self.constraint, self.center = constraint, center

    def _losses(self, features: torch.Tensor, index: torch.Tensor) -> dict[str, torch.Tensor]:
        terms = super()._losses(features, index)
        if self.decorrelation:
            apart = feature_decorrelation(features, self.feature_temperature, self.constraint, self.center)
            terms["decorrelation"] = self.decorrelation * apart
        return terms
