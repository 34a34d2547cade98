"""k-means in matrix products, all seeds at once, on the device of a tensor: for GPUs.

The steps are those of :mod:`shiftbench.clustering.lloyd`, from the same draws. Distances come from products of float32
matrices (never TF32) of centred features, so that partitions agree with the CPU's up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from shiftbench.clustering.base import check_k
from shiftbench.errors import InputError, InputTypeError

_SCORES = 2**26  # float32 values that a chunk's distances to the centers of all seeds may take, 256 MiB
_ROWS = 2**14  # of a chunk: sums are float32 within, float64 across


def fit_seeds(
    features: ArrayLike | Tensor, k: int, seeds: Sequence[int], device: str, max_iter: int, tol: float, unit: bool
) -> list[tuple[NDArray[np.int64], NDArray[np.float32], float, int]]:
    """Labels ``(N,)``, centers ``(k, D)``, inertia and iterations for each seed; arguments as of ``KMeans``.

    Raises:
        InputError: unfit features, or k outside ``1 .. N``.
    """
    with torch.inference_mode(), _exact_products():
        points = _points(features, device, unit)
        check_k(k, len(points))
        if not seeds:
            return []
        mean = points.new_zeros(points.shape[1]) if unit else points.mean(0, dtype=torch.float64).float()
        points = points - mean
        threshold = tol * _variance(points)
        centers, n_iter = _lloyd(points, points[_plus_plus(points, k, seeds)], max_iter, threshold, unit)
        labels = torch.cat([label for _, label, _ in _assignments(points, centers)], dim=1)
        inertia = [_inertia(points, fitted, label) for fitted, label in zip(centers, labels, strict=True)]
        fits = zip(labels.cpu().numpy(), (centers + mean).cpu().numpy(), inertia, n_iter.tolist(), strict=True)
        return list(fits)


def assign(features: Tensor, centers: NDArray[np.float32], unit: bool) -> NDArray[np.int64]:
    """The nearest of centers ``(k, D)`` for each row of a tensor ``(M, D)``, on its device: int64 ``(M,)``.

    Raises:
        InputError: unfit features, or another D.
    """
    with torch.inference_mode(), _exact_products():
        points = _points(features, str(features.device), unit)
        if points.shape[1] != centers.shape[1]:
            raise InputError(f"features have {points.shape[1]} dimensions, the fitted features {centers.shape[1]}.")
        fitted = torch.from_numpy(centers).to(points.device)
        origin = fitted.mean(0)
        labels = [label for _, label, _ in _assignments(points - origin, (fitted - origin)[None])]
        return torch.cat(labels, dim=1)[0].cpu().numpy()


@contextmanager
def _exact_products() -> Iterator[None]:
    """Matrix products in full float32, whatever the user's setting for training is."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _points(features: Any, device: str, unit: bool) -> Tensor:
    """Check features as ``as_features`` does, and bring them to the device: float32 (N, D)."""
    given = features if isinstance(features, Tensor) else torch.from_numpy(np.ascontiguousarray(features))
    if given.is_complex():
        raise InputTypeError(f"features must be real numbers, not {given.dtype}.")
    if given.ndim != 2 or 0 in given.shape:
        raise InputError(f"features must be a matrix with one row per image (N, D), not of shape {tuple(given.shape)}.")
    points = given.to(device, torch.float32)
    finite = points.square().sum(1).isfinite()
    if not finite.all():
        raise InputError(
            f"features must be finite, but {int((~finite).sum())} of {len(finite)} images have NaN, infinite or huge "
            f"(1e18) values, image {int(finite.int().argmin())} first: look at the encoder and its input."
        )
    return torch.nn.functional.normalize(points, eps=1e-30) if unit else points


def _plus_plus(points: Tensor, k: int, seeds: Sequence[int]) -> Tensor:
    """Greedy k-means++ for all seeds in step: rows int64 (S, k)."""
    trials = 2 + int(np.log(k))
    numbers = [np.random.RandomState(seed).random_sample(1 + (k - 1) * trials) for seed in seeds]
    draws = torch.from_numpy(np.array(numbers)).to(points.device)
    chosen = [(draws[:, 0] * len(points)).long()]
    closest = points.new_full((len(seeds), len(points)), torch.inf)
    closest = _closer(points, chosen[0][:, None], closest)[1][:, 0]
    for step in range(k - 1):
        cumulated = closest.cumsum(1, dtype=torch.float64)
        wanted = draws[:, 1 + step * trials : 1 + (step + 1) * trials] * cumulated[:, -1:]
        candidates = torch.searchsorted(cumulated, wanted).clamp(max=len(points) - 1)
        best = _closer(points, candidates, closest, keep=False)[0].argmin(1, keepdim=True)
        chosen.append(candidates.gather(1, best)[:, 0])
        closest = _closer(points, chosen[-1][:, None], closest)[1][:, 0]
    return torch.stack(chosen, dim=1)


def _closer(points: Tensor, candidates: Tensor, closest: Tensor, keep: bool = True) -> tuple[Tensor, Tensor]:
    """Squared distances ``closest`` (S, N) lowered by each candidate row (S, T).

    Returns:
        Their sums float64 (S, T), and with ``keep`` the distances themselves (S, T, N).
    """
    rows = points[candidates.flatten()]
    norms = rows.square().sum(1)
    sums = torch.zeros(candidates.shape, dtype=torch.float64, device=points.device)
    kept = []
    for start, chunk in _chunks(points, len(rows)):
        squares = norms[:, None] + chunk.square().sum(1) - 2 * rows @ chunk.T
        squares = squares.clamp_(min=0).view(*candidates.shape, len(chunk))
        squares = torch.minimum(squares, closest[:, None, start : start + len(chunk)])
        sums += squares.sum(2, dtype=torch.float64)
        if keep:
            kept.append(squares)
    return sums, torch.cat(kept, dim=2) if keep else sums


def _lloyd(points: Tensor, centers: Tensor, max_iter: int, threshold: float, unit: bool) -> tuple[Tensor, Tensor]:
    """Centers (S, k, D) and iterations (S,), each fit until no label changes or its movement is <= threshold."""
    seeds, k, dims = centers.shape
    centers = centers.clone()
    labels = torch.full((seeds, len(points)), -1, dtype=torch.int64, device=points.device)
    n_iter = torch.zeros(seeds, dtype=torch.int64, device=points.device)
    active = torch.arange(seeds, device=points.device)
    while len(active) and int(n_iter.max()) < max_iter:
        n_iter[active] += 1
        sums = torch.zeros(len(active) * k, dims, dtype=torch.float64, device=points.device)
        news, squares = torch.empty_like(labels[active]), points.new_empty(len(active), len(points))
        for start, label, square in _assignments(points, centers[active]):
            chunk = slice(start, start + label.shape[1])
            news[:, chunk], squares[:, chunk] = label, square
            members = points.new_zeros(len(active), k, label.shape[1]).scatter_(1, label[:, None], 1)
            sums += members.flatten(0, 1) @ points[chunk]
        sums = sums.view(len(active), k, dims)
        counts = torch.zeros(len(active), k, dtype=torch.int64, device=points.device)
        counts.scatter_add_(1, news, torch.ones_like(news))
        for fit, cluster in (counts == 0).nonzero().tolist():
            _fill(points, cluster, news[fit], squares[fit], counts[fit], sums[fit])
        changed = (news != labels[active]).any(1)
        labels[active] = news
        lengths = sums.norm(dim=2) if unit else counts
        means = torch.where(lengths[:, :, None] > 0, sums / lengths.clamp(min=1e-300)[:, :, None], centers[active])
        moved = (means.float() - centers[active]).square().sum((1, 2), dtype=torch.float64)
        centers[active] = means.float()
        active = active[changed & (moved > threshold)]
    return centers, n_iter


def _fill(points: Tensor, cluster: int, labels: Tensor, squares: Tensor, counts: Tensor, sums: Tensor) -> None:
    """Give an empty cluster of one fit, in place, the point farthest from its center, unless all are at distance 0."""
    point = int(torch.where(counts[labels] > 1, squares, 0).argmax())
    if squares[point] <= 0:
        return
    old = int(labels[point])
    for label, sign in ((old, -1), (cluster, 1)):
        counts[label] += sign
        sums[label] += sign * points[point].double()
    labels[point], squares[point] = cluster, 0


def _assignments(points: Tensor, centers: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Chunk by chunk: its first row, and for each fit the nearest centers (S, n) and squared distances (S, n)."""
    seeds, k, dims = centers.shape
    flat = centers.reshape(seeds * k, dims)
    norms = flat.square().sum(1)
    for start, chunk in _chunks(points, len(flat)):
        scores = torch.addmm(norms[:, None], flat, chunk.T, alpha=-2).view(seeds, k, len(chunk))
        least, label = scores.min(dim=1)
        yield start, label, (least + chunk.square().sum(1)).clamp_(min=0)


def _chunks(points: Tensor, width: int) -> Iterator[tuple[int, Tensor]]:
    """Row ranges of points whose products with ``width`` rows fit the budget, with their first row."""
    rows = max(1, min(_ROWS, _SCORES // width))
    for start in range(0, len(points), rows):
        yield start, points[start : start + rows]


def _variance(points: Tensor) -> float:
    """The mean variance of a dimension."""
    mean = points.mean(0, dtype=torch.float64).float()
    squares = [(chunk - mean).square().sum(dtype=torch.float64) for _, chunk in _chunks(points, 1)]
    return float(torch.stack(squares).sum()) / points.numel()


def _inertia(points: Tensor, centers: Tensor, labels: Tensor) -> float:
    """The sum of squared distances to the own centers, from differences."""
    chunks = ((points[i : i + _ROWS] - centers[labels[i : i + _ROWS]]).square() for i in range(0, len(points), _ROWS))
    return float(torch.stack([chunk.sum(dtype=torch.float64) for chunk in chunks]).sum())
