"""Anyone's python callable as an encoder."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shiftbench.encoders.base import Encoder, weights_hash
from shiftbench.errors import InputError
from shiftbench.registry import import_typed


def load_callable(location: str, *, device: torch.device) -> Encoder:
    """Use a python callable as it is: uint8 (N, 3, H, W) on the CPU -> (N, D).

    Args:
        location: ``package.module:attribute``, importable from where the command runs.
        device: not used; the callable decides.

    Examples:
        >>> _ = Path("channel_means.py").write_text("def means(images): return images.float().mean((2, 3))")
        >>> encoder = load_callable("channel_means:means", device=torch.device("cpu"))
        >>> encoder(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
        tensor([[0., 0., 0.]])
    """
    function = import_typed(location)
    if not callable(function):
        raise InputError(f"{location!r} is a {type(function).__name__}, not a callable images -> (N, D).")
    return wrap_callable(function, name=location)


def wrap_callable(function: Callable[[torch.Tensor], Any], name: str) -> Encoder:
    """An :class:`Encoder` around any callable uint8 (N, 3, H, W) -> (N, D) tensor or array.

    Its fingerprint is made of its name, its source file and, for a torch module, its weights. What else it depends on
    cannot be known, so its features are never taken from an earlier evaluation.

    Examples:
        >>> encoder = wrap_callable(lambda images: images.float().mean((2, 3)), name="means")
        >>> encoder(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)), encoder.traceable
        (tensor([[0., 0., 0.]]), False)
    """

    def compute(images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"backbone": torch.as_tensor(function(images))}

    encoder = Encoder(name, compute, fingerprint=hashlib.sha256(_known(function, name)).hexdigest())
    encoder.traceable = False
    return encoder


def _known(function: Callable[..., Any], name: str) -> bytes:
    known = name.encode()
    try:
        source = inspect.getsourcefile(function if inspect.isroutine(function) else type(function))
        known += Path(source).read_bytes() if source else b""
    except (TypeError, OSError):  # built in, or typed into an interpreter
        pass
    return known + (weights_hash(function).encode() if isinstance(function, nn.Module) else b"")
