"""Shifts made of the test images themselves: other class shares, fewer classes, fewer pixels."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from shiftbench.corruptions import SEVERITIES
from shiftbench.data.lookup import Samples
from shiftbench.records import Condition, Dataset, Sample, Shift, Skipped

# By severity, from 1 to 5.
CONCENTRATION = (10.0, 3.0, 1.0, 0.3, 0.1)  # of the Dirichlet distribution of class shares
DROPPED = (0.1, 0.2, 0.3, 0.4, 0.5)  # share of the classes
FACTOR = (1.5, 2.0, 3.0, 4.0, 6.0)  # by which height and width are divided


def prior_samples(dataset: Dataset, table: str, seed: int) -> Samples:
    """Class shares drawn from a Dirichlet distribution, whose concentration falls with the severity.

    Each condition is the largest subset of the test images with these shares, drawn without replacement. With the same
    seed, the same classes are rare at all severities, and the images of a class are drawn in the same order.

    Examples:
        >>> from shiftbench.data.base import load_dataset
        >>> digits = load_dataset("digits")
        >>> samples = prior_samples(digits, table="", seed=0)
        >>> [sample.n for sample in samples.values()] == sorted((sample.n for sample in samples.values()), reverse=True)
        True
    """
    labels = dataset.test.labels
    if labels is None:
        return {Condition("prior"): Skipped("prior shifts the shares of the classes and needs labels")}
    rng = np.random.default_rng([seed, 0])
    quantiles = rng.uniform(size=len(dataset.classes))
    order = rng.permutation(len(labels))
    samples: Samples = {}
    for severity, concentration in zip(SEVERITIES, CONCENTRATION, strict=True):
        counts = _counts(labels, _dirichlet(quantiles, concentration))
        rows = np.sort(np.concatenate([order[labels[order] == c][:n] for c, n in enumerate(counts)]))
        samples[Condition("prior", severity=severity)] = Sample(labels[rows], rows)
    return samples


def subpopulation_samples(dataset: Dataset, table: str, seed: int) -> Samples:
    """The test images without some classes; a class that is missing at a severity is missing at all higher severities.

    The clusters are fitted with all classes, so it is compared with the whole test split.

    Examples:
        >>> from shiftbench.data.base import load_dataset
        >>> digits = load_dataset("digits")
        >>> samples = subpopulation_samples(digits, table="", seed=0)
        >>> [len(np.unique(sample.labels)) for sample in samples.values()]
        [9, 8, 7, 6, 5]
    """
    labels = dataset.test.labels
    n = len(dataset.classes)
    if labels is None or n < 3:
        return {Condition("subpopulation"): Skipped("subpopulation drops classes and needs labels of at least 3")}
    order = np.random.default_rng([seed, 1]).permutation(n)
    samples: Samples = {}
    for severity, share in zip(SEVERITIES, DROPPED, strict=True):
        dropped = order[: min(max(1, round(share * n)), n - 2)]
        rows = np.flatnonzero(~np.isin(labels, dropped))
        samples[Condition("subpopulation", severity=severity)] = Sample(labels[rows], rows)
    return samples


def resolution_samples(dataset: Dataset, table: str, seed: int) -> Samples:
    """The test images at fewer pixels, antialiased, and enlarged again: bilinear both ways.

    Examples:
        >>> from shiftbench.data.base import load_dataset
        >>> digits = load_dataset("digits")
        >>> [condition.label for condition in resolution_samples(digits, table="", seed=0)][:2]
        ['resolution-1', 'resolution-2']
    """
    rows = np.arange(len(dataset.test))
    return {
        Condition("resolution", severity=severity): Sample(
            dataset.test.labels, rows, change=partial(reduce_resolution, factor=factor)
        )
        for severity, factor in zip(SEVERITIES, FACTOR, strict=True)
    }


def reduce_resolution(images: torch.Tensor, index: torch.Tensor | None = None, *, factor: float) -> torch.Tensor:
    """Down-sample and enlarge again: uint8 (N, 3, H, W) to the same, on the images' device.

    Args:
        images: uint8 (N, 3, H, W).
        index: not used; nothing here is random.
        factor: by which height and width are divided in between, at least 1.

    Examples:
        >>> images = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8)
        >>> reduce_resolution(images, factor=8.0).unique()
        tensor([32], dtype=torch.uint8)
    """
    size = images.shape[-2:]
    small = [max(1, round(side / factor)) for side in size]
    down = F.interpolate(images.float(), small, mode="bilinear", antialias=True)
    return F.interpolate(down, size, mode="bilinear").round_().clamp_(0, 255).to(torch.uint8)


def _dirichlet(quantiles: np.ndarray, concentration: float) -> np.ndarray:
    """The symmetric Dirichlet draw at these quantiles of its gamma variables: float64 (C,), sums to 1."""
    from scipy.special import gammaincinv

    gammas = gammaincinv(concentration, quantiles)
    shares: np.ndarray = gammas / gammas.sum()
    return shares


def _counts(labels: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """How many images of each class the largest subset with these class shares has: int64 (C,)."""
    available = np.bincount(labels, minlength=len(shares))
    with np.errstate(divide="ignore"):
        total = (available / shares)[available > 0].min()
    counts: np.ndarray = np.minimum(np.round(shares * total).astype(np.int64), available)
    return counts


prior = Shift(
    "prior",
    "synthetic",
    paired=True,
    samples=prior_samples,
    source="subsets of the test images",
    citation="Lipton et al. 2018, arXiv:1802.03916",
)
subpopulation = Shift(
    "subpopulation", "synthetic", paired=True, samples=subpopulation_samples, source="subsets of the test images"
)
resolution = Shift(
    "resolution", "synthetic", paired=True, samples=resolution_samples, source="the test images at fewer pixels"
)
