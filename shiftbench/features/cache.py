"""Features on disk, named by everything they depend on, so that no image is encoded twice.

An entry is two files: ``KEY.npy``, float32 (N, D), read through a memory map, and ``KEY.json``, what it is and its
sha256. The description is written last: an array without a description does not count. An array that does not match its
sha256 is removed and computed anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shiftbench.errors import InputError
from shiftbench.records import atomic_path, sha256, write_text
from shiftbench.runtime.compat import NUMPY_HEADERS
from shiftbench.runtime.console import say
from shiftbench.runtime.digests import cache_root

RESERVE = 2**30  # bytes of the disk that always stay free


@dataclass(frozen=True)
class Cached:
    """One entry of the cache.

    Attributes:
        key: its name.
        bytes: its size on disk.
        used: when it was last read or written, seconds since 1970.
        about: what it holds: encoder, feature, data, condition.
    """

    key: str
    bytes: int
    used: float
    about: Mapping[str, Any]


class FeatureCache:
    """A folder of features.

    Args:
        folder: where; made when something is stored.
        fresh: load nothing, so that everything is stored anew.

    Raises:
        InputError: the folder exists and cannot be written.
    """

    def __init__(self, folder: Path, fresh: bool = False) -> None:
        self.folder = folder
        self._fresh = fresh
        above = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise InputError(
                f"The cache {str(folder)!r} cannot be written: name another with cache=DIR, or cache=null."
            )

    def load(self, key: str) -> np.ndarray | None:
        """Read-only float32 (N, D), or None where there is none. A damaged entry is removed, with a message."""
        array, description = self._files(key)
        if self._fresh:
            return None
        try:
            about = json.loads(description.read_text(encoding="utf-8"))
            whole = about["sha256"] == sha256(array)
            with NUMPY_HEADERS:
                features: np.ndarray | None = np.load(array, mmap_mode="r", allow_pickle=False) if whole else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            features = None
        if features is None:
            say(f"Damaged features in the cache ({array.name}) are computed anew")
            self._remove(key)
            return None
        os.utime(description)
        return features

    @contextmanager
    def store(self, key: str, shape: tuple[int, int], about: Mapping[str, Any]) -> Iterator[np.ndarray | None]:
        """Yield a float32 array of that shape to fill; it becomes an entry when the block ends without an error.

        Yields None where the disk is too full.
        """
        array, description = self._files(key)
        self.folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self.folder).free < 4 * shape[0] * shape[1] + RESERVE:
            yield None
            return
        with atomic_path(array) as temporary:
            filled = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
            yield filled
            filled.flush()
            digest = sha256(temporary)
        write_text(description, json.dumps({**about, "shape": list(shape), "sha256": digest}, sort_keys=True) + "\n")

    def entries(self) -> list[Cached]:
        """All entries, the least recently used first."""
        entries = []
        for description in self.folder.glob("*.json"):
            array, _ = self._files(description.stem)
            try:
                about = json.loads(description.read_text(encoding="utf-8"))
                entries.append(Cached(description.stem, array.stat().st_size, description.stat().st_mtime, about))
            except (OSError, ValueError):
                continue
        return sorted(entries, key=lambda entry: (entry.used, entry.key))

    def prune(self, *, keep_bytes: int = 0, older_than_days: float = 0.0) -> list[Cached]:
        """Remove the least recently used entries, and what interrupted writes left behind.

        Args:
            keep_bytes: stop when no more than this is left; 0 removes all.
            older_than_days: keep the entries that were used within so many days.

        Returns:
            What was removed.
        """
        entries, removed, latest = self.entries(), [], time.time() - 86400 * older_than_days
        left = sum(entry.bytes for entry in entries)
        for entry in entries:
            if left > keep_bytes and entry.used <= latest:
                self._remove(entry.key)
                removed.append(entry)
                left -= entry.bytes
        known = {entry.key for entry in self.entries()}
        for stray in self.folder.glob(".*") if self.folder.is_dir() else ():
            if stray.stat().st_mtime < time.time() - 86400:  # no write takes a day
                stray.unlink(missing_ok=True)
        for array in self.folder.glob("*.npy"):
            if array.stem not in known and array.stat().st_mtime < time.time() - 86400:
                array.unlink(missing_ok=True)
        return removed

    def _files(self, key: str) -> tuple[Path, Path]:
        return self.folder / f"{key}.npy", self.folder / f"{key}.json"

    def _remove(self, key: str) -> None:
        for file in reversed(self._files(key)):
            file.unlink(missing_ok=True)


def cache_folder(setting: str | Path | None) -> Path | None:
    """Where the cache is: "auto" takes $SHIFTBENCH_CACHE, else the user's cache folder; None for no cache."""
    if setting is None:
        return None
    if str(setting) != "auto":
        return Path(setting).expanduser()
    return cache_root() / "features"


def content_key(parts: Any) -> str:
    """A name that follows from plain values: 32 hexadecimal digits of the sha256 of their JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
