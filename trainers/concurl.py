"""ConCURL: learning representations for clustering by building consensus.

Deshmukh, Regatti, Manavoglu, Dogan, "Representation learning for clustering via building consensus", Machine
Learning 2022. Instance discrimination on one view, and agreement of both views' balanced soft assignments as seen
through many fixed random transformations of the embedding space. The weights keep the names of the published code:
``alpha`` for the soft (population) term, ``beta`` for the exemplar term, ``gamma`` for the consensus term; every
published run has 0, 1, 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from shiftbench.encoders.backbones import Head
from shiftbench.errors import InputError
from shiftbench.trainers.base import Method
from shiftbench.trainers.instance import InstanceBank


@torch.no_grad()
def sinkhorn(scores: torch.Tensor, eps: float = 0.05, iterations: int = 3) -> torch.Tensor:
    """Balanced soft assignments of a batch to prototypes (Sinkhorn-Knopp, as in SwAV, Caron et al. 2020).

    Each round gives every prototype the same mass, then every sample the same mass. In float32 and log space,
    so that nothing overflows.

    Args:
        scores: float (B, K), similarities.
        eps: entropy weight; scores are divided by it.
        iterations: number of rounds.

    Returns:
        float32 (B, K), constant; rows sum to 1, columns to about B/K.
    """
    log_q = scores.float() / eps
    for _ in range(iterations):
        log_q = log_q - log_q.logsumexp(dim=0, keepdim=True)
        log_q = log_q - log_q.logsumexp(dim=1, keepdim=True)
    return log_q.exp()


def population_loss(
    scores1: torch.Tensor, scores2: torch.Tensor, q1: torch.Tensor, q2: torch.Tensor, temperature: float = 0.1
) -> torch.Tensor:
    """Each view predicts the other's assignments: 1/2 [CE(q2, p1) + CE(q1, p2)].

    p = softmax(scores / temperature) and CE(q, p) = -sum_k q_k ln p_k.

    Args:
        scores1, scores2: float (..., B, K), similarities of the two views to the prototypes.
        q1, q2: float (B, K), their assignments, constant.
        temperature: of the predictions.

    Returns:
        Scalar, mean over the batch and over leading dimensions.
    """
    log_p1 = functional.log_softmax(scores1 / temperature, dim=-1)
    log_p2 = functional.log_softmax(scores2 / temperature, dim=-1)
    return -(q2 * log_p1 + q1 * log_p2).sum(dim=-1).mean() / 2


def consensus_loss(
    z1: torch.Tensor,
    z2: torch.Tensor,
    prototypes: torch.Tensor,
    q1: torch.Tensor,
    q2: torch.Tensor,
    transforms: torch.Tensor,
    temperature: float = 0.1,
) -> torch.Tensor:
    """:func:`population_loss` with cosines taken after each of M linear maps, the mean over the maps.

    All maps and both views go through one product. Since neither maps nor prototypes are trained here, R'R c
    is formed first: <R z, R c> = <z, R'R c>, and R z itself is needed for its length alone.

    Args:
        z1, z2: float (B, D), the clustering head's output for two views; not normalised.
        prototypes: float (K, D), unit rows; used as constants.
        q1, q2: float (B, K), assignments, constant.
        transforms: float (M, P, D).
        temperature: of the predictions.

    Returns:
        Scalar; the gradient goes to ``z1`` and ``z2`` only.
    """
    count, _, dim = transforms.shape
    transforms = transforms.detach()
    z = torch.cat([z1, z2])
    with torch.no_grad():
        mapped = prototypes @ transforms.transpose(1, 2)  # (M, K, P)
        folded = (functional.normalize(mapped, dim=2) @ transforms).reshape(-1, dim)  # (M K, D)
    lengths = (z @ transforms.reshape(-1, dim).t()).view(len(z), count, -1).norm(dim=2)  # (2B, M)
    cosines = (z @ folded.t()).view(len(z), count, -1) / lengths.clamp_min(1e-12)[:, :, None]  # (2B, M, K)
    scores1, scores2 = cosines.transpose(0, 1).split([len(z1), len(z2)], dim=1)
    return population_loss(scores1, scores2, q1, q2, temperature)


def random_transforms(
    kind: Literal["projection", "diagonal"],
    count: int,
    projection_dim: int,
    dim: int,
    generator: torch.Generator,
) -> torch.Tensor:
    """The fixed random maps of the consensus term.

    Args:
        kind: ``projection``: Gaussian, entries N(0, 1/P); ``diagonal``: diag(r), r ~ N(0, 1), which ignores
            P.
        count: M.
        projection_dim: P.
        dim: D.
        generator: what they are drawn from.

    Returns:
        float32 (M, P, D), or (M, D, D) for diagonal ones.
    """
    if kind == "diagonal":
        return torch.diag_embed(torch.randn(count, dim, generator=generator))
    return torch.randn(count, projection_dim, dim, generator=generator) / projection_dim**0.5


class ConCURL(Method):
    """Instance discrimination plus consensus over random transformations of the embedding space.

    With ``alpha=0``, as published, the prototypes get no gradient: they stay the random directions they start
    as.

    Args:
        backbone, samples, k: see :class:`Method`; k is the number of prototypes.
        alpha: weight of the soft (population) term, the only one that trains the prototypes.
        beta: weight of the exemplar term (instance discrimination, first view).
        gamma: weight of the consensus term.
        tau: temperature of the exemplar term.
        negatives: m of its noise-contrastive estimate; 0 = exact softmax over all images.
        bank_momentum: share of the old entry kept in a bank update.
        instance_dim: width of the instance head, the default feature.
        hidden_dim, cluster_dim: widths of the clustering head.
        transforms: ``projection`` or ``diagonal``.
        transform_count: M.
        projection_dim: P.
        temperature: of the predictions in the soft and consensus terms.
        eps, sinkhorn_iterations: of the assignments.

    Raises:
        InputError: weights or sizes that define no loss.
    """

    transforms: torch.Tensor

    def __init__(
        self,
        backbone: Any,
        *,
        samples: int,
        k: int,
        alpha: float = 0.0,
        beta: float = 1.0,
        gamma: float = 1.0,
        tau: float = 0.85,
        negatives: int = 4096,
        bank_momentum: float = 0.5,
        instance_dim: int = 128,
        hidden_dim: int = 2048,
        cluster_dim: int = 256,
        transforms: Literal["projection", "diagonal"] = "projection",
        transform_count: int = 64,
        projection_dim: int = 152,
        temperature: float = 0.1,
        eps: float = 0.05,
        sinkhorn_iterations: int = 3,
    ) -> None:
        super().__init__(backbone, samples=samples, k=k)
        if min(alpha, beta, gamma) < 0 or alpha + beta + gamma == 0:
            raise InputError(f"alpha={alpha}, beta={beta}, gamma={gamma}: weights must be >= 0, at least one above 0.")
        if min(instance_dim, hidden_dim, cluster_dim, transform_count, projection_dim, sinkhorn_iterations) < 1:
            raise InputError("ConCURL's dimensions, transform_count and sinkhorn_iterations must be at least 1.")
        if temperature <= 0 or eps <= 0:
            raise InputError(f"temperature={temperature} and eps={eps} must be above 0.")
        self.alpha, self.beta, self.gamma = alpha, beta, gamma
        self.temperature, self.eps, self.sinkhorn_iterations = temperature, eps, sinkhorn_iterations
        self.views = 2 if self.clusters else 1
        width = backbone.feature_dim
        if beta:
            self.heads["head"] = Head([width, instance_dim], normalize=True)
            self.bank = InstanceBank(
                samples, instance_dim, temperature=tau, momentum=bank_momentum, negatives=negatives
            )
        if self.clusters:
            self.heads["cluster_head"] = Head([width, hidden_dim, cluster_dim], batch_norm=True)
            self.prototypes = nn.Parameter(functional.normalize(torch.randn(k, cluster_dim), dim=1))
        if gamma:
            generator = torch.Generator().manual_seed(
                torch.initial_seed()
            )  # the run's seed: the maps depend on it alone
            maps = random_transforms(transforms, transform_count, projection_dim, cluster_dim, generator)
            self.register_buffer("transforms", maps)

    @property
    def clusters(self) -> bool:
        """Whether any term uses the clustering head."""
        return self.alpha > 0 or self.gamma > 0

    def before_step(self) -> None:
        """Scale the prototypes to unit norm."""
        if self.clusters:
            self.prototypes.copy_(functional.normalize(self.prototypes, dim=1))

    def losses(self, views: Sequence[torch.Tensor], index: torch.Tensor) -> dict[str, torch.Tensor]:
        """The weighted terms ``exemplar``, ``population``, ``consensus``, those of weight 0 left out."""
        hidden = [self.encode(view) for view in views]  # one pass per view: BatchNorm sees one view at a time
        terms = {}
        if self.beta:
            features = self.heads["head"](hidden[0])
            terms["exemplar"] = self.beta * self.bank.loss(features, index)
            self._seen = features.detach(), index
        if self.clusters:
            z1, z2 = (self.heads["cluster_head"](features) for features in hidden)
            scores1, scores2 = (functional.normalize(z, dim=1) @ self.prototypes.t() for z in (z1, z2))
            q1, q2 = (sinkhorn(scores, self.eps, self.sinkhorn_iterations) for scores in (scores1, scores2))
            if self.alpha:
                terms["population"] = self.alpha * population_loss(scores1, scores2, q1, q2, self.temperature)
            if self.gamma:
                consensus = consensus_loss(z1, z2, self.prototypes, q1, q2, self.transforms, self.temperature)
                terms["consensus"] = self.gamma * consensus
        return terms

    def after_step(self) -> None:
        """Move the bank entries of this batch."""
        if self.beta:
            self.bank.update(*self._seen)
