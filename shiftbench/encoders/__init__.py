"""Encoders: ours, anyone's checkpoint, and the floors that every comparison needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from shiftbench.encoders.base import Encoder, pick_device
from shiftbench.errors import InputError
from shiftbench.registry import ENCODERS

__all__ = ["Encoder", "load_encoder"]


def load_encoder(uri: str, *, device: str = "auto", **options: Any) -> Encoder:
    """Load an encoder: uint8 (N, 3, H, W) -> float32 (N, D).

    Args:
        uri: a run folder, a state dict file, ``package.module:callable``, ``pixels`` or ``random:BACKBONE``; options
            may ride on it: ``weights.pt?arch=resnet18&norm=imagenet``.
        device: "auto", "cpu", "cuda", "cuda:1".
        options: what that source takes, as in the URI.

    Raises:
        InputError: there is no such checkpoint, it is not one, it does not fit, or an option is unknown.
    """
    location, _, query = uri.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True)) | options
    source, _, rest = location.partition(":")
    if source in ENCODERS and source not in ("file", "python"):
        return _call(source, rest, device, options)
    if Path(location).exists() or ":" not in location:
        return _call("file", location, device, options)
    return _call("python", location, device, options)


def _call(source: str, location: str, device: str, options: dict[str, Any]) -> Encoder:
    try:
        return ENCODERS.load(source)(location, device=pick_device(device), **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise InputError(f"Encoder {location or source!r} takes no such option ({error}).") from error
