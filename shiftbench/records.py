"""The records that the parts exchange: data sets, conditions, samples and shifts; and atomic writes."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch

    from shiftbench.images import Images


@dataclass(frozen=True)
class Split:
    """Images with or without labels.

    Attributes:
        images: uint8 (N, 3, H, W), in memory or as files that are decoded when asked for.
        labels: int64 (N,), class indices, or None without labels.
    """

    images: Images
    labels: np.ndarray[Any, Any] | None

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Dataset:
    """A data set with its two splits: clusters are fitted on ``train`` and scored on ``test``.

    Attributes:
        name: what results call it.
        classes: the names of the classes; empty when the images are unlabelled.
        ids: the ids by which shifts know the classes (ImageNet's wnids), in the same order; empty if they use the names.
        root: the folder in which its files and those of its shifts are looked for; None for $SHIFTBENCH_DATA.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    ids: tuple[str, ...] = ()
    root: str | None = None

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the images and labels of both splits; of images in files the bytes of the files."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            digest.update(images_digest(split.images))
            if split.labels is not None:
                digest.update(split.labels.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, order=True)
class Condition:
    """One way in which the scored images differ from their clean pair.

    Attributes:
        shift: the shift it belongs to ("clean", "corruption", "cifar10.1_v6").
        corruption: the corruption's name, empty for other shifts.
        severity: 1..5 for shifts that come in degrees, 0 otherwise.
        table: the table of severity constants, empty for other shifts.
        split: the clean images that it is compared with: "test", or "test[SHIFT]" for the part of the test split whose classes
            SHIFT has too.
    """

    shift: str
    corruption: str = ""
    severity: int = 0
    table: str = ""
    split: str = "test"

    @property
    def label(self) -> str:
        """A name fit for files and messages: ``clean``, ``fog-3``, ``cifar10_c-fog-3``, ``clean[imagenet_r]``."""
        name = self.corruption if self.shift == "corruption" else "-".join(filter(None, (self.shift, self.corruption)))
        degree = f"-{self.severity}" if self.severity else ""
        return f"{name}{degree}" + (self.split.removeprefix("test") if self.shift == "clean" else "")

    @property
    def clean(self) -> Condition:
        """Its clean pair: the test images of the same classes."""
        return Condition("clean", split=self.split)


CLEAN = Condition("clean")


@dataclass(frozen=True)
class Sample:
    """The images of one condition, with labels in the data set's own class indices.

    Attributes:
        labels: int64 (N,), or None without labels.
        rows: int64 (N,), the test image that each image is a version of; None for other pictures.
        images: uint8 (N, 3, H, W); None for the test images at ``rows`` themselves.
        change: what happens to a chunk of images before it is encoded: uint8 (n, 3, H, W) and int64 (n,), their
            positions in the test split (from which randomness is drawn), to uint8 (n, 3, H, W).
        digest: of the images, where it is known better than by reading them (:attr:`content`).
    """

    labels: np.ndarray[Any, Any] | None
    rows: np.ndarray[Any, Any] | None
    images: Images | None = None
    change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None
    digest: str = ""

    @property
    def n(self) -> int:
        """The number of images."""
        return len(self.images) if self.images is not None else len(self.rows)  # type: ignore[arg-type]  # one of them

    @cached_property
    def content(self) -> str:
        """A digest of the images; empty where they are test images, which the data set's fingerprint knows."""
        return self.digest or ("" if self.images is None else images_digest(self.images).hex())


@dataclass(frozen=True)
class Skipped:
    """A condition that cannot be scored, and why; it becomes a row with status "skipped"."""

    reason: str


@dataclass(frozen=True)
class Shift:
    """A way in which images differ from those the clusters were fitted on.

    Attributes:
        name: what results call it.
        kind: "clean", "corruption", "natural", "synthetic" or "own".
        paired: whether each image is a version of one test image, so that partitions compare without labels.
        data: the data sets it is a shift of; empty for any.
        source: where its images come from.
        citation: whom to cite, empty for none.
        samples: from (data set, name of the table of severity constants, seed) to its conditions. Missing files are noticed
            at once; images are loaded later, through the Sample.
    """

    name: str
    kind: str
    paired: bool
    samples: Callable[[Dataset, str, int], dict[Condition, Sample | Skipped]]
    data: tuple[str, ...] = ()
    source: str = ""
    citation: str = ""


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


def images_digest(images: Images) -> bytes:
    """sha256 over shape and pixels; of files, over shape and the bytes in them."""
    digest = hashlib.sha256(str(tuple(images.shape)).encode())
    of_files: str | None = getattr(images, "digest", None)
    digest.update(images.contiguous().numpy().tobytes() if of_files is None else of_files.encode())  # type: ignore[union-attr]
    return digest.digest()


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
