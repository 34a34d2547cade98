"""What can go wrong in a training: losses that are no numbers, features that collapse, memory that runs out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from shiftbench.errors import InputError
from shiftbench.trainers.options import Options

MIN_SPREAD = 1e-3  # below it the features hardly depend on the image
MIN_RANK = 1.5  # effective rank; below it the features vary along one line
MAX_SHARE = 0.95  # of the images in one cluster
LASTING = 3  # epochs in a row until a symptom is a collapse


class Terms:
    """Sums over an epoch of the scalars that each step reports, made on the host in the order of the steps.

    Args:
        where: name of the epoch in messages.
        advice: what to try when a term is no longer a number.
    """

    def __init__(self, where: str, advice: str) -> None:
        self._where, self._advice = where, advice
        self._pending: list[tuple[torch.Tensor, int]] = []
        self._names: list[str] = []
        self._sums: list[float] = []
        self._steps = self._weight = 0

    def add(self, terms: Mapping[str, torch.Tensor], weight: int) -> None:
        """Remember the terms of a step without waiting for the device.

        Args:
            terms: scalars, the same names in every step.
            weight: number of images that they are means of.
        """
        self._names = list(terms)
        self._pending.append((torch.stack([term.detach().float() for term in terms.values()]), weight))

    def collect(self) -> str:
        """Bring the terms added so far to the host, check them, and return the last step's as text.

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
        """The mean of each term over the images; call :meth:`collect` first."""
        return {name: total / self._weight for name, total in zip(self._names, self._sums, strict=True)}


def signs(features: torch.Tensor, scores: torch.Tensor | None = None) -> dict[str, float]:
    """Signs of a collapse, measured without labels.

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
    measured = {
        "probe_spread": float(centred.square().sum() / points.square().sum().clamp(min=1e-300)),
        "probe_rank": float(torch.special.entr(shares).sum().exp()),
    }
    if scores is not None:
        sizes = torch.bincount(scores.argmax(dim=1), minlength=scores.shape[1])
        measured["probe_largest_cluster"] = float(sizes.max()) / len(scores)
    return measured


def collapse(history: Sequence[Mapping[str, float | None]], k: int) -> str:
    """A sentence about what has been collapsed for three epochs in a row; empty where nothing is.

    Args:
        history: rows of the epochs, with the columns of :func:`signs`.
        k: number of clusters; with two of them, features may well lie on a line.
    """
    symptoms = [_symptom(row, k) for row in history[-LASTING:]]
    return symptoms[-1] if len(symptoms) == LASTING and all(symptoms) else ""


def _symptom(row: Mapping[str, float | None], k: int) -> str:
    spread, rank, largest = (row.get(f"probe_{name}") for name in ("spread", "rank", "largest_cluster"))
    if spread is not None and spread < MIN_SPREAD:
        return f"all images have nearly the same features (they vary by {spread:.2g} of their square length)"
    if rank is not None and rank < MIN_RANK and k > 2:
        return f"the features vary along one direction only (effective rank {rank:.2f})"
    if largest is not None and largest > MAX_SHARE:
        return f"one cluster holds {largest:.0%} of the images"
    return ""


@contextmanager
def enough_memory(options: Options, device: torch.device) -> Iterator[None]:
    """Turn running out of memory into one line that says what to try.

    Raises:
        InputError: the memory of the device or of the machine ran out inside the block.
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
