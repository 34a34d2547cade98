"""Strangers' files, read without running any of them: what a file is, the tensors in it, or why it is refused."""

from __future__ import annotations

import argparse
import io
import pickle
import pickletools
import re
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from shiftbench.errors import InputError

HEADER_LIMIT = 16 << 20  # bytes of a safetensors header; that of a ViT-L is 50 kB
ENTRY_LIMIT = 100_000  # entries of a zip archive; torch writes an entry for each tensor
DEPTH_LIMIT = 100  # levels of dictionaries in dictionaries
ASIDE = re.compile(r"optimi[sz]er|^optim$|scheduler|scaler|callback|^loops$")  # what training keeps beside the weights
SEARCH_LIMIT = 64 << 20  # bytes of a refused pickle in which the reason is looked for
HARMLESS = ("torch", "torch._utils", "collections")
LEGACY_PICKLES = 5  # torch before 1.6 wrote so many, one behind the other
STEPS_LIMIT = 500_000  # of a pickle; that of a network with a thousand tensors has some 30,000
INFLATION_LIMIT = 4  # torch stores tensors uncompressed, so their bytes cannot be many times the file's
COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"7z\xbc\xaf": "7-zip",
    b"\x28\xb5\x2f\xfd": "zstd",
}
OTHER = {
    b"\x89HDF": "an HDF5 file (Keras)",
    b"\x93NUMPY": "a numpy array",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"%PDF": "a PDF",
    b"\x7fELF": "a program",
}


class WouldRunError(InputError):
    """A file that can only be read by running code that it holds."""


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint file by their dotted path: ``state_dict.module.conv1.weight``.

    A file is judged by its content, not by its suffix. Pickles are read with ``weights_only=True``.

    Raises:
        InputError: a file that is no checkpoint, is damaged, would run code, or would take far more memory than its size.

    Examples:
        >>> torch.save({"state_dict": {"weight": torch.ones(2)}, "epoch": 3}, "net.pt")
        >>> read_tensors(Path("net.pt"))
        {'state_dict.weight': tensor([1., 1.])}
    """
    tensors = flatten(read(path))
    if not tensors:
        raise InputError(f"{path.name!r} holds no tensors, so it is no state dict.")
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if claimed > INFLATION_LIMIT * path.stat().st_size + (1 << 20):
        raise InputError(
            f"{path.name!r} claims {claimed:,} bytes of tensors in a file of {path.stat().st_size:,}: refused."
        )
    return tensors


def read(path: Path) -> Any:
    """The content of a checkpoint file as its writer nested it: dictionaries, numbers, strings, tensors.

    Raises:
        InputError: as of :func:`read_tensors`.

    Examples:
        >>> torch.save({"epoch": 3}, "net.pt")
        >>> read(Path("net.pt"))
        {'epoch': 3}
    """
    if not path.is_file():
        raise InputError(f"{str(path)!r} is not a regular file.")
    with path.open("rb") as file:
        start = file.read(512)
    _refuse_what_is_no_checkpoint(path, start)
    if _is_safetensors(start):
        return _read_safetensors(path, start)
    if start.startswith(b"PK"):
        _check_zip(path)
    elif tarfile.is_tarfile(path):
        _check_tar(path)
    elif not start.startswith(b"\x80"):
        raise _damaged(path, "it does not begin like one")
    _check_pickle(path)
    return _unpickle(path)


def flatten(content: Any) -> dict[str, torch.Tensor]:
    """Tensors in nested dictionaries and modules by dotted path; optimisers and everything else are left out.

    Examples:
        >>> list(flatten({"model": {"weight": torch.ones(2)}, "optimizer": {"step": torch.ones(1)}}))
        ['model.weight']
    """
    tensors: dict[str, torch.Tensor] = {}
    seen: set[int] = set()  # a pickle can refer to the same dictionary a billion times

    def walk(item: Any, path: str, depth: int) -> None:
        if isinstance(item, torch.Tensor):
            tensors[path] = item
        elif isinstance(item, torch.nn.Module):
            walk(item.state_dict(), path, depth)
        elif isinstance(item, Mapping) and id(item) not in seen and depth < DEPTH_LIMIT:
            seen.add(id(item))
            for key, value in item.items():
                if isinstance(value, torch.Tensor) or not ASIDE.search(str(key)):
                    walk(value, f"{path}.{key}" if path else str(key), depth + 1)

    walk(content, "", 0)
    return tensors


def refused_global(path: Path) -> str | None:
    """The first thing that a pickle file would import besides tensors and plain containers, told without running it.

    Examples:
        >>> _ = Path("evil.pt").write_bytes(pickle.dumps(print))
        >>> refused_global(Path("evil.pt"))
        'builtins.print'
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                content = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
        else:
            with path.open("rb") as file:
                content = file.read(SEARCH_LIMIT)
        strings: list[str] = []
        for code, argument, _ in pickletools.genops(content):
            module, _, name = str(argument).partition(" ")
            if code.name == "STACK_GLOBAL" and len(strings) > 1:
                module, name = strings[-2:]
            if code.name in ("GLOBAL", "INST", "STACK_GLOBAL") and module not in HARMLESS:
                return f"{module}.{name}"
            if isinstance(argument, str) and "UNICODE" in code.name:
                strings.append(argument)
    except (StopIteration, ValueError, OSError, zipfile.BadZipFile):
        return None
    return None


def _refuse_what_is_no_checkpoint(path: Path, start: bytes) -> None:
    if not start:
        raise InputError(f"{path.name!r} is empty (0 bytes): the download or the copy failed.")
    if start.startswith(b"version https://git-lfs"):
        raise InputError(f"{path.name!r} is a git-lfs pointer, not the weights: run `git lfs pull` in its repository.")
    if re.match(rb"(\xef\xbb\xbf)?\s*(<!doctype|<html|<\?xml|<head)", start, re.IGNORECASE):
        raise InputError(f"{path.name!r} is a web page, not a checkpoint: download the file behind the link.")
    for magic, kind in COMPRESSED.items():
        if start.startswith(magic):
            raise InputError(f"{path.name!r} is a {kind} archive: unpack it and name the checkpoint inside.")
    for magic, kind in OTHER.items():
        if start.startswith(magic):
            raise InputError(f"{path.name!r} is {kind}, not a torch checkpoint.")
    if start.isascii() and not _is_safetensors(start) and not re.search(rb"[\x00-\x08\x0e-\x1f]", start):
        raise InputError(f"{path.name!r} is not a torch checkpoint: it is a text file ({start[:20].decode()!r}…).")


def _is_safetensors(start: bytes) -> bool:
    """Eight bytes of a length, then JSON. A small length ends in zeros, where zip and pickle files have none."""
    return start[8:9] == b"{" and (start[3:8] == bytes(5) or not start.startswith((b"PK", b"\x80")))


def _read_safetensors(path: Path, start: bytes) -> dict[str, torch.Tensor]:
    size, (header,) = path.stat().st_size, struct.unpack("<Q", start[:8])
    if header > min(HEADER_LIMIT, size - 8):
        raise InputError(f"{path.name!r} is refused: its safetensors header claims {header:,} bytes (file: {size:,}).")
    try:
        return load_file(path)
    except (SafetensorError, ValueError, OSError, RuntimeError, MemoryError, KeyError, AttributeError) as error:
        raise InputError(f"{path.name!r} is not a safetensors file, or is damaged ({error}).") from error


def _check_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise _damaged(path, f"its zip directory cannot be read: {error}") from error
    names = [entry.filename for entry in entries]
    for name in names:
        if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or re.match(r"[A-Za-z]:", name):
            raise InputError(f"{path.name!r} is refused: it holds a file named {name[:80]!r}, outside of itself.")
    unpacked, size = sum(entry.file_size for entry in entries), path.stat().st_size
    if unpacked > INFLATION_LIMIT * size + (1 << 20) or len(entries) > ENTRY_LIMIT:
        raise InputError(
            f"{path.name!r} is refused: {size:,} bytes that unpack to {unpacked:,} in {len(entries):,} files (a zip bomb)."
        )
    if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
        raise InputError(
            f"{path.name!r} is a TorchScript archive, which runs code: if you trust its maker, name it .pt and add "
            "?trust=true; or save its state_dict()."
        )
    if any(name.endswith("archive_format") or "/models/" in name for name in names):
        raise InputError(f"{path.name!r} is a torch.export archive: name it .pt2.")
    if not any(name.rpartition("/")[2] == "data.pkl" for name in names):
        holds = f"holding {names[0][:80]!r}" if names else "that is empty"
        raise InputError(f"{path.name!r} is a zip archive {holds}, not a torch checkpoint: unpack it first.")


def _check_pickle(path: Path) -> None:
    """Refuse a pickle of so many steps that reading it would take hours; counting them runs none."""
    steps = 0
    try:
        with _pickles(path) as file:
            for _ in range(LEGACY_PICKLES):
                for _ in islice(pickletools.genops(file), STEPS_LIMIT + 1 - steps):
                    steps += 1
    except (StopIteration, ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile):
        pass  # the end, or damage, which whoever reads it will tell
    if steps > STEPS_LIMIT:
        raise InputError(
            f"{path.name!r} is refused: it takes more than {STEPS_LIMIT:,} steps to read, ten times those of a checkpoint."
        )


def _pickles(path: Path) -> IO[bytes]:
    """The pickle of a zip archive, or those at the beginning of a file of before torch 1.6."""
    if not zipfile.is_zipfile(path):
        return path.open("rb")
    with zipfile.ZipFile(path) as archive:
        return io.BytesIO(archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl"))))


def _check_tar(path: Path) -> None:
    """torch wrote tar files until 0.1.10 (2017); any other tar file is an archive that holds something else."""
    with tarfile.open(path, mode="r:") as archive:
        names = [member.name for member, _ in zip(archive, range(ENTRY_LIMIT), strict=False)]
    if {"storages", "tensors", "pickle"} <= set(names):
        raise WouldRunError(
            f"{path.name!r} has the tar format of torch 0.1, which cannot be read without running its pickles. "
            f"{_convert_advice(path)}"
        )
    holds = f"holding {names[0][:80]!r}" if names else "that is empty"
    raise InputError(f"{path.name!r} is a tar archive {holds}: unpack it and name the checkpoint inside.")


def _unpickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings(), _plain_globals(), path.open("rb") as file:  # a path's suffix would count
            warnings.simplefilter("ignore")  # torch asks to report pickle protocols that it does not know
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        blocked = named.group(1) if named else refused_global(path)
        if blocked:
            raise WouldRunError(
                f"{path.name!r} wants to run {blocked} when loaded and is refused. {_convert_advice(path)}"
            ) from error
        raise _damaged(path, type(error).__name__) from error
    except Exception as error:  # a stranger's bytes may raise anything
        raise _damaged(path, type(error).__name__) from error


def _convert_advice(path: Path) -> str:
    return f"If you trust its maker: shiftbench convert {path.name} {path.name.split('.')[0]}.safetensors --trust"


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(f"{path.name!r} is not a torch checkpoint, or is damaged ({reason}).")


def _numpy_scalar(module: str) -> Callable[..., Any]:
    """numpy's rebuilder of scalars, under a name that it has in pickles; it runs no code of the file."""

    def scalar(dtype: Any, content: bytes = b"") -> Any:
        return np.frombuffer(content, dtype=dtype)[0] if isinstance(content, bytes) and not dtype.hasobject else None

    scalar.__module__, scalar.__qualname__ = module, "scalar"
    return scalar


def _plain_globals() -> AbstractContextManager[Any]:
    """What honest checkpoints also hold and what cannot run code: numpy scalars, parsed arguments."""
    kinds = [type(np.dtype(name)) for name in ("f8", "f4", "f2", "i8", "i4", "u1", "?")]
    scalars = [_numpy_scalar(module) for module in ("numpy.core.multiarray", "numpy._core.multiarray")]
    allow = getattr(torch.serialization, "safe_globals", None)  # torch 2.5 and later
    return allow([*scalars, np.dtype, *kinds, argparse.Namespace]) if allow else nullcontext()
