"""Digests of files by their bytes, and a memory of them, so that what has not changed is read once.

As in git's index, size and times are only ever a short cut to a digest that was made from content: it is taken where
size, modification time, change time and inode are those of the reading, and where the file was at rest for two seconds before
that, since a file that changes twice within a tick of its clock shows nothing of it.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

from shiftbench.errors import InputError

AT_REST_NS = 2_000_000_000  # the coarsest clock among file systems in use
_BATCH = 500  # files looked up at once
_BLOCK = 1 << 20

Stamp = tuple[int, int, int, int]
"""Size, modification and change time in nanoseconds, and inode."""


def cache_root() -> Path:
    """Where shiftbench keeps what it can compute again: $SHIFTBENCH_CACHE, else the user's cache folder.

    Examples:
        >>> isinstance(cache_root(), Path)
        True
    """
    home = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    return Path(os.environ.get("SHIFTBENCH_CACHE", home / "shiftbench")).expanduser()


def file_digests(files: Sequence[str | Path], memory: Path | None = None) -> list[str]:
    """The hexadecimal sha256 of each file's bytes.

    Args:
        files: their paths.
        memory: the database of digests that are known; None is ``digests.sqlite`` in :func:`cache_root`. Where it
            cannot be written or read, all files are read.

    Raises:
        InputError: a file is not there or cannot be read.

    Examples:
        >>> _ = Path("hello.txt").write_bytes(b"hello")
        >>> file_digests(["hello.txt"])[0][:16]
        '2cf24dba5fb0a30e'
    """
    paths = [os.path.abspath(file) for file in files]  # noqa: PTH100  # there may be millions
    with _opened(memory or cache_root() / "digests.sqlite") as known, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found: list[str] = []
        for start in range(0, len(paths), _BATCH):
            batch = paths[start : start + _BATCH]
            stamps = list(pool.map(_stamp, batch))
            remembered = known.look_up(batch)
            missing = [
                path for path, stamp in zip(batch, stamps, strict=True) if remembered.get(path, ((), ""))[0] != stamp
            ]
            begun = time.time_ns()
            fresh = dict(zip(missing, pool.map(_digest, missing), strict=True))
            known.keep(
                (path, stamp, fresh[path])
                for path, stamp in zip(batch, stamps, strict=True)
                if path in fresh and _at_rest(stamp, begun)
            )
            found += [fresh[path] if path in fresh else remembered[path][1] for path in batch]
    return found


def _at_rest(stamp: Stamp, begun: int) -> bool:
    return max(stamp[1], stamp[2]) + AT_REST_NS <= begun


def _stamp(path: str) -> Stamp:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError as error:
        raise InputError(f"Cannot read {path!r}: {error.strerror or error}.") from error
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise InputError(f"Cannot read {path!r}: {error.strerror or error}.") from error
    return digest.hexdigest()


class _Memory:
    """Digests by path; without a database it knows nothing and keeps nothing."""

    def __init__(self, database: sqlite3.Connection | None) -> None:
        self._database = database

    def look_up(self, paths: Sequence[str]) -> dict[str, tuple[Stamp, str]]:
        if self._database is None:
            return {}
        marks = ",".join("?" * len(paths))
        try:
            rows = self._database.execute(f"SELECT * FROM digests WHERE path IN ({marks})", paths).fetchall()
        except (sqlite3.Error, UnicodeError):
            return {}
        return {
            path: ((size, modified, changed, inode), digest) for path, size, modified, changed, inode, digest in rows
        }

    def keep(self, entries: Iterable[tuple[str, Stamp, str]]) -> None:
        if self._database is None:
            return
        rows = [(path, *stamp, digest) for path, stamp, digest in entries]
        try:
            with self._database:
                self._database.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?, ?)", rows)
        except (sqlite3.Error, UnicodeError):
            self._database = None  # full, locked for long, or damaged: files are read again next time


@contextmanager
def _opened(file: Path) -> Iterator[_Memory]:
    """The memory in a file, or one that knows nothing where the file cannot be used."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(file, timeout=5)
    except (OSError, sqlite3.Error):
        yield _Memory(None)
        return
    with closing(database):
        try:
            database.execute(
                "CREATE TABLE IF NOT EXISTS digests (path TEXT PRIMARY KEY, size INTEGER, modified INTEGER, "
                "changed INTEGER, inode INTEGER, digest TEXT) WITHOUT ROWID"
            )
        except sqlite3.Error:  # no database: somebody else's file, or a damaged one
            yield _Memory(None)
            return
        yield _Memory(database)
