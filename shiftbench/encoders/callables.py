"""Anyone's python callable as an encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch

from shiftbench.encoders.base import Encoder
from shiftbench.errors import InputError
from shiftbench.registry import import_target


def load_callable(location: str, *, device: torch.device) -> Encoder:
    """Use a python callable as it is: uint8 (N, 3, H, W) on the CPU -> (N, D).

    Args:
        location: ``package.module:attribute``, importable from where the command runs.
        device: not used; the callable decides.
    """
    function = import_target(location)
    if not callable(function):
        raise InputError(f"{location!r} is a {type(function).__name__}, not a callable images -> (N, D).")
    return wrap_callable(function, name=location)


def wrap_callable(function: Callable[[torch.Tensor], Any], name: str) -> Encoder:
    """An :class:`Encoder` around any callable uint8 (N, 3, H, W) -> (N, D) tensor or array.

    Its name is all that can be known of it, so that is its fingerprint.
    """

    def compute(images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"backbone": torch.as_tensor(function(images))}

    return Encoder(name, compute, fingerprint=hashlib.sha256(name.encode()).hexdigest())
