"""ConCURL: learning representations for clustering by building consensus.

Deshmukh, Regatti, Manavoglu, Dogan, "Representation learning for clustering via building consensus", Machine
Learning 2022. Instance discrimination on one view, and agreement of both views' balanced soft assignments as seen
through many fixed random transformations of the embedding space. The weights keep the names of the published code:
``alpha`` for the soft (population) term, ``beta`` for the exemplar term, ``gamma`` for the consensus term; every
published run has 0, 1, 1. An older version, arXiv 2010.01245, had BYOL's loss as its exemplar term.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from shiftbench.encoders.backbones import Head
from shiftbench.trainers.base import Method, at_least_float32
from shiftbench.trainers.byol import byol_loss, follow, momentum_at, slow_copy
from shiftbench.trainers.distributed import gathered
from shiftbench.trainers.instance import InstanceBank
from shiftbench.trainers.ranges import above_zero, at_least, loss_weights, share


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
        scores1, scores2: float (B, K) or (B, K, M), similarities of the two views to the prototypes, in M ways.
        q1, q2: float (B, K) or (B, K, 1), their assignments, constant.
        temperature: of the predictions.

    Returns:
        Scalar, mean over the batch and the ways.
    """
    log_p1, log_p2 = (
        functional.log_softmax(at_least_float32(scores) / temperature, dim=1) for scores in (scores1, scores2)
    )
    return -(q2 * log_p1 + q1 * log_p2).sum(dim=1).mean() / 2


class _Lengths(torch.autograd.Function):
    """|R_m z| of rows z (B, D) under M maps, stacked to (M P, D): at least float32 (B, M), without gradient to the maps.

    By itself autograd would keep, and pass over, arrays of B x M x P numbers several times more.
    """

    @staticmethod
    def forward(ctx: Any, z: torch.Tensor, stacked: torch.Tensor, count: int) -> torch.Tensor:
        mapped = (z @ stacked.t()).view(len(z), count, -1)
        exact = torch.promote_types(mapped.dtype, torch.float32)
        lengths = torch.linalg.vector_norm(mapped, dim=2, dtype=exact).clamp_min_(1e-12)
        ctx.save_for_backward(mapped, lengths, stacked)
        return lengths

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        mapped, lengths, stacked = ctx.saved_tensors
        weights = (gradients[0] / lengths).to(mapped.dtype)
        return (mapped * weights[:, :, None]).flatten(1) @ stacked, None, None


def _lengths(z: torch.Tensor, stacked: torch.Tensor, count: int) -> torch.Tensor:
    kind = z.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else z.dtype
    with torch.autocast(kind, enabled=False):  # which would bring all B x M x P numbers to float32
        return _Lengths.apply(z.to(dtype), stacked.to(dtype), count)


def consensus_loss(
    z1: torch.Tensor,
    z2: torch.Tensor,
    prototypes: torch.Tensor,
    q1: torch.Tensor,
    q2: torch.Tensor,
    transforms: torch.Tensor,
    temperature: float = 0.1,
    learn_prototypes: bool = False,
) -> torch.Tensor:
    """:func:`population_loss` with cosines taken after each of M linear maps, the mean over the maps.

    All maps and both views go through one product. There are fewer prototypes than images, so R'R c is formed first:
    <R z, R c> = <z, R'R c>, and R z itself is needed for its length alone.

    Args:
        z1, z2: float (B, D), the clustering head's output for two views; not normalised.
        prototypes: float (K, D), unit rows.
        q1, q2: float (B, K), assignments, constant.
        transforms: float (M, P, D).
        temperature: of the predictions.
        learn_prototypes: whether the gradient goes to the prototypes too.

    Returns:
        Scalar; the gradient goes to ``z1`` and ``z2``, never to the maps or the assignments.
    """
    count, _, dim = transforms.shape
    transforms = transforms.detach()
    z = torch.cat([z1, z2])
    mapped = (prototypes if learn_prototypes else prototypes.detach()) @ transforms.transpose(1, 2)  # (M, K, P)
    folded = (functional.normalize(mapped, dim=2) @ transforms).transpose(0, 1).reshape(-1, dim)  # (K M, D)
    lengths = _lengths(z, transforms.reshape(-1, dim), count)
    cosines = (z @ folded.t()).view(len(z), -1, count) / lengths[:, None]  # (2B, K, M)
    scores1, scores2 = cosines.split([len(z1), len(z2)])
    return population_loss(scores1, scores2, q1[:, :, None], q2[:, :, None], temperature)


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

    As published, with ``alpha=0`` and detached prototypes, these get no gradient: they stay the random directions they
    start as.

    Args:
        backbone, base: see :class:`Method`; k is the number of prototypes.
        alpha: weight of the soft (population) term.
        beta: weight of the exemplar term.
        gamma: weight of the consensus term.
        exemplar: ``instance``, instance discrimination of the first view; or ``byol``, of the older version, in both
            directions.
        prototypes: ``detached``: trained by the soft term only, as published; ``learned``: by the consensus term
            too; ``frozen``: by neither.
        tau: temperature of instance discrimination.
        negatives: m of its noise-contrastive estimate; 0 = exact softmax over all images.
        bank_momentum: share of the old entry kept in a bank update.
        slow_momentum: of the slow network of BYOL at the start.
        instance_dim: width of the instance head, the default feature.
        hidden_dim, cluster_dim: widths of the clustering head, the former also of BYOL's projector and predictor.
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
        alpha: float = 0.0,
        beta: float = 1.0,
        gamma: float = 1.0,
        exemplar: Literal["instance", "byol"] = "instance",
        prototypes: Literal["detached", "learned", "frozen"] = "detached",
        tau: float = 0.85,
        negatives: int = 4096,
        bank_momentum: float = 0.5,
        slow_momentum: float = 0.996,
        instance_dim: int = 128,
        hidden_dim: int = 2048,
        cluster_dim: int = 256,
        transforms: Literal["projection", "diagonal"] = "projection",
        transform_count: int = 64,
        projection_dim: int = 152,
        temperature: float = 0.1,
        eps: float = 0.05,
        sinkhorn_iterations: int = 3,
        **base: Any,
    ) -> None:
        super().__init__(backbone, **base)
        loss_weights(alpha=alpha, beta=beta, gamma=gamma)
        at_least(1, instance_dim=instance_dim, hidden_dim=hidden_dim, cluster_dim=cluster_dim)
        at_least(1, transform_count=transform_count, projection_dim=projection_dim)
        at_least(1, sinkhorn_iterations=sinkhorn_iterations)
        above_zero(temperature=temperature, eps=eps)
        share(slow_momentum=slow_momentum)
        self.alpha, self.beta, self.gamma, self.exemplar = alpha, beta, gamma, exemplar
        self.temperature, self.eps, self.sinkhorn_iterations = temperature, eps, sinkhorn_iterations
        self.slow_momentum, self.learn_prototypes = slow_momentum, prototypes == "learned"
        self.clusters = alpha + gamma > 0
        self.views = 2 if self.clusters or exemplar == "byol" else 1
        width = backbone.feature_dim
        if beta and exemplar == "instance":
            self.heads["head"] = Head([width, instance_dim], normalize=True)
            self.bank = InstanceBank(
                self.samples, instance_dim, temperature=tau, momentum=bank_momentum, negatives=negatives
            )
        elif beta:
            self.heads["head"] = Head([width, hidden_dim, instance_dim], batch_norm=True)
            self.predictor = Head([instance_dim, hidden_dim, instance_dim], batch_norm=True)
            self.slow = nn.ModuleDict({"backbone": slow_copy(backbone), "head": slow_copy(self.heads["head"])})
        if self.clusters:
            self.heads["cluster_head"] = Head([width, hidden_dim, cluster_dim], batch_norm=True)
            directions = functional.normalize(torch.randn(self.k, cluster_dim), dim=1)
            self.prototypes = nn.Parameter(directions, requires_grad=prototypes != "frozen")
        if gamma:
            generator = torch.Generator().manual_seed(torch.initial_seed())  # the maps depend on the run's seed alone
            maps = random_transforms(transforms, transform_count, projection_dim, cluster_dim, generator)
            self.register_buffer("transforms", maps)

    def before_step(self) -> None:
        """Scale the prototypes to unit norm."""
        if self.clusters:
            self.prototypes.copy_(functional.normalize(self.prototypes, dim=1))

    def losses(self, views: Sequence[torch.Tensor], index: torch.Tensor) -> dict[str, torch.Tensor]:
        """The weighted terms ``exemplar``, ``population``, ``consensus``, those of weight 0 left out."""
        hidden = self.hidden(views)
        terms = {}
        if self.beta:
            likeness = self._instance(hidden[0], index) if self.exemplar == "instance" else self._byol(hidden, views)
            terms["exemplar"] = self.beta * likeness
        if self.clusters:
            terms |= self._agreement(*hidden)
        return terms

    def after_step(self) -> None:
        """Move the bank entries of this batch, or the slow network."""
        if self.beta and self.exemplar == "instance":
            self.bank.update(*self._seen)
        elif self.beta:
            momentum = momentum_at(self.slow_momentum, self.progress)
            follow(self.slow["backbone"], self.backbone, momentum)
            follow(self.slow["head"], self.heads["head"], momentum)

    def _instance(self, hidden: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        features, index = self.heads["head"](hidden), gathered(index)
        self._seen = features.detach(), index
        return self.bank.loss(features, index)

    def _byol(self, hidden: Sequence[torch.Tensor], views: Sequence[torch.Tensor]) -> torch.Tensor:
        with torch.no_grad():
            target1, target2 = (self.slow["head"](target) for target in self.hidden(views, self.slow["backbone"]))
        first, second = (self.predictor(self.heads["head"](online)) for online in hidden)
        return byol_loss(first, target2) + byol_loss(second, target1)

    def _agreement(self, hidden1: torch.Tensor, hidden2: torch.Tensor) -> dict[str, torch.Tensor]:
        z1, z2 = (self.heads["cluster_head"](hidden) for hidden in (hidden1, hidden2))
        scores1, scores2 = (functional.normalize(z, dim=1) @ self.prototypes.t() for z in (z1, z2))
        q1, q2 = (sinkhorn(scores, self.eps, self.sinkhorn_iterations) for scores in (scores1, scores2))
        terms = {}
        if self.alpha:
            terms["population"] = self.alpha * population_loss(scores1, scores2, q1, q2, self.temperature)
        if self.gamma:
            consensus = consensus_loss(
                z1, z2, self.prototypes, q1, q2, self.transforms, self.temperature, self.learn_prototypes
            )
            terms["consensus"] = self.gamma * consensus
        return terms
