"""An evaluation encodes each image once and keeps its features; what is damaged or failed is not kept."""

import json

import torch

from shiftbench.encoders.base import Encoder
from shiftbench.evaluation import evaluate
from shiftbench.features.cache import FeatureCache, cache_folder


class Counting:
    """Channel means, and how many images were encoded."""

    def __init__(self):
        self.images = 0

    def encoder(self, fingerprint="means"):
        def compute(images):
            self.images += len(images)
            return {"backbone": images.float().mean(dim=(2, 3)) / 255}

        return Encoder("means", compute, fingerprint=fingerprint)


def test_an_image_is_encoded_once_whatever_is_asked_of_it(small, tmp_path):
    counting = Counting()
    first = evaluate(counting.encoder(), **small)
    once = counting.images
    other = evaluate(counting.encoder(), **small | {"results": tmp_path / "other"})
    assert counting.images == once
    assert first.cells.equals(other.cells)
    evaluate(counting.encoder(), **small | {"results": tmp_path / "third", "clusterer": "ward", "feature": "auto+l2"})
    assert counting.images == once
    evaluate(counting.encoder("other weights"), **small | {"results": tmp_path / "fourth"})
    assert counting.images == 2 * once


def test_a_damaged_entry_is_encoded_again_with_the_same_result(small, tmp_path):
    counting = Counting()
    first = evaluate(counting.encoder(), **small)
    folder = cache_folder("auto")
    for file in folder.glob("*.npy"):
        file.write_bytes(file.read_bytes()[:-1])
    again = evaluate(counting.encoder(), **small | {"results": tmp_path / "other"})
    assert first.cells.equals(again.cells)
    assert counting.images > 180


def test_pixels_are_not_stored(small):
    evaluate("pixels", **small)
    folder = cache_folder("auto")
    assert not folder.exists() or not list(folder.iterdir())


def test_the_cache_says_what_it_holds(small):
    evaluate(Counting().encoder(), **small)
    entries = FeatureCache(cache_folder("auto")).entries()
    assert {entry.about["encoder"] for entry in entries} == {"means"}
    assert all(json.dumps(entry.about) for entry in entries)
    assert sum(entry.bytes for entry in entries) > 0


def test_features_that_fail_are_not_stored(small):
    def compute(images):
        return {"backbone": torch.full((len(images), 2), float("nan"))}

    evaluate(Encoder("nan", compute, fingerprint="nan"), **small)
    folder = cache_folder("auto")
    assert not folder.exists() or not list(folder.iterdir())
