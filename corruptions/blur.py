"""Blurs (Hendrycks & Dietterich 2019): defocus, glass, motion, zoom and Gaussian blur."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from shiftbench.corruptions.linear import gaussian, reflect, separable, to_uint8, zoom
from shiftbench.corruptions.sampling import Draws
from shiftbench.corruptions.severity import Row, Table


def gaussian_blur(images: Tensor, constants: Row, table: Table, draws: Draws) -> Tensor:
    """Gaussian low-pass, edges repeated; constants: (standard deviation in pixels)."""
    return to_uint8(_gaussian(images, constants[0]) + 1e-3)


def _gaussian(images: Tensor, sigma: float) -> Tensor:
    height, width = images.shape[2:]
    return separable(images.float(), gaussian(height, sigma), gaussian(width, sigma))


@cache
def disk_kernel(radius: float, alias_blur: float) -> np.ndarray:
    """Anti-aliased disk, float32 (2r + 1, 2r + 1), as the published scripts build it."""
    half = 8 if radius <= 8 else int(radius)
    offsets = np.arange(-half, half + 1)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.float32)
    disk /= disk.sum()
    taps = np.arange(-1, 2) if radius <= 8 else np.arange(-2, 3)
    weights = np.exp(-0.5 * (taps / alias_blur) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    n = len(offsets)
    blurred = sum(w * disk[:, reflect(np.arange(n) + t, n)] for t, w in zip(taps, weights, strict=True))
    return sum(w * blurred[reflect(np.arange(n) + t, n)] for t, w in zip(taps, weights, strict=True))


def defocus_blur(images: Tensor, constants: Row, table: Table, draws: Draws) -> Tensor:
    """Convolve with an anti-aliased disk, borders reflected; constants: (radius, blur of the disk's edge), in pixels."""
    kernel = disk_kernel(*constants)
    half = len(kernel) // 2
    n, channels, height, width = images.shape
    rows = torch.from_numpy(reflect(np.arange(-half, height + half), height)).to(images.device)
    columns = torch.from_numpy(reflect(np.arange(-half, width + half), width)).to(images.device)
    padded = images[:, :, rows][..., columns].float().view(n * channels, 1, height + 2 * half, width + 2 * half)
    weight = torch.from_numpy(kernel).to(images.device)[None, None]
    return to_uint8(functional.conv2d(padded, weight).view(images.shape) + 1e-3)


def glass_blur(images: Tensor, constants: Row, table: Table, draws: Draws) -> Tensor:
    """Blur, let pixels take a random neighbour's place, blur again.

    The published loop means to swap two pixels but copies one over the other (both sides of the assignment are views);
    it runs from the bottom right to the top left, so a copied pixel may travel on. We do the same.

    Constants: (standard deviation of the blurs in pixels, largest displacement, repetitions).
    """
    sigma, delta, repetitions = constants[0], int(constants[1]), int(constants[2])
    n, channels, height, width = images.shape
    steps = draws.integers((repetitions, height - 2 * delta, width - 2 * delta, 2), 2 * delta, 0) - delta
    values = to_uint8(_gaussian(images, sigma) + 1e-3).flatten(2)
    places = torch.arange(height * width, device=images.device).view(height, width)
    visited = places[delta + 1 : height - delta + 1, delta + 1 : width - delta + 1].flip(0, 1)
    for step in steps.unbind(1):
        origin = places.flatten().repeat(n, 1)
        taken = visited + step[..., 1] * width + step[..., 0]
        origin[:, visited.flatten()] = taken.flatten(1)
        values = values.gather(2, _follow(origin, visited)[:, None].expand(-1, channels, -1))
    return to_uint8(_gaussian(values.view(images.shape), sigma) + 1e-3)


def _follow(origin: Tensor, visited: Tensor) -> Tensor:
    """Where each place's value comes from in the end, when a value taken later may itself have been replaced before.

    Args:
        origin: int64 (N, places), the place each place takes its value from.
        visited: the places in the order in which they take it.
    """
    order = torch.full(origin.shape[1:], origin.shape[1], device=origin.device)
    order[visited.flatten()] = torch.arange(visited.numel(), device=origin.device)
    places = torch.arange(origin.shape[1], device=origin.device)
    final = order[origin] >= order  # taken from a place that was not yet replaced
    link = torch.where(final, places, origin)
    while True:
        further = link.gather(1, link)
        if torch.equal(further, link):
            break
        link = further
    return origin.gather(1, link)


def motion_blur(images: Tensor, constants: Row, table: Table, draws: Draws) -> Tensor:
    """One-sided Gaussian blur along a random direction within 45 degrees of the horizontal.

    Constants: (radius, standard deviation), in pixels.
    """
    angle = draws.uniform((), -45, 45, 0)
    return to_uint8(motion(images.float(), constants[0], constants[1], angle, table.published) + (
        0.5 if table.published else 1e-3
    ))


def motion(x: Tensor, radius: float, sigma: float, angle: Tensor, repeat_edge: bool) -> Tensor:
    """ImageMagick's motion blur: pixels along a ray, weighted by half a Gaussian, edges repeated.

    Args:
        x: float (N, C, H, W).
        radius: the ray has 2 * radius + 1 pixels.
        sigma: standard deviation in pixels.
        angle: (N,), degrees.
        repeat_edge: False ends the sum where the ray would be longer than the image, as imagecorruptions does.
    """
    n, channels, height, width = x.shape
    taps = torch.arange(2 * int(radius) + 1, dtype=torch.float64, device=x.device)
    weights = torch.exp(-0.5 * (taps / sigma) ** 2)
    weights = weights / weights.sum()
    radians = torch.deg2rad(angle)[:, None]
    down = torch.ceil(taps * torch.sin(radians) - 0.5).long()
    right = torch.ceil(taps * torch.cos(radians) - 0.5).long()
    weights = weights.expand(n, -1)
    if not repeat_edge:
        inside = (down.abs() < height) & (right.abs() < width)
        weights = weights * inside.cumprod(1)
    rows = torch.arange(height, device=x.device)[None, :, None]
    columns = torch.arange(width, device=x.device)[None, None]
    flat, out = x.flatten(2), torch.zeros_like(x)
    for i in range(len(taps)):
        source = (rows + down[:, i, None, None]).clamp(0, height - 1) * width + (
            columns + right[:, i, None, None]
        ).clamp(0, width - 1)
        tap = flat.gather(2, source.flatten(1)[:, None].expand(-1, channels, -1)).view(x.shape)
        out += tap * weights[:, i, None, None, None].to(x)
    return out


def zoom_blur(images: Tensor, constants: Row, table: Table, draws: Draws) -> Tensor:
    """Mean of the image and its zooms into the centre; constants: (end of the zoom factors, exclusive; their step)."""
    factors = np.arange(1, *constants)
    keep = "centre" if table.published else "corner"
    height, width = images.shape[2:]
    x = images.float()
    total = x.clone()
    for factor in factors:
        total += separable(x, zoom(height, float(factor), keep), zoom(width, float(factor), keep))
    return to_uint8(total / (len(factors) + 1) + 1e-3)
