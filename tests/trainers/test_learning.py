"""Does the default recipe learn? The whole training, three seeds, against raw pixels, with scikit-learn as the judge."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, confusion_matrix

from shiftbench.corruptions import corrupt
from shiftbench.data.base import load_dataset
from shiftbench.encoders.load import load_encoder
from shiftbench.registry import CORRUPTIONS
from shiftbench.trainers import train

SEEDS = (0, 1, 2)


def frozen_scores(features: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, np.ndarray]:
    """ACC and ARI on the clean test split and, as a mean, on its 75 corruptions, over ten starts of k-means.

    Centres and the map from clusters to classes come from the training split alone.
    """
    digits = load_dataset("digits")
    test, labels = digits.test.images, digits.test.labels
    corrupted = [corrupt(test, name, s, table="cifar") for name in CORRUPTIONS.names("common") for s in range(1, 6)]
    fitted = features(digits.train.images).double().numpy()
    embedded = [features(images).double().numpy() for images in (test, *corrupted)]
    scores = []
    for seed in range(10):
        kmeans = KMeans(10, n_init=1, random_state=seed).fit(fitted)
        counts = confusion_matrix(kmeans.labels_, digits.train.labels, labels=range(10))
        class_of = linear_sum_assignment(counts, maximize=True)[1]
        found = [kmeans.predict(split) for split in embedded]
        scores.append([(np.mean(class_of[p] == labels), adjusted_rand_score(labels, p)) for p in found])
    mean = np.mean(scores, axis=0)
    return {"clean": mean[0], "corrupted": mean[1:].mean(axis=0)}


@pytest.mark.slow
def test_digits_recipe_beats_pixels_clean_and_corrupted(tmp_path):
    """Measured: ACC 0.94 and ARI 0.90 clean, 0.93 and 0.87 corrupted; pixels have 0.72, 0.60 and 0.70, 0.57."""
    pixels = frozen_scores(lambda images: images.flatten(1).float() / 255)
    runs = [train(overrides=[f"seed={seed}", f"runs='{tmp_path}'", "device=cpu"]) for seed in SEEDS]
    learned = [frozen_scores(load_encoder(str(run), device="cpu")) for run in runs]
    for split in ("clean", "corrupted"):
        margin = np.mean([scores[split] for scores in learned], axis=0) - pixels[split]
        assert (margin > 0.15).all(), (split, pixels[split], [scores[split] for scores in learned])
