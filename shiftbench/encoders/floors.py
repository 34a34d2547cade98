"""What an encoder has to beat: the pixels themselves, and a network that has learned nothing."""

from __future__ import annotations

import hashlib

import torch

from shiftbench.encoders.backbones import build_backbone
from shiftbench.encoders.base import Encoder, Preprocess, module_encoder
from shiftbench.errors import InputError

DEFAULT_BACKBONE = "small_cnn"


def pixels(location: str, *, device: torch.device) -> Encoder:
    """Raw pixels: uint8 (N, 3, H, W) -> float32 (N, 3*H*W) on the 0..1 scale.

    Args:
        location: must be empty; pixels have no weights.
        device: unused, since nothing is computed.
    """
    if location:
        raise InputError(f"pixels takes nothing behind a colon, got {location!r}.")
    fingerprint = hashlib.sha256(b"pixels, 0..1, flattened").hexdigest()
    return Encoder("pixels", lambda images: {"backbone": images.flatten(1).float() / 255}, fingerprint=fingerprint)


def random(location: str, *, device: torch.device, seed: str | int = 0, norm: str = "half") -> Encoder:
    """An untrained backbone with its usual initialisation.

    Args:
        location: a backbone's name; empty takes the small CNN.
        device: where it runs.
        seed: of the initialisation.
        norm: input normalisation, a name of ``NORMS``.
    """
    from shiftbench.encoders.files import normalisation

    name = location or DEFAULT_BACKBONE
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed))
        backbone = build_backbone(name)
    origin = {"backbone": name, "seed": int(seed), "norm": norm}
    return module_encoder(f"random:{name}", backbone, Preprocess(*normalisation(norm)), device=device, origin=origin)
