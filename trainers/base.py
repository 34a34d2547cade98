"""What a training method is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from shiftbench.errors import InputError
from shiftbench.trainers.distributed import gathered


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in float32 if it is in half precision, as it is otherwise: what a loss computes in."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class Method(nn.Module, ABC):
    """A way to learn features from unlabelled images: a backbone, heads on top of it, and a loss.

    A subclass takes its hyper-parameters as annotated keyword-only arguments: they are what ``trainer.method.*`` may
    set. It passes the others on (``**base``), fills ``heads`` and writes :meth:`losses`. All state that a resumed run
    needs (memory banks, fixed projections) is in parameters and buffers. Random numbers in :meth:`losses` come from
    torch's global generator, which the engine seeds anew for each epoch.

    Args:
        backbone: normalised float images (B, 3, H, W) -> (B, backbone.feature_dim).
        samples: number of training images N.
        k: number of clusters.

    Attributes:
        views: how many views of each image :meth:`losses` wants.
        clusters: whether the loss compares clusters over the batch, which then must have at least k images.
        heads: what is saved with the encoder, :class:`~shiftbench.encoders.backbones.Head` by name; the first is its
            default feature. A head called ``cluster`` gives scores (B, k), the largest of which names the cluster.
        precision: what :meth:`encode` computes in; set by the engine.
        progress: share of the training's steps that are done, 0..1; set by the engine before each step.
        diagnostics: detached scalars about the last step that are no part of the loss, such as the smallest and the
            largest share of a cluster (``mass_min``, ``mass_max``).

    Raises:
        InputError: fewer than two clusters, or more clusters than images.
    """

    views: int = 2
    clusters: bool = False
    precision: torch.dtype = torch.float32
    progress: float = 0.0

    def __init__(self, backbone: Any, *, samples: int, k: int) -> None:
        super().__init__()
        if not 2 <= k <= samples:
            raise InputError(f"k={k} clusters for {samples} images: at least 2 and at most {samples} make sense.")
        self.backbone = backbone
        self.samples = samples
        self.k = k
        self.heads = nn.ModuleDict()
        self.diagnostics: dict[str, torch.Tensor] = {}

    def encode(self, images: torch.Tensor, backbone: nn.Module | None = None) -> torch.Tensor:
        """The backbone's features, float32 (B, D). Only it runs in low precision: heads and losses never do.

        Args:
            images: float (B, 3, H, W), normalised.
            backbone: another network to use; None is ``self.backbone``.
        """
        low = self.precision != torch.float32
        with torch.autocast(images.device.type, dtype=self.precision if low else None, enabled=low):
            return (self.backbone if backbone is None else backbone)(images).float()

    def hidden(self, views: Sequence[torch.Tensor], backbone: nn.Module | None = None) -> list[torch.Tensor]:
        """:meth:`encode` of each view, with the rows of all processes, so that heads and losses see the whole batch.

        Each view is a forward pass of its own, so that BatchNorm never mixes views.
        """
        return [gathered(self.encode(view, backbone)) for view in views]

    @abstractmethod
    def losses(self, views: Sequence[torch.Tensor], index: torch.Tensor) -> dict[str, torch.Tensor]:
        """The weighted terms whose sum is the loss.

        Args:
            views: ``self.views`` tensors, float (B, 3, H, W), normalised: augmentations of the same B images, which are
                this process's share of the batch.
            index: int64 (B,), which training images these are.

        Returns:
            ``{name: scalar}``; the same names in every step.
        """

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimiser trains: dicts of ``params`` and ``lr_scale``, which multiplies the learning rate."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [{"params": trained, "lr_scale": 1.0}]

    def watch_masses(self, assignments: torch.Tensor) -> None:
        """Note the smallest and the largest share of a cluster; ``assignments`` is float (B, k), rows summing to 1."""
        masses = assignments.detach().mean(dim=0)
        self.diagnostics |= {"mass_min": masses.min(), "mass_max": masses.max()}

    def before_epoch(self, epoch: int, epochs: int, images: Callable[[], Iterator[torch.Tensor]]) -> None:
        """Called before each epoch, in training mode, without gradients (initialise centres).

        Args:
            epoch: its number, from 0.
            epochs: how many there will be.
            images: gives all training images in their order, not augmented: batches of normalised float
                (B, 3, H, W), the same in every process.
        """

    def before_step(self) -> None:
        """Called before each step's forward pass, without gradients (renormalise prototypes)."""

    def complete(self) -> None:
        """Compute what follows from the weights: called after each optimiser step and after weights were replaced."""

    def after_step(self) -> None:
        """Called after each optimiser step, without gradients (update a memory bank)."""
