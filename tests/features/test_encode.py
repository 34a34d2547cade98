"""Encoding: every row is its image's, whatever the batches, processes and neighbours; what is kept is found again."""

import sys

import numpy as np
import pytest
import torch

from shiftbench.encoders.base import Encoder
from shiftbench.errors import InputError
from shiftbench.features.cache import FeatureCache
from shiftbench.features.encode import encode
from shiftbench.records import Sample
from shiftbench.runtime import processes
from shiftbench.runtime.clock import Clock

CLEAN = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (23, 3, 4, 4)).astype(np.uint8))
ALL = Sample(labels=None, rows=np.arange(23))
ABOUT = {"condition": "clean"}


def means(images):
    """By hand: the channel means float32 (N, 3), and the means of the upper and lower halves (N, 2)."""
    pixels = images.to(torch.float32)
    return {"backbone": pixels.mean(dim=(2, 3)), "head": pixels.view(len(images), 3, 2, 8).mean(dim=(1, 3))}


class Counting:
    """The means, and how many images were encoded."""

    def __init__(self, fingerprint="means"):
        self.sizes = []
        self.encoder = Encoder("means", self.compute, fingerprint=fingerprint, feature_names=("backbone", "head"))

    def compute(self, images):
        self.sizes.append(len(images))
        return means(images)


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path / "cache")


def encoded(*encoders, sample=ALL, names=("backbone",), **options):
    slugs = {f"e{i}": encoder for i, encoder in enumerate(encoders)}
    return encode(slugs, dict.fromkeys(slugs, names), sample, CLEAN, **{"about": ABOUT} | options)


@pytest.mark.parametrize("batch_size", [1, 5, 23, 250])
def test_every_row_is_that_of_its_image(batch_size):
    counting = Counting()
    found = encoded(counting.encoder, names=("backbone", "head"), batch_size=batch_size)
    assert counting.sizes == [batch_size] * (23 // batch_size) + [23 % batch_size] * (23 % batch_size > 0)
    for name, expected in means(CLEAN).items():
        np.testing.assert_array_equal(found["e0", name], expected.numpy())
        assert found["e0", name].dtype == np.float32


def test_rows_name_the_images_and_other_pictures_stand_for_themselves():
    rows = np.array([7, 2, 2, 20])
    expected = means(CLEAN)["backbone"].numpy()
    found = encoded(Counting().encoder, sample=Sample(None, rows), batch_size=3)
    np.testing.assert_array_equal(found["e0", "backbone"], expected[rows])
    found = encoded(Counting().encoder, sample=Sample(None, None, images=CLEAN[5:14]), batch_size=4)
    np.testing.assert_array_equal(found["e0", "backbone"], expected[5:14])


def test_a_change_knows_the_positions_in_the_test_split():
    rows = np.array([3, 1, 22, 8, 8])

    def change(images, positions):
        return (images // 2) + positions[:, None, None, None].to(torch.uint8)

    expected = means(CLEAN[rows] // 2)["backbone"] + torch.from_numpy(rows)[:, None]
    for batch_size in (2, 9):
        found = encoded(Counting().encoder, sample=Sample(None, rows, change=change), batch_size=batch_size)
        np.testing.assert_allclose(found["e0", "backbone"], expected.numpy(), rtol=1e-6)
    # Of other pictures, the positions are their own.
    found = encoded(Counting().encoder, sample=Sample(None, None, images=CLEAN[rows], change=change))
    np.testing.assert_allclose(
        found["e0", "backbone"], means(CLEAN[rows] // 2)["backbone"] + np.arange(5)[:, None], rtol=1e-6
    )


def test_images_are_changed_once_for_all_encoders():
    changed = []

    def change(images, positions):
        changed.extend(positions.tolist())
        return images

    encoded(Counting("a").encoder, Counting("b").encoder, sample=Sample(None, np.arange(23), change=change))
    assert changed == list(range(23))


def test_what_was_kept_is_not_encoded_again(cache):
    first, second = Counting(), Counting()
    fresh = encoded(first.encoder, names=("backbone", "head"), cache=cache)
    kept = encoded(second.encoder, names=("backbone", "head"), cache=cache)
    assert second.sizes == []
    assert fresh.keys() == kept.keys()
    for pair, features in kept.items():
        assert isinstance(features, np.memmap)
        np.testing.assert_array_equal(features, fresh[pair])
    assert [entry.about["encoder"] for entry in cache.entries()] == ["means", "means"]
    assert {entry.about["feature"] for entry in cache.entries()} == {"backbone", "head"}
    assert all(entry.about["condition"] == "clean" for entry in cache.entries())


def test_only_what_is_missing_is_encoded(cache):
    encoded(Counting("a").encoder, cache=cache)
    old, new = Counting("a"), Counting("b")
    found = encoded(old.encoder, new.encoder, cache=cache)
    assert (old.sizes, new.sizes) == ([], [23])
    np.testing.assert_array_equal(found["e0", "backbone"], found["e1", "backbone"])


@pytest.mark.parametrize("change", ["fingerprint", "feature", "about", "code"])
def test_each_part_of_the_key_tells_features_apart(cache, monkeypatch, change):
    encoded(Counting().encoder, cache=cache)
    if change == "code":
        module = sys.modules[encode.__module__]
        monkeypatch.setattr(module, "FEATURES_VERSION", module.FEATURES_VERSION + 1)
    again = Counting("other" if change == "fingerprint" else "means")
    names = ("head",) if change == "feature" else ("backbone",)
    encoded(again.encoder, names=names, cache=cache, about={"condition": "fog"} if change == "about" else ABOUT)
    assert again.sizes == [23]


def test_what_a_fingerprint_does_not_tell_is_not_kept(cache):
    for _ in range(2):
        counting = Counting()
        counting.encoder.traceable = False
        encoded(counting.encoder, cache=cache)
        assert counting.sizes == [23]
    assert cache.entries() == []


def test_features_as_long_as_images_are_not_kept(cache):
    for dimensions, kept in ((3 * 4 * 4, 0), (3 * 4 * 4 - 1, 1)):
        encoder = Encoder("flat", lambda x, d=dimensions: {"backbone": x.flatten(1)[:, :d].float()}, fingerprint="flat")
        found = encoded(encoder, cache=cache)
        np.testing.assert_array_equal(found["e0", "backbone"], CLEAN.flatten(1)[:, :dimensions])
        assert len(cache.entries()) == kept


def test_a_failure_is_that_encoders_alone_and_nothing_of_it_is_kept(cache):
    calls = []

    def fails(images):
        calls.append(len(images))
        if len(calls) == 2:
            raise ValueError("no memory")
        return means(images)

    found = encoded(Encoder("bad", fails, fingerprint="bad"), Counting().encoder, batch_size=10, cache=cache)
    assert str(found["e0", "backbone"]) == "no memory"
    assert calls == [10, 10]  # and is not asked again
    np.testing.assert_array_equal(found["e1", "backbone"], means(CLEAN)["backbone"])
    assert [entry.about["encoder"] for entry in cache.entries()] == ["means"]
    assert {file.suffix for file in cache.folder.iterdir()} == {".npy", ".json"}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_a_failure(cache, value):
    def compute(images):
        features = images.float().mean(dim=(2, 3))
        features[images[:, 0, 0, 0] > 128, 1] = value
        return {"backbone": features}

    error = encoded(Encoder("bad", compute, fingerprint="bad"), batch_size=7, cache=cache)["e0", "backbone"]
    assert isinstance(error, InputError)
    assert str(error) == f"features of {int((CLEAN[:, 0, 0, 0] > 128).sum())} of 23 images are not finite"
    assert cache.entries() == []


def test_many_rows_that_are_not_finite_are_all_counted():
    """More rows than are looked at in one go."""
    images = torch.zeros(20_100, 3, 1, 1, dtype=torch.uint8)
    encoder = Encoder("bad", lambda x: {"backbone": torch.full((len(x), 1), torch.nan)}, fingerprint="bad")
    error = encoded(encoder, sample=Sample(None, None, images=images), batch_size=5000)["e0", "backbone"]
    assert str(error) == "features of 20100 of 20100 images are not finite"


def test_the_clock_counts_images_per_encoder():
    clock = Clock()
    encoded(Counting("a").encoder, Counting("b").encoder, batch_size=4, clock=clock)
    assert clock.images == 46
    assert set(clock.wall) == {"encode"}


def test_processes_share_the_chunks(monkeypatch):
    """What each of three encodes is a part, and together they are all images, each once."""
    seen = []

    def change(images, positions):
        seen.extend(positions.tolist())
        return images

    sample = Sample(None, np.arange(23), change=change)
    parts = []

    def gather(part):
        parts.append(part)
        return None if processes.rank() else [part, *parts[:-1]]

    monkeypatch.setattr(processes, "world", lambda: 3)
    monkeypatch.setattr(processes, "broadcast", lambda value: value)
    monkeypatch.setattr(processes, "gather", gather)
    for rank in (1, 2):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        assert encoded(Counting().encoder, sample=sample, batch_size=4) == {}
    monkeypatch.setattr(processes, "rank", lambda: 0)
    found = encoded(Counting().encoder, sample=sample, batch_size=4)
    np.testing.assert_array_equal(found["e0", "backbone"], means(CLEAN)["backbone"])
    assert sorted(seen) == list(range(23))
    assert seen[:8] == [4, 5, 6, 7, 16, 17, 18, 19]  # the second process': every third chunk
