"""What every encoder is: a callable from uint8 images to float32 features, whatever made its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from shiftbench.errors import InputError


class Preprocess(nn.Module):
    """uint8 (N, 3, H, W) -> normalised float32 (N, 3, size, size). Part of the encoder, saved with it.

    Args:
        mean, std: per channel, on the 0..1 scale.
        size: images of another size are resized (bilinear, antialiased); None takes them as they are.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], size: int | None = None) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1) * 255, persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise a batch on the device it is on."""
        pixels = images.float()
        if self.size is not None and pixels.shape[-2:] != (self.size, self.size):
            pixels = nn.functional.interpolate(pixels, (self.size, self.size), mode="bilinear", antialias=True)
        return (pixels - self.mean) / self.std


class Encoder:
    """Images in, features out.

    Args:
        name: what tables call it.
        compute: uint8 (N, 3, H, W) -> ``{feature name: float32 (N, D)}``.
        feature_names: the keys of what ``compute`` returns, the default first.
        fingerprint: changes whenever the features would (a hash of weights and preprocessing).
        train_seed: the seed it was trained with, if it was trained here.
        selection: which epoch's weights these are: "last", or "oracle" when labels chose it.
        origin: what else is known of it, for the results' provenance.
    """

    def __init__(
        self,
        name: str,
        compute: Callable[[torch.Tensor], Mapping[str, torch.Tensor]],
        *,
        fingerprint: str,
        feature_names: Sequence[str] = ("backbone",),
        train_seed: int | None = None,
        selection: str = "last",
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self._compute = compute
        self.fingerprint = fingerprint
        self.feature_names = tuple(feature_names)
        self.train_seed = train_seed
        self.selection = selection
        self.origin = dict(origin or {})

    def features(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """All features of a batch.

        Args:
            images: uint8 (N, 3, H, W).

        Returns:
            ``{name: float32 (N, D)}`` on the CPU.

        Raises:
            InputError: the images are not uint8 (N, 3, H, W), or the encoder returns something else than (N, D).
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise InputError(f"images must be uint8 (N, 3, H, W), not {images.dtype} {tuple(images.shape)}.")
        with torch.inference_mode():
            features = {key: value.float().cpu() for key, value in self._compute(images).items()}
        for key, value in features.items():
            if value.ndim != 2 or len(value) != len(images):
                raise InputError(
                    f"Encoder {self.name!r} returned {key} of shape {tuple(value.shape)} for {len(images)} images; "
                    f"({len(images)}, D) is needed."
                )
        return features

    def feature_name(self, asked: str = "auto") -> str:
        """The feature that is used when ``asked`` is asked for: the default unless this encoder has one of that name."""
        return asked if asked in self.feature_names else self.feature_names[0]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """The default feature of a batch: uint8 (N, 3, H, W) -> float32 (N, D)."""
        return self.features(images)[self.feature_name()]


def module_encoder(
    name: str,
    backbone: nn.Module,
    preprocess: Preprocess,
    heads: Mapping[str, nn.Module] | None = None,
    *,
    device: torch.device,
    **about: Any,
) -> Encoder:
    """Wrap a torch backbone (and heads on top of it) as an :class:`Encoder` on a device.

    The first head is the default feature; without heads the backbone is. Weights are not changed and BatchNorm uses
    its running statistics.
    """
    heads = dict(heads or {})
    modules = nn.ModuleList([preprocess, backbone, nn.ModuleDict(heads)]).to(device).eval()

    def compute(images: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = backbone(preprocess(images.to(device, non_blocking=True)))
        return {key: head(hidden) for key, head in heads.items()} | {"backbone": hidden}

    names = (*heads, "backbone")
    return Encoder(name, compute, fingerprint=weights_hash(modules), feature_names=names, **about)


def weights_hash(module: nn.Module) -> str:
    """sha256 over names, shapes and values of all parameters and buffers, saved or not."""
    digest = hashlib.sha256()
    for key, tensor in [*module.named_parameters(), *module.named_buffers()]:
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def pick_device(device: str) -> torch.device:
    """``"auto"`` is CUDA where there is one, else the CPU.

    Raises:
        InputError: the device does not exist here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"Unknown device {device!r}: use auto, cpu, cuda or cuda:0.") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device={device} was asked for, and torch sees no CUDA device here. Use device=cpu.")
    return chosen
