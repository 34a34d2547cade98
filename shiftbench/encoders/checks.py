"""What looks wrong about an encoder's features before hours are spent on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from shiftbench.encoders.preprocess import NORMS, Preprocess

VARIANCE = 3.0  # times that of training: the right norm stays below 2 on photographs, half for imagenet is at 5
ALIKE = 0.999  # mean cosine between the features of different images
DEAD = 0.5  # share of dimensions


def unusual(features: Mapping[str, torch.Tensor]) -> list[str]:
    """A line for each feature (N, D) of N different images that is not finite, constant, or the same for all images.

    Examples:
        >>> unusual({"backbone": torch.ones(4, 2)})
        ['backbone is the same for all images']
    """
    problems = {name: _problem(values) for name, values in features.items()}
    return [f"{name} {problem}" for name, problem in problems.items() if problem]


def _problem(values: torch.Tensor) -> str:
    bad = int((~torch.isfinite(values)).any(1).sum())
    if bad:
        return f"is not finite for {bad} of {len(values)} images"
    values = values.double()
    constant = float((values.std(0, unbiased=False) <= 1e-6 * values.abs().max()).double().mean())
    if constant == 1:
        return "is the same for all images"
    unit, count = nn.functional.normalize(values, dim=1), len(values)
    alike = float((unit.sum(0).square().sum() - unit.square().sum()) / (count * (count - 1)))
    if alike > ALIKE:
        return f"hardly depends on the image (mean cosine between images {alike:.4f})"
    return f"is constant in {constant:.0%} of its dimensions" if constant > DEAD else ""


def unlike_training(backbone: nn.Module, preprocess: Preprocess, images: torch.Tensor) -> list[str]:
    """A line if the inputs of the first trained BatchNorm vary much more or less than in its training.

    That is how a wrong normalisation shows in any network: BatchNorm keeps the variance of its training inputs.

    Args:
        backbone: float (N, 3, H, W) -> features.
        preprocess: what comes before it.
        images: uint8 (N, 3, H, W), of the kind that the network is meant for.

    Examples:
        >>> norm = nn.BatchNorm2d(3)
        >>> _ = norm.running_var.fill_(1000.0)
        >>> images = torch.randint(256, (16, 3, 8, 8), dtype=torch.uint8)
        >>> len(unlike_training(norm, Preprocess(*NORMS["half"]), images))
        1
    """
    ratio = _variance_ratio(backbone, preprocess, images)
    if ratio is None or _fits(ratio):
        return []
    line = (
        f"its first BatchNorm sees {ratio:.2g} times the variance that it was trained on: a wrong norm, or images unlike "
        "those of its training"
    )
    ratios = {
        name: _variance_ratio(backbone, _renormalised(preprocess, mean, std), images) or math.inf
        for name, (mean, std) in NORMS.items()
    }
    best = min(ratios, key=lambda name: abs(math.log(ratios[name])))
    return [f"{line} (norm={best} gives {ratios[best]:.2g})" if _fits(ratios[best]) else line]


def _renormalised(preprocess: Preprocess, mean: Sequence[float], std: Sequence[float]) -> Preprocess:
    return type(preprocess)(**{**preprocess.describe(), "mean": mean, "std": std}).to(preprocess.mean.device)


def _fits(ratio: float) -> bool:
    return 1 / VARIANCE <= ratio <= VARIANCE


def _variance_ratio(backbone: nn.Module, preprocess: Preprocess, images: torch.Tensor) -> float | None:
    """Median over channels of the variance into the first BatchNorm that runs, over its running variance.

    None for a network without a trained one.
    """
    seen: list[torch.Tensor] = []

    def keep(norm: nn.BatchNorm2d, inputs: tuple[torch.Tensor, ...]) -> None:
        if not seen and norm.running_var is not None:
            seen.append(inputs[0].float().var((0, 2, 3)) / (norm.running_var + norm.eps))

    handles = [norm.register_forward_pre_hook(keep) for norm in backbone.modules() if _trained(norm)]
    try:
        with torch.inference_mode():
            backbone(preprocess(images.to(preprocess.mean.device)))
    finally:
        for handle in handles:
            handle.remove()
    return float(seen[0].median()) if seen else None


def _trained(module: nn.Module) -> bool:
    if not isinstance(module, nn.BatchNorm2d) or module.running_var is None:
        return False
    return not bool((module.running_var == 1).all())
