"""CC: contrast between images on one head, between clusters on another.

Li, Hu, Liu, Peng, Zhou, Peng, "Contrastive clustering", AAAI 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from shiftbench.encoders.backbones import Head
from shiftbench.trainers.drc import negative_entropy
from shiftbench.trainers.ranges import above_zero, at_least
from shiftbench.trainers.simclr import SimCLR, nt_xent


class CC(SimCLR):
    """SimCLR's term, and the same contrast between the columns of the assignments, kept balanced by their entropy.

    The clustering head's scores are saved as the head ``cluster``; their largest names the cluster.

    Args:
        backbone, simclr: see :class:`SimCLR`; both heads have its hidden width.
        cluster_temperature: of the contrast between clusters.
        cluster: weight of the clustering terms, contrast and entropy; 0 = SimCLR.

    Raises:
        InputError: a value outside its range.
    """

    def __init__(self, backbone: Any, *, cluster_temperature: float = 1.0, cluster: float = 1.0, **simclr: Any) -> None:
        super().__init__(backbone, **simclr)
        above_zero(cluster_temperature=cluster_temperature)
        at_least(0, cluster=cluster)
        self.cluster, self.cluster_temperature = cluster, cluster_temperature
        self.clusters = cluster > 0
        if cluster:
            self.heads["cluster"] = Head([backbone.feature_dim, self.hidden_dim, self.k])

    def losses(self, views: Sequence[torch.Tensor], index: torch.Tensor) -> dict[str, torch.Tensor]:
        """The weighted terms ``instance``, ``cluster``, ``entropy``."""
        hidden = self.hidden(views)
        terms = self._instance(*hidden)
        if self.cluster:
            p1, p2 = (self.heads["cluster"](features).softmax(dim=1) for features in hidden)
            terms["cluster"] = self.cluster * nt_xent(p1.t(), p2.t(), self.cluster_temperature)
            terms["entropy"] = self.cluster * (negative_entropy(p1) + negative_entropy(p2))
            self.watch_masses(p1)
        return terms
