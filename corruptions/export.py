"""Corrupted sets on disk, in the layouts in which CIFAR-10-C and ImageNet-C are distributed."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import shiftbench
from shiftbench.corruptions.core import SEVERITIES, corrupt, corruptions
from shiftbench.corruptions.severity import resolve_table
from shiftbench.errors import InputError, unknown
from shiftbench.registry import CORRUPTIONS
from shiftbench.runtime.parallel import parallel_map

LAYOUTS = ("cifar", "imagefolder")
_CHUNK = 250


def write_set(
    folder: str | Path,
    images: Tensor | Iterable[Tensor],
    labels: Sequence[int] | Tensor | np.ndarray,
    *,
    layout: str = "cifar",
    names: Sequence[str] | None = None,
    table: str = "auto",
    seed: int = 0,
    classes: Sequence[str] | None = None,
    filenames: Sequence[str] | None = None,
    workers: int = 1,
    advance: Callable[[int], object] | None = None,
) -> dict[str, Any]:
    """Write the corrupted versions of a data set, streaming.

    ``cifar``: ``NAME.npy``, uint8 (5 * N, H, W, C), severity 1 first, and ``labels.npy`` with the labels five times.
    ``imagefolder``: ``NAME/SEVERITY/CLASS/FILE.JPEG``, JPEG of quality 85, as in ImageNet-C.
    ``manifest.json`` holds the settings and the sha256 of every file, or of every severity's folder.

    A file (or severity's folder) appears under its name when it is complete. After an interruption, the same call writes
    what is missing, with the same bytes; where all is there, it writes nothing.

    Args:
        folder: where to; made if missing.
        images: uint8 (N, C, H, W), or chunks of it that can be iterated over more than once; all of the same size.
        labels: the N labels, integers from 0.
        layout: "cifar" or "imagefolder".
        names: which corruptions; the 15 common ones if not given.
        table: the set whose severity constants are used, see :func:`resolve_table`.
        seed: of the randomness.
        classes: for "imagefolder", the folder name of each label; the label itself if not given.
        filenames: for "imagefolder", the file name of each image without ending; its index if not given.
        workers: threads that write files in parallel; each holds one chunk.
        advance: called with the number of images just done, of 5 * N per corruption.

    Returns:
        The manifest.

    Raises:
        InputError: an argument that cannot be used, or a folder that holds a set with other settings.

    Examples:
        >>> images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
        >>> list(write_set("zeros-c", images, [0, 1], names=["brightness"])["files"])
        ['brightness.npy', 'labels.npy']
        >>> np.load("zeros-c/brightness.npy").shape
        (10, 32, 32, 3)
    """
    if layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS)
    names = list(corruptions("common") if names is None else names)
    for name in names:
        CORRUPTIONS.load(name)
    job = _Job(Path(folder), images, np.asarray(labels), seed, table, classes, filenames, advance or (lambda _: None))
    manifest = _Manifest(job, layout)
    if layout == "cifar":
        manifest.add("labels.npy", job.write_labels, 0)
    parallel_map(lambda unit: manifest.add(*unit), job.units(layout, names), workers)
    return manifest.content


@dataclass
class _Job:
    """What to write, and how each unit of it is written."""

    folder: Path
    images: Tensor | Iterable[Tensor]
    labels: np.ndarray
    seed: int
    table: str
    classes: Sequence[str] | None
    filenames: Sequence[str] | None
    advance: Callable[[int], object]
    shape: tuple[int, ...] = field(init=False)
    source: str = field(init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.images, Tensor) and iter(self.images) is self.images:
            raise InputError("images must be iterable more than once (a tensor or a list), not a generator.")
        if self.labels.ndim != 1 or not np.issubdtype(self.labels.dtype, np.integer) or self.labels.min(initial=0) < 0:
            raise InputError(f"labels must be integers from 0, ({len(self.labels)},), not {self.labels.dtype}.")
        for key, given, needed in (
            ("classes", self.classes, self.labels.max(initial=-1) + 1),
            ("filenames", self.filenames, len(self.labels)),
        ):
            if given is not None and len(given) < needed:
                raise InputError(f"{key} must have {needed} entries, not {len(given)}.")
        first = next((chunk for _, chunk in self.chunks()), None)
        if first is None:
            raise InputError("images must hold at least one image.")
        self.shape = tuple(first.shape[1:])
        self.table = resolve_table(self.table, (first.shape[2], first.shape[3]))
        digest = hashlib.sha256(str((self.shape, len(self.labels))).encode())
        digest.update(self.labels.astype("<i8").tobytes())
        digest.update(first[:1].cpu().contiguous().numpy().tobytes())
        self.source = digest.hexdigest()

    def units(self, layout: str, names: Sequence[str]) -> list[tuple[str, Callable[[], dict[str, Any]], int]]:
        """What can be written in parallel: a file or folder, how it is written, and the number of its images."""
        if layout == "cifar":
            n = len(SEVERITIES) * len(self.labels)
            return [(f"{name}.npy", partial(self.write_array, name), n) for name in names]
        return [
            (f"{name}/{severity}", partial(self.write_folder, name, severity), len(self.labels))
            for name in names
            for severity in SEVERITIES
        ]

    def chunks(self) -> Iterator[tuple[int, Tensor]]:
        """Pairs of the index of the first image and some images."""
        start = 0
        for chunk in self.images.split(_CHUNK) if isinstance(self.images, Tensor) else self.images:
            yield start, chunk
            start += len(chunk)
        if start != len(self.labels):
            raise InputError(f"images and labels must be as many, not {start} and {len(self.labels)}.")

    def corrupted(self, name: str, severity: int) -> Iterator[tuple[int, np.ndarray]]:
        """Pairs of the index of the first image and corrupted images, (n, H, W, C)."""
        for start, chunk in self.chunks():
            if tuple(chunk.shape[1:]) != self.shape:
                raise InputError(f"images must all be {self.shape}, as the first, not {tuple(chunk.shape[1:])}.")
            index = torch.arange(start, start + len(chunk))
            result = corrupt(chunk, name, severity, table=self.table, seed=self.seed, index=index)
            yield start, result.permute(0, 2, 3, 1).contiguous().cpu().numpy()
            self.advance(len(chunk))

    def write_labels(self) -> dict[str, Any]:
        labels = self.labels.astype(np.uint8 if self.labels.max(initial=0) < 256 else np.int64)
        content = io.BytesIO()
        np.save(content, np.tile(labels, len(SEVERITIES)))
        return _write(self.folder / "labels.npy", [content.getvalue()])

    def write_array(self, name: str) -> dict[str, Any]:
        channels, height, width = self.shape
        shape = (len(SEVERITIES) * len(self.labels), height, width, channels)
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        chunks = (part.tobytes() for severity in SEVERITIES for _, part in self.corrupted(name, severity))
        return _write(self.folder / f"{name}.npy", _chained(header.getvalue(), chunks))

    def write_folder(self, name: str, severity: int) -> dict[str, Any]:
        final = self.folder / name / str(severity)
        unfinished = final.with_name(f"{severity}.partial")
        for stale in (unfinished, final):
            if stale.exists():
                shutil.rmtree(stale)
        digest = hashlib.sha256()
        for start, pictures in self.corrupted(name, severity):
            for i, picture in enumerate(pictures, start):
                path = unfinished / self.filename(i)
                path.parent.mkdir(parents=True, exist_ok=True)
                content = io.BytesIO()
                Image.fromarray(picture.squeeze()).save(content, "JPEG", quality=85, optimize=True)
                path.write_bytes(content.getvalue())
                digest.update(f"{self.filename(i)}\0".encode() + content.getvalue())
        unfinished.replace(final)
        return {"sha256": digest.hexdigest(), "images": len(self.labels)}

    def filename(self, index: int) -> str:
        label = int(self.labels[index])
        stem = f"{index:08d}" if self.filenames is None else self.filenames[index]
        return f"{label if self.classes is None else self.classes[label]}/{stem}.JPEG"


class _Manifest:
    """``manifest.json``: which units are complete. Its bytes do not depend on the order in which they were written."""

    def __init__(self, job: _Job, layout: str) -> None:
        self.job, self.lock = job, threading.Lock()
        self.path = job.folder / "manifest.json"
        settings = {
            "layout": layout,
            "table": job.table,
            "seed": job.seed,
            "version": shiftbench.__version__,
            "images": len(job.labels),
            "shape": list(job.shape),
            "source": job.source,
        }
        self.content: dict[str, Any] = {**settings, "files": {}}
        if self.path.exists():
            self.content = json.loads(self.path.read_text())
            for key, value in settings.items():
                if self.content.get(key) != value:
                    raise InputError(
                        f"{job.folder} holds a set with {key} {self.content.get(key)!r}, not {value!r}; "
                        "give another folder, or delete this one."
                    )
        job.folder.mkdir(parents=True, exist_ok=True)

    def add(self, unit: str, write: Callable[[], dict[str, Any]], images: int) -> None:
        """Write a unit of this many images and enter it in the manifest, unless it is there."""
        if self.has(unit):
            self.job.advance(images)
            return
        entry = write()
        with self.lock:
            self.content["files"] = dict(sorted({**self.content["files"], unit: entry}.items()))
            _write(self.path, [json.dumps(self.content, indent=1).encode() + b"\n"])

    def has(self, unit: str) -> bool:
        entry, path = self.content["files"].get(unit), self.job.folder / unit
        if entry is None or not path.exists():
            return False
        return path.stat().st_size == entry["bytes"] if path.is_file() else True


def _chained(first: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _write(path: Path, parts: Iterable[bytes]) -> dict[str, Any]:
    """Write a file under a temporary name, then give it its own."""
    unfinished = path.with_name(f"{path.name}.partial")
    digest, size = hashlib.sha256(), 0
    with unfinished.open("wb") as file:
        for part in parts:
            file.write(part)
            digest.update(part)
            size += len(part)
    unfinished.replace(path)
    return {"sha256": digest.hexdigest(), "bytes": size}
