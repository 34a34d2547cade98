"""A checkpoint that needs its pickle run becomes one that never does: the tensors alone, as safetensors."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from shiftbench.encoders.reading import WouldRunError, flatten, read_tensors
from shiftbench.errors import InputError
from shiftbench.records import atomic_path


def convert(source: str | Path, target: str | Path, trust: bool = False) -> int:
    """Write the tensors of a checkpoint, and nothing else of it, as a safetensors file under their dotted paths.

    Where possible the file is read without running it. Otherwise, and only with ``trust``, its pickle is run, which can
    do anything that you can: do it once, for a file whose maker you trust, and keep the result.

    Args:
        source: a checkpoint file; a pickled ``torch.nn.Module`` counts as its state dict.
        target: the file to write, which does not exist yet; its name ends in .safetensors.
        trust: run the source's pickle where that is needed.

    Returns:
        How many tensors were written.

    Raises:
        InputError: the source is refused or damaged, holds no tensors, or the target cannot be written.

    Examples:
        >>> torch.save({"state_dict": {"weight": torch.ones(2)}}, "net.pt")
        >>> convert("net.pt", "net.safetensors")
        1
    """
    source, target = Path(source), Path(target)
    if target.suffix != ".safetensors":
        raise InputError(f"{str(target)!r}: the name of what is written must end in .safetensors.")
    if target.exists():
        raise InputError(f"{str(target)!r} is there already: name another file, or remove it.")
    if not source.exists():
        raise InputError(f"There is no file {str(source)!r} to convert.")
    try:
        tensors = read_tensors(source)
    except WouldRunError:
        if not trust:
            raise
        warnings.warn(
            f"Running the pickle in {source.name}, as --trust asks: it can do anything that you can.", stacklevel=2
        )
        tensors = flatten(_run_pickle(source))
    if not tensors:
        raise InputError(f"{source.name!r} holds no tensors, so there is nothing to write.")
    try:
        apart = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
        with atomic_path(target) as temporary:
            save_file(apart, temporary)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"Cannot write {str(target)!r}: {error}") from error
    return len(tensors)


def _run_pickle(source: Path) -> Any:
    """What the pickle makes, which may be anything; torch's own formats first, then a plain one."""
    try:
        with source.open("rb") as file:
            try:
                return torch.load(file, map_location="cpu", weights_only=False)
            except RuntimeError:
                file.seek(0)
                return pickle.load(file)
    except ModuleNotFoundError as error:
        raise InputError(f"{source.name!r} needs the package {error.name!r} to be read: install it first.") from error
    except Exception as error:  # a stranger's code may raise anything
        raise InputError(f"{source.name!r} fails when run: {type(error).__name__}: {error}") from error
