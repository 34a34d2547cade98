"""Anyone's python callable as an encoder."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import torch
from torch import nn

from shiftbench.encoders.base import Encoder
from shiftbench.errors import InputError
from shiftbench.runtime.code import code_digest
from shiftbench.runtime.imports import import_typed

ImageFunction = Callable[[torch.Tensor], Any]
"""uint8 (N, 3, H, W) on the CPU -> (N, D), a tensor or an array."""


def load_callable(location: str, *, device: torch.device, version: str = "") -> Encoder:
    """Use a python callable as it is: uint8 (N, 3, H, W) on the CPU -> (N, D).

    Args:
        location: ``package.module:attribute``, importable from where the command runs.
        device: not used; the callable decides.
        version: see :func:`wrap_callable`.

    Examples:
        >>> from pathlib import Path
        >>> _ = Path("channel_means.py").write_text("def means(images): return images.float().mean((2, 3))")
        >>> encoder = load_callable("channel_means:means", device=torch.device("cpu"))
        >>> encoder(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
        tensor([[0., 0., 0.]])
    """
    function = import_typed(location)
    if not callable(function):
        raise InputError(f"{location!r} is a {type(function).__name__}, not a callable images -> (N, D).")
    return wrap_callable(function, name=location, version=version)


def wrap_callable(function: ImageFunction, name: str = "", version: str = "") -> Encoder:
    """An :class:`Encoder` around any callable uint8 (N, 3, H, W) -> (N, D) tensor or array.

    Its identity is its code with all that it refers to and, of a torch module, its weights
    (:func:`shiftbench.runtime.code.code_digest`). Where that cannot be known, as of a lambda or of code that reads files,
    its features are computed anew in every call.

    Args:
        function: a torch module computes in evaluation mode, on a copy: the caller's module stays as it is.
        name: what tables call it; without it, the function's own name.
        version: the caller's word that nothing changes as long as this stays the same. It takes the place of the identity.

    Raises:
        InputError: a torch module that cannot be copied.

    Examples:
        >>> encoder = wrap_callable(lambda images: images.float().mean((2, 3)), name="means")
        >>> encoder(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)), encoder.traceable
        (tensor([[0., 0., 0.]]), False)
    """
    name = name or getattr(function, "__name__", "") or type(function).__name__
    known = hashlib.sha256(f"{name}\n{version}".encode()).hexdigest() if version else code_digest(function)
    compute = _frozen(function) if isinstance(function, nn.Module) else function

    def features(images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"backbone": torch.as_tensor(compute(images))}

    encoder = Encoder(name, features, fingerprint=known or uuid4().hex)
    encoder.traceable = known is not None
    return encoder


def _frozen(network: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(network).eval()
    except Exception as error:  # a stranger's module may refuse in any way
        raise InputError(
            f"{type(network).__name__} cannot be copied ({type(error).__name__}: {error}), and evaluating it could change "
            "it: give a function that calls it."
        ) from error
