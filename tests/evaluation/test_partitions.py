"""What is kept of a task is read as it was written, and what cannot be read is not there."""

from dataclasses import fields

import numpy as np
import pytest

from shiftbench.evaluation.partitions import Partitions

RNG = np.random.default_rng(0)
KEPT = Partitions(
    key="abc",
    protocols=("frozen", "refit"),
    ks=np.array([3, 2]),
    labels=RNG.integers(-1, 3, size=(2, 4, 9)).astype(np.int16),
    scores={"acc": RNG.random((2, 4)), "ari": np.full((2, 4), np.nan)},
    chance={"acc": RNG.random((2, 4))},
    replicates={"acc": RNG.random((2, 7)).astype(np.float32)},
    recalls=RNG.random((2, 4, 3)),
    note="fitted to 5 of 9 images",
)
FAILED = Partitions.failed("abc", "no\n  memory")


@pytest.mark.parametrize("partitions", [KEPT, FAILED], ids=["kept", "failed"])
def test_what_is_saved_is_loaded(partitions, tmp_path):
    partitions.save(tmp_path / "p.npz")
    loaded = Partitions.load(tmp_path / "p.npz")
    for field in fields(Partitions):
        np.testing.assert_equal(getattr(loaded, field.name), getattr(partitions, field.name))
    assert loaded.labels.dtype == np.int16
    assert loaded.ok == partitions.ok


def test_a_failure_is_one_line_and_has_no_partitions():
    assert not FAILED.ok
    assert FAILED.reason == "no memory"
    assert FAILED.labels.shape == FAILED.recalls.shape == (0, 0, 0)
    assert len(FAILED.protocols) == len(FAILED.ks) == 0
    assert len(Partitions.failed("abc", "very " * 1000).reason) == 300
    assert Partitions.failed("abc", " \n").reason == "unknown failure"


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[:-30], lambda b: b"no zip", lambda b: b[30:]])
def test_what_is_damaged_or_missing_is_not_there(tmp_path, damage):
    assert Partitions.load(tmp_path / "p.npz") is None
    KEPT.save(tmp_path / "p.npz")
    (tmp_path / "p.npz").write_bytes(damage((tmp_path / "p.npz").read_bytes()))
    assert Partitions.load(tmp_path / "p.npz") is None
