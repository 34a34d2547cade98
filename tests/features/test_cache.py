"""Features on disk: found again, never half-written, never believed when damaged."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from shiftbench.errors import InputError
from shiftbench.evaluation.partitions import Partitions
from shiftbench.features import cache as module
from shiftbench.features.cache import FeatureCache, cache_folder, content_key

FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path / "cache")


def put(cache, key="key", features=FEATURES, **about):
    with cache.store(key, features.shape, about) as array:
        array[:] = features


def test_what_is_stored_is_found(cache):
    assert cache.load("key") is None
    put(cache, encoder="e")
    found = cache.load("key")
    assert np.array_equal(found, FEATURES)
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable


def test_an_interrupted_write_leaves_nothing(cache):
    def interrupted():
        with cache.store("key", (4, 3), {}) as array:
            array[:2] = 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert cache.load("key") is None
    assert list(cache.folder.iterdir()) == []


@pytest.mark.parametrize("damage", [lambda b: b[:-5], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b""])
def test_damage_is_found_and_said(cache, damage, capsys):
    put(cache)
    file = cache.folder / "key.npy"
    file.write_bytes(damage(file.read_bytes()))
    assert cache.load("key") is None
    assert "Damaged" in capsys.readouterr().err
    assert not file.exists()


def test_a_damaged_description_counts_as_damage(cache):
    put(cache)
    (cache.folder / "key.json").write_text("{")
    assert cache.load("key") is None


def test_the_oldest_go_first(cache):
    for i, key in enumerate("abc"):
        put(cache, key)
        os.utime(cache.folder / f"{key}.json", (i, i))
    size = cache.entries()[0].bytes
    cache.load("a")  # used again, so it is now the youngest
    removed = cache.prune(keep_bytes=size)
    assert [entry.key for entry in removed] == ["b", "c"]
    assert cache.load("a") is not None
    assert [entry.key for entry in cache.prune(older_than_days=1)] == []
    assert [entry.key for entry in cache.prune()] == ["a"]


def test_what_interrupted_writes_left_goes_when_nobody_can_be_writing_it(cache):
    put(cache)
    files = {name: cache.folder / name for name in (".old", ".new", "old.npy", "new.npy")}
    for name, file in files.items():
        file.touch()
        age = 90_000 if "old" in name else 80_000  # a day has 86,400 seconds
        os.utime(file, (time.time() - age,) * 2)
    os.utime(cache.folder / "key.npy", (0, 0))
    assert cache.prune(older_than_days=1) == []
    assert {file.name for file in cache.folder.iterdir()} == {".new", "new.npy", "key.npy", "key.json"}
    assert cache.load("key") is not None


def test_a_full_disk_keeps_nothing(cache, monkeypatch):
    usage = module.shutil.disk_usage(".")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=module.RESERVE))
    with cache.store("key", (4, 3), {}) as array:
        assert array is None
    assert cache.entries() == []


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        FeatureCache(tmp_path / "file")
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(InputError, match="cannot be written"):
        FeatureCache(tmp_path / "closed" / "cache")


def test_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("SHIFTBENCH_CACHE", str(tmp_path))
    assert cache_folder("auto") == tmp_path / "features"
    assert cache_folder(None) is None
    assert cache_folder(tmp_path / "x") == tmp_path / "x"
    monkeypatch.delenv("SHIFTBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder("auto") == tmp_path / "xdg" / "shiftbench" / "features"


def test_keys_follow_from_content_alone():
    assert content_key({"a": 1, "b": [2]}) == content_key({"b": [2], "a": 1})
    assert content_key([1]) != content_key([2])


def test_headers_of_numpy_files_are_read_one_at_a_time(cache, tmp_path, monkeypatch):
    """Python 3.11 fails now and then where two threads parse at once."""
    put(cache)
    path = tmp_path / "one.npz"
    Partitions.failed("key", "no reason").save(path)
    reading, most, load = [], [], np.load

    def watched(*given, **options):
        reading.append(1)
        most.append(len(reading))
        time.sleep(0.002)
        try:
            return load(*given, **options)
        finally:
            reading.pop()

    monkeypatch.setattr(np, "load", watched)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda one: one(), 8 * [lambda: cache.load("key"), lambda: Partitions.load(path)]))
    assert all(one is not None for one in found)
    assert max(most) == 1
