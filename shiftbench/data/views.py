"""Augmented views: the small changes under which a cluster should stay the same, for the augmentation axis."""

from __future__ import annotations

import torch
from torch.nn.functional import affine_grid, grid_sample

from shiftbench.corruptions.sampling import Draws

SHARE = (0.7, 1.0)  # of the side that a crop keeps
BRIGHTNESS = (0.8, 1.2)


def augmented(images: torch.Tensor, index: torch.Tensor, *, view: int, seed: int = 0) -> torch.Tensor:
    """A view of each image: a random square crop, enlarged bilinearly, with a random brightness.

    Nothing is mirrored or turned, since a mirrored digit is another sign.

    Args:
        images: uint8 (N, 3, H, W).
        index: int64 (N,), positions in the split; a view depends on seed, view and position alone.
        view: the view's number, 0, 1, ...
        seed: of the randomness.

    Returns:
        uint8 (N, 3, H, W).

    Examples:
        >>> images = torch.full((2, 3, 16, 16), 100, dtype=torch.uint8)
        >>> view = augmented(images, torch.tensor([0, 1]), view=0)
        >>> view.shape, bool((view >= 80).all() and (view <= 120).all())
        (torch.Size([2, 3, 16, 16]), True)
    """
    draws = Draws(seed, "view", view, index.to(images.device))
    side, factor = draws.uniform((1,), *SHARE, field=0)[:, 0], draws.uniform((1,), *BRIGHTNESS, field=1)
    left, top = (draws.uniform((1,), -1, 1, field=field)[:, 0] for field in (2, 3))
    transform = torch.zeros(len(images), 2, 3, device=images.device)
    transform[:, 0, 0] = transform[:, 1, 1] = side
    transform[:, 0, 2], transform[:, 1, 2] = (1 - side) * left, (1 - side) * top
    grid = affine_grid(transform, list(images.shape), align_corners=False)
    changed = grid_sample(images.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return (changed * factor.view(-1, 1, 1, 1)).round().clamp(0, 255).to(torch.uint8)
