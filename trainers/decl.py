"""DECL: contrast between images, and learned centres whose assignments sharpen themselves.

Sundareswaran, Herrera-Gerena, Just, Jannesari, "Cluster analysis with deep embeddings and contrastive learning",
arXiv 2109.12714. The self-training term is that of DEC (Xie, Girshick, Farhadi, ICML 2016), within the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from shiftbench.clustering.kmeans import KMeans
from shiftbench.encoders.backbones import Head
from shiftbench.runtime import processes
from shiftbench.trainers.base import at_least_float32
from shiftbench.trainers.ranges import above_zero, at_least, share
from shiftbench.trainers.simclr import SimCLR


def log_assignments(hidden: torch.Tensor, centers: torch.Tensor, alpha: float = 1.0) -> torch.Tensor:
    """Logarithms of Student-t assignments, q_k proportional to (1 + |h - c_k|^2 / alpha)^(-(alpha + 1) / 2).

    Args:
        hidden: float (B, D).
        centers: float (k, D).
        alpha: degrees of freedom.

    Returns:
        (B, k); rows of exp sum to 1.
    """
    hidden, centers = at_least_float32(hidden), at_least_float32(centers)
    lengths = hidden.square().sum(dim=1, keepdim=True) + centers.square().sum(dim=1)
    squares = (lengths - 2 * hidden @ centers.t()).clamp_min(0)
    return functional.log_softmax(torch.log1p(squares / alpha) * (-(alpha + 1) / 2), dim=1)


@torch.no_grad()
def sharpened(assignments: torch.Tensor) -> torch.Tensor:
    """The targets of self-training: q^2 over the cluster's size in the batch, rows scaled to sum 1.

    Args:
        assignments: float (B, k), rows summing to 1.

    Returns:
        (B, k), constant.
    """
    weights = assignments.square() / assignments.sum(dim=0).clamp_min(1e-30)
    return weights / weights.sum(dim=1, keepdim=True)


def divergence(targets: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """The mean over the batch of KL(targets || q).

    Args:
        targets: float (B, k), rows summing to 1; constant.
        log_q: (B, k), logarithms of the assignments that are pulled.
    """
    return functional.kl_div(log_q, targets.detach(), reduction="batchmean")


class DECL(SimCLR):
    """SimCLR's term on two views; the image itself is assigned to centres, and its views follow.

    The centres live in the backbone's own features, not scaled to unit norm, and start as k-means of all training
    images. They are the weights of the head ``cluster``, whose scores h c_k - |c_k|^2 / 2 are largest for the nearest.

    Args:
        backbone, simclr: see :class:`SimCLR`.
        alpha: degrees of freedom of the assignments, the length scale of the features.
        cluster: weight of self-training, on the image itself.
        anchor: weight of its views following its assignment. With both weights 0 this is SimCLR.
            The image itself is the third view: ``trainer.augmentation.clean=[2]``.
        warmup: share of the epochs with SimCLR's term alone, before the centres are set.

    Raises:
        InputError: a value outside its range.
    """

    def __init__(
        self,
        backbone: Any,
        *,
        alpha: float = 1.0,
        cluster: float = 1.0,
        anchor: float = 1.0,
        warmup: float = 0.0,
        **simclr: Any,
    ) -> None:
        super().__init__(backbone, **simclr)
        above_zero(alpha=alpha)
        at_least(0, cluster=cluster, anchor=anchor)
        share(warmup=warmup)
        self.alpha, self.cluster, self.anchor, self.warmup = alpha, cluster, anchor, warmup
        self.assigns = cluster + anchor > 0
        self.assigning = self.assigns and not warmup
        if self.assigns:
            self.views = 3
            self.heads["cluster"] = Head([backbone.feature_dim, self.k])
            self._linear.bias.requires_grad_(False)

    @property
    def centers(self) -> torch.Tensor:
        """Float (k, D), learned."""
        return self._linear.weight

    def before_epoch(self, epoch: int, epochs: int, images: Callable[[], Iterator[torch.Tensor]]) -> None:
        """Set the centres, once, when the warm-up is over: k-means of the images as the network sees them then."""
        start = int(self.warmup * epochs)
        self.assigning = self.assigns and epoch >= start
        if self.assigns and epoch == start:
            hidden = torch.cat([self.encode(batch) for batch in images() if len(batch) > 1])  # BatchNorm needs two
            centers = processes.broadcast(KMeans().fit(hidden, self.k, 0).centers)  # equal to the last bit everywhere
            self.centers.copy_(torch.as_tensor(centers))
            self.complete()

    def losses(self, views: Sequence[torch.Tensor], index: torch.Tensor) -> dict[str, torch.Tensor]:
        """The weighted terms ``instance``, ``cluster``, ``anchor``."""
        hidden = self.hidden(views)
        terms = self._instance(*hidden[:2])
        if self.assigns:
            first, second, plain = (log_assignments(view, self.centers, self.alpha) for view in hidden)
            q = plain.detach().exp()
            self.watch_masses(q)
            on = float(self.assigning)
            terms["cluster"] = on * self.cluster * divergence(sharpened(q), plain)
            terms["anchor"] = on * self.anchor * (divergence(q, first) + divergence(q, second))
        return terms

    def complete(self) -> None:
        """The head's scores follow from its centres."""
        if self.assigns:
            self._linear.bias.copy_(self.centers.square().sum(dim=1) / -2)

    @property
    def _linear(self) -> nn.Linear:
        return cast(nn.Linear, cast(Head, self.heads["cluster"])[0])
