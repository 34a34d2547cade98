"""The typed records that travel between the parts: data sets, conditions of a shift, writes that never half-happen."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True)
class Split:
    """Images with or without labels.

    Attributes:
        images: uint8 (N, 3, H, W).
        labels: int64 (N,), class indices, or None where nobody labelled them.
    """

    images: torch.Tensor
    labels: np.ndarray[Any, Any] | None

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Dataset:
    """A data set with its two splits: clusters are fitted on ``train`` and scored on ``test``.

    Attributes:
        name: what results call it.
        classes: the names of the classes; empty when the images are unlabelled.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the pixels and labels of both splits."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            digest.update(str(tuple(split.images.shape)).encode())
            digest.update(split.images.contiguous().numpy().tobytes())
            if split.labels is not None:
                digest.update(split.labels.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, order=True)
class Condition:
    """One way in which the scored split differs from its clean pair.

    Attributes:
        shift: the registered shift it belongs to ("clean", "corruption").
        corruption: the corruption's name, empty for other shifts.
        severity: 1..5 for corruptions, 0 otherwise.
        table: the table of severity constants, empty for other shifts.
    """

    shift: str
    corruption: str = ""
    severity: int = 0
    table: str = ""

    @property
    def label(self) -> str:
        """A name fit for files and messages: ``clean``, ``fog-3``."""
        return f"{self.corruption}-{self.severity}" if self.corruption else self.shift


CLEAN = Condition("clean")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Write a file so that it is either whole or not there: yields a temporary name beside it, renamed on success."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def sha256(path: Path) -> str:
    """The hexadecimal sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
