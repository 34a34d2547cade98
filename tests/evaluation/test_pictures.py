"""What ``examples/`` holds, against brute force on the partitions and features of the same evaluation."""

import numpy as np
import pytest
import torch

from shiftbench.corruptions import corrupt
from shiftbench.encoders.base import Encoder
from shiftbench.evaluation.evaluate import evaluate

CONDITIONS = ("gaussian_noise-5", "fog-1")


def load(folder, condition):
    return np.load(next((folder / "partitions").glob("means@*")) / "backbone" / "kmeans" / f"{condition}.npz")


def features(images):
    return images.float().mean(dim=(2, 3)).numpy() / 255


def nearest(partition, points, clusters, count=8):
    """By sorting every distance of every cluster."""
    found = np.full((clusters, count), -1)
    for cluster in range(clusters):
        centre = points[partition == cluster].mean(axis=0) if (partition == cluster).any() else 0
        away = [(np.sqrt(((points[i] - centre) ** 2).sum()), i) for i in np.flatnonzero(partition == cluster)]
        chosen = [i for _, i in sorted(away)[:count]]
        found[cluster, : len(chosen)] = chosen
    return found


def shown(images, index):
    pictures = images.permute(0, 2, 3, 1).numpy()[np.maximum(index, 0)]
    pictures[index < 0] = 255
    return pictures


def test_the_most_typical_images_clean_and_shifted(means, small):
    evaluate(means, **small)
    found = np.load(next((small["results"] / "examples").glob("means@*.npz")))
    condition = str(found["map_condition"])
    assert condition in CONDITIONS
    clean, images = load(small["results"], "clean")["labels"][0, 0], small["data"].test.images
    index = nearest(clean, features(images), 3)
    assert found["typical_index"].tolist() == index.tolist()
    assert (found["typical"] == shown(images, index)).all()
    name, _, severity = condition.rpartition("-")
    moved = corrupt(images, name, int(severity), table="cifar")
    index = nearest(load(small["results"], condition)["labels"][0, 0], features(moved), 3)
    assert found["typical_shifted_index"].tolist() == index.tolist()
    assert (found["typical_shifted"] == shown(moved, index)).all()


def dull_is_red(images):
    """Images without contrast are put where the red ones are."""
    red = torch.tensor([1.0, 0.0, 0.0])
    means = images.float().mean(dim=(2, 3)) / 255
    return {"backbone": torch.where(images.float().std(dim=(1, 2, 3))[:, None] < 50, red, means)}


@pytest.fixture
def collapsing():
    return Encoder("means", dull_is_red, fingerprint="dull")


def test_a_cluster_that_empties(collapsing, small):
    evaluate(collapsing, **small | {"shift": "fog-5"})
    partition = load(small["results"], "fog-5")["labels"][0, 0]
    empty = sorted({0, 1, 2} - set(partition.tolist()))
    assert len(empty) == 2
    found = np.load(next((small["results"] / "examples").glob("means@*.npz")))
    assert (found["typical_shifted_index"][empty] == -1).all()
    assert (found["typical_shifted"][empty] == 255).all()
    assert (found["typical_index"][empty] >= 0).all()


def test_clusters_made_anew_are_not_put_beside_the_clean_ones(means, small):
    evaluate(means, **small | {"protocols": ["refit"]})
    found = np.load(next((small["results"] / "examples").glob("means@*.npz")))
    assert not {"typical_shifted", "switching"} & set(found.files)
    assert found["typical"].shape == (3, 8, 16, 16, 3)


def test_frozen_clusters_are_shown_wherever_the_protocol_stands(means, small):
    evaluate(means, **small)
    evaluate(means, **small | {"protocols": ["refit", "frozen"], "results": small["results"].parent / "turned"})
    found, turned = (
        np.load(next((folder / "examples").glob("means@*.npz")))
        for folder in (small["results"], small["results"].parent / "turned")
    )
    assert set(found.files) == set(turned.files)
    for name in found.files:
        assert np.array_equal(found[name], turned[name]), name


def test_without_a_shift_there_is_the_clean_side_alone(means, small):
    evaluate(means, **small | {"shift": []})
    found = np.load(next((small["results"] / "examples").glob("means@*.npz")))
    assert not {"typical_shifted", "switching"} & set(found.files)
    assert str(found["map_condition"]) == "clean"
