"""Whether a training is still worth its time: losses that are no numbers, features that collapse, memory that ends."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from shiftbench.errors import InputError
from shiftbench.trainers.options import Options

PROBE = 256  # training images that are looked at after each epoch
PREFIX = "probe_"
SPREAD = 1e-3  # of features: below it they hardly depend on the image
RANK = 1.5  # of features: below it they vary along one line
LARGEST = 0.95  # share of one cluster
LASTING = 3  # epochs in a row

Row = Mapping[str, float | None]


class Terms:
    """What the steps of an epoch report, summed on the host in the order of the steps, whenever it is collected.

    Args:
        where: of the epoch, for messages.
        advice: what to try when a term is no longer a number.
    """

    def __init__(self, where: str, advice: str) -> None:
        self._where, self._advice = where, advice
        self._pending: list[tuple[torch.Tensor, int]] = []
        self._names: list[str] = []
        self._sums: list[float] = []
        self._steps = self._weight = 0

    def add(self, terms: Mapping[str, torch.Tensor], weight: int) -> None:
        """Remember one step's terms without waiting for the device."""
        self._names = list(terms)
        self._pending.append((torch.stack([term.detach().float() for term in terms.values()]), weight))

    def collect(self) -> str:
        """Bring what was added to the host and check it; returns the last values as text.

        Raises:
            InputError: a term is not finite.
        """
        rows = torch.stack([row for row, _ in self._pending]).double()
        for row, (_, weight) in zip(rows.tolist(), self._pending, strict=True):
            self._steps += 1
            for name, value in zip(self._names, row, strict=True):
                if not math.isfinite(value):
                    raise InputError(
                        f"Loss term {name!r} became {value} in {self._where}, step {self._steps}. {self._advice}"
                    )
            self._sums = [
                total + value * weight for total, value in zip(self._sums or [0.0] * len(row), row, strict=True)
            ]
            self._weight += weight
        self._pending = []
        return " ".join(f"{name} {value:.3f}" for name, value in zip(self._names, row, strict=True))

    def means(self) -> dict[str, float]:
        """The mean of each term over the images, after all was collected."""
        return {name: total / self._weight for name, total in zip(self._names, self._sums, strict=True)}


def signs(features: torch.Tensor, scores: torch.Tensor | None = None) -> dict[str, float]:
    """What tells a collapse, without labels.

    ``probe_spread`` is the share of the features' mean square length that their mean does not explain: 0 where all
    are the same, 1 where they surround the origin. ``probe_rank`` is the effective rank of the centred features, the
    exponential of the entropy of their normalised singular values (Roy and Vetterli 2007): how many directions they
    use. ``probe_largest_cluster`` is the share of images in the largest cluster of a method that has clusters.

    Args:
        features: float (N, D), N >= 2.
        scores: float (N, K), the largest of a row names the cluster; None = the method has none.
    """
    points = features.double()
    centred = points - points.mean(dim=0)
    singular = torch.linalg.svdvals(centred)
    shares = singular / singular.sum().clamp(min=1e-300)
    found = {
        f"{PREFIX}spread": float(centred.square().sum() / points.square().sum().clamp(min=1e-300)),
        f"{PREFIX}rank": float(torch.special.entr(shares).sum().exp()),
    }
    if scores is not None:
        sizes = torch.bincount(scores.argmax(dim=1), minlength=scores.shape[1])
        found[f"{PREFIX}largest_cluster"] = float(sizes.max()) / len(scores)
    return found


def collapse(history: Sequence[Row], k: int) -> str:
    """What has collapsed for three epochs in a row; empty where nothing has."""
    found = [_symptom(row, k) for row in history[-LASTING:]]
    return found[-1] if len(found) == LASTING and all(found) else ""


def _symptom(row: Row, k: int) -> str:
    spread, rank = (row.get(f"{PREFIX}{name}") for name in ("spread", "rank"))
    largest = row.get(f"{PREFIX}largest_cluster")
    if spread is not None and spread < SPREAD:
        return f"all images have nearly the same features (they vary by {spread:.2g} of their square length)"
    if rank is not None and rank < RANK and k > 2:
        return f"the features vary along one direction only (effective rank {rank:.2f})"
    if largest is not None and largest > LARGEST:
        return f"one cluster holds {largest:.0%} of the images"
    return ""


@contextmanager
def enough_memory(options: Options, device: torch.device) -> Iterator[None]:
    """Turn running out of memory into a line that says what to try.

    Raises:
        InputError: the memory of the device or of the machine ended inside the block.
    """
    try:
        yield
    except (torch.cuda.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if type(error) is RuntimeError and "DefaultCPUAllocator" not in str(error):
            raise
        half = options.batch // 2
        batch = f"Try trainer.batch={half}" if half >= 2 * options.accumulate else "Try a smaller trainer.backbone"
        parts = 2 * options.accumulate
        keep = f", or the same batch in parts: trainer.accumulate={parts}" if options.batch >= 2 * parts else ""
        raise InputError(
            f"{device} has not enough memory for trainer.batch={options.batch} with "
            f"trainer.backbone={options.backbone}. {batch}{keep}."
        ) from error
