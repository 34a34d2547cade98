"""DRC: deep robust clustering, by contrast between the assignments of images and between clusters.

Zhong, Chen, Jin, Hua, "Deep robust clustering by contrastive learning", arXiv 2008.03030. The paper's own code is not
public; what its abstract leaves open follows the most defensible reading: cosines for both contrasts, temperatures 0.5
and 1, and a balance weight that acts as strongly as PICA's. Every such choice is an option.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch.nn import functional

from shiftbench.encoders.backbones import Head
from shiftbench.trainers.base import Method, at_least_float32
from shiftbench.trainers.ranges import above_zero, at_least, loss_weights

Similarity = Literal["cosine", "dot"]


def matching_loss(
    anchors: torch.Tensor, candidates: torch.Tensor, temperature: float, similarity: Similarity = "cosine"
) -> torch.Tensor:
    """Each anchor finds its own candidate among all: the mean of logsumexp_j S_ij - S_ii.

    DRC uses it twice: rows of the logits (B, k) are images (assignment features), rows of the transposed
    probabilities (k, B) are clusters (assignment probabilities).

    Args:
        anchors, candidates: float (M, D), matched rows of the two views.
        temperature: divides the similarities.
        similarity: cosine, or the inner product, which can fall without end as the rows grow.

    Returns:
        Scalar; ln M where all rows are the same.
    """
    anchors, candidates = at_least_float32(anchors), at_least_float32(candidates)
    if similarity == "cosine":
        anchors, candidates = functional.normalize(anchors, dim=1), functional.normalize(candidates, dim=1)
    return functional.cross_entropy(
        anchors @ candidates.t() / temperature, torch.arange(len(anchors), device=anchors.device)
    )


def squared_sizes(assignments: torch.Tensor) -> torch.Tensor:
    """DRC's cluster regularisation: the sum over clusters of their squared soft sizes, divided by B.

    Args:
        assignments: float (B, k), rows summing to 1.

    Returns:
        Scalar from B/k (balanced) to B (all in one cluster).
    """
    return at_least_float32(assignments).sum(dim=0).square().sum() / len(assignments)


def negative_entropy(assignments: torch.Tensor) -> torch.Tensor:
    """ln k + sum_k p ln p of the mean assignment p, as in PICA and CC.

    Args:
        assignments: float (B, k), rows summing to 1.

    Returns:
        Scalar from 0 (balanced) to ln k (all in one cluster).
    """
    mean = at_least_float32(assignments).mean(dim=0)
    mean = mean.clamp_min(torch.finfo(mean.dtype).tiny)  # of an empty cluster the gradient would be 0/0
    return math.log(len(mean)) + torch.xlogy(mean, mean).sum()


class DRC(Method):
    """A linear layer assigns images to k clusters; both its logits and its probabilities are contrasted.

    Its scores are saved as the head ``cluster``; their largest names the cluster.

    Args:
        backbone, base: see :class:`Method`.
        features: weight of the contrast between images (assignment features).
        probabilities: weight of the contrast between clusters (assignment probabilities).
        balance: ``sizes`` (:func:`squared_sizes`) or ``entropy`` (:func:`negative_entropy`).
        balance_weight: its weight; None = k/B for ``sizes`` and 2 for ``entropy``, which near balance are the same
            force. A weight w on ``sizes`` acts as 2 B w / k on ``entropy``.
        feature_temperature, probability_temperature: of the two contrasts.
        similarity: of both.
        symmetric: take each contrast in both directions, and balance both views; otherwise the first view looks for
            its partner in the second, and it alone is balanced.

    Raises:
        InputError: a value outside its range.
    """

    clusters = True

    def __init__(
        self,
        backbone: Any,
        *,
        features: float = 1.0,
        probabilities: float = 1.0,
        balance: Literal["sizes", "entropy"] = "sizes",
        balance_weight: float | None = None,
        feature_temperature: float = 0.5,
        probability_temperature: float = 1.0,
        similarity: Similarity = "cosine",
        symmetric: bool = False,
        **base: Any,
    ) -> None:
        super().__init__(backbone, **base)
        at_least(0, balance_weight=balance_weight)
        loss_weights(features=features, probabilities=probabilities)
        above_zero(feature_temperature=feature_temperature, probability_temperature=probability_temperature)
        self.features, self.probabilities = features, probabilities
        self.balance, self.balance_weight = balance, balance_weight
        self.feature_temperature, self.probability_temperature = feature_temperature, probability_temperature
        self.similarity, self.symmetric = similarity, symmetric
        self.heads["cluster"] = Head([backbone.feature_dim, self.k])

    def losses(self, views: Sequence[torch.Tensor], index: torch.Tensor) -> dict[str, torch.Tensor]:
        """The weighted terms ``features``, ``probabilities``, ``balance``, those of weight 0 left out."""
        first, second = (self.heads["cluster"](hidden) for hidden in self.hidden(views))
        pairs = [(first, second), (second, first)] if self.symmetric else [(first, second)]
        terms = [self._one_way(*pair) for pair in pairs]
        self.watch_masses(first.softmax(dim=1))
        return {name: torch.stack([losses[name] for losses in terms]).mean() for name in terms[0]}

    def _one_way(self, logits1: torch.Tensor, logits2: torch.Tensor) -> dict[str, torch.Tensor]:
        p1, p2 = logits1.softmax(dim=1), logits2.softmax(dim=1)
        terms = {}
        if self.features:
            apart = matching_loss(logits1, logits2, self.feature_temperature, self.similarity)
            terms["features"] = self.features * apart
        if self.probabilities:
            apart = matching_loss(p1.t(), p2.t(), self.probability_temperature, self.similarity)
            terms["probabilities"] = self.probabilities * apart
        if self.balance_weight != 0:
            terms["balance"] = self._balance(p1)
        return terms

    def _balance(self, assignments: torch.Tensor) -> torch.Tensor:
        if self.balance == "entropy":
            weight = 2.0 if self.balance_weight is None else self.balance_weight
            return weight * negative_entropy(assignments)
        weight = self.k / len(assignments) if self.balance_weight is None else self.balance_weight
        return weight * squared_sizes(assignments)
