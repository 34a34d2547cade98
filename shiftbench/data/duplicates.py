"""Images that occur twice: they are reported, never refused."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import numpy as np

from shiftbench.images import File
from shiftbench.records import sha256
from shiftbench.runtime.console import say

TAIL = 4096  # bytes at the end of a file, which tell most files of one size apart


def warn(name: str, train: Sequence[Hashable], test: Sequence[Hashable]) -> None:
    """Say how many images are copies within their split, and how many test images are also in train.

    Args:
        name: of the data set.
        train, test: a value for each image, equal for equal images.
    """
    copies = sum(len(part) - len(set(part)) for part in (train, test))
    fitted = set(train)
    leaked = sum(image in fitted for image in test)
    if copies:
        say(f"{name}: {copies:,} of {len(train) + len(test):,} images are copies of others in their split.")
    if leaked:
        say(f"{name}: {leaked:,} of {len(test):,} test images are also in train: scores on them are too good.")


def of_pixels(images: np.ndarray) -> list[Hashable]:
    """A value for each image of uint8 (N, ...), equal where all pixels are equal."""
    return [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]


def of_files(files: Sequence[File]) -> list[Hashable]:
    """A value for each file, equal where all bytes are equal; values of two calls do not compare.

    Only files with the same size and the same last bytes are read as a whole.
    """
    keys: list[tuple[Hashable, ...]] = [(Path(file).stat().st_size,) for file in files]
    steps: tuple[Callable[[File], bytes | str], ...] = (_tail, _sha256)
    for look in steps:
        count = Counter(keys)
        keys = [(*key, look(file)) if count[key] > 1 else key for key, file in zip(keys, files, strict=True)]
    return list(keys)


def _tail(file: File) -> bytes:
    with Path(file).open("rb") as opened:
        opened.seek(-min(TAIL, Path(file).stat().st_size), os.SEEK_END)
        return opened.read()


def _sha256(file: File) -> str:
    return sha256(Path(file))
