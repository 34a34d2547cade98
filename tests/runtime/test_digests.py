"""A file's digest is that of its bytes, whatever its name, size and times say."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from shiftbench.errors import InputError
from shiftbench.runtime import digests
from shiftbench.runtime.digests import file_digests


@pytest.fixture
def memory(tmp_path):
    return tmp_path / "memory.sqlite"


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{i}.bin" for i in range(3)]
    for i, path in enumerate(paths):
        path.write_bytes(bytes([i]) * 1000)
        age(path)
    return paths


def age(path, seconds=60):
    """Make a file look as if it had been at rest."""
    then = time.time_ns() - seconds * 10**9
    os.utime(path, ns=(then, then))


@pytest.fixture
def rested(monkeypatch):
    """The change time cannot be set back; a test does not wait for it."""
    monkeypatch.setattr(digests, "AT_REST_NS", 0)


@pytest.fixture
def read(monkeypatch):
    """The files whose bytes were read."""
    seen, plain = [], digests._digest

    def watched(path):
        seen.append(Path(path).name)
        return plain(path)

    monkeypatch.setattr(digests, "_digest", watched)
    return seen


def test_digests_are_sha256(files, memory):
    assert file_digests(files, memory) == [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


def test_what_is_known_is_read_once(files, memory, read, rested):
    first = file_digests(files, memory)
    assert len(read) == 3
    assert file_digests(files, memory) == first
    assert len(read) == 3


def test_what_changed_just_now_is_read_again(files, memory, read):
    """Written twice within a tick of the clock, a file shows no difference."""
    file_digests(files, memory)
    file_digests(files, memory)
    assert len(read) == 6


@pytest.mark.parametrize("change", ["content", "content and time set back", "replaced", "longer"])
def test_other_bytes_are_seen(files, memory, rested, change):
    before = file_digests(files, memory)
    status = files[1].stat()
    if change == "replaced":
        other = files[1].with_name("other")
        other.write_bytes(b"x" * 1000)
        os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
        other.replace(files[1])
    else:
        files[1].write_bytes(b"x" * (1001 if change == "longer" else 1000))
        if change != "content":
            os.utime(files[1], ns=(status.st_atime_ns, status.st_mtime_ns))
    after = file_digests(files, memory)
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, True]


def test_a_name_is_no_identity(files, memory, rested):
    before = file_digests(files, memory)
    files[0].rename(files[0].with_name("elsewhere"))
    assert file_digests([files[0].with_name("elsewhere")], memory) == before[:1]


@pytest.mark.parametrize("content", [b"", b"no database at all", os.urandom(5000)])
def test_a_damaged_memory_is_none(files, memory, content, rested):
    expected = file_digests(files, memory.with_name("other"))
    memory.write_bytes(content)
    assert file_digests(files, memory) == expected


def test_a_memory_that_cannot_be_written_is_none(files, tmp_path):
    (tmp_path / "file").touch()
    assert len(file_digests(files, tmp_path / "file" / "memory")) == 3


def test_a_file_that_is_not_there_is_named(tmp_path, memory):
    with pytest.raises(InputError, match="nowhere"):
        file_digests([tmp_path / "nowhere"], memory)


def test_many_files(tmp_path, memory, rested, read):
    paths = [tmp_path / f"{i:04}" for i in range(1203)]
    for path in paths:
        path.write_text(path.name)
    first = file_digests(paths, memory)
    assert len(set(first)) == 1203
    assert file_digests(paths[::-1], memory) == first[::-1]
    assert len(read) == 1203
