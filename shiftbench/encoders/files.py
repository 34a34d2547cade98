"""Checkpoints on disk: a run folder of ours, or a stranger's file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from shiftbench.encoders.base import Encoder
from shiftbench.encoders.run_folder import load_run
from shiftbench.encoders.state_dict import load_state_dict
from shiftbench.errors import InputError

CHECKPOINT_SUFFIXES = (".pt", ".pth", ".th", ".ckpt", ".tar", ".bin", ".torch", ".safetensors")


def load(location: str, *, device: torch.device, **options: Any) -> Encoder:
    """Load a run folder of ours, or a state dict file.

    Args:
        location: its path.
        device: where the encoder runs.
        options: those of :func:`~shiftbench.encoders.run_folder.load_run` or
            :func:`~shiftbench.encoders.state_dict.load_state_dict`.

    Raises:
        InputError: no such file, no checkpoint, an unfinished run, or weights that do not fit the architecture.

    Examples:
        >>> from shiftbench.encoders.cifar_resnet import resnet8
        >>> torch.save(resnet8().state_dict(), "weights.pt")
        >>> load("weights.pt", device=torch.device("cpu"), norm="half").origin["backbone"]
        'resnet8'
    """
    path = Path(location)
    if path.is_dir():
        return load_run(path, device=device, **options)
    if not path.exists():
        raise InputError(
            f"No checkpoint {location!r}: give a run folder, a state dict file ({', '.join(CHECKPOINT_SUFFIXES)}), "
            "package.module:callable, pixels or random:BACKBONE."
        )
    if path.suffix not in CHECKPOINT_SUFFIXES:
        raise InputError(
            f"{location!r} is not a checkpoint: its name ends in none of {', '.join(CHECKPOINT_SUFFIXES)}."
        )
    return load_state_dict(path, device=device, **options)
