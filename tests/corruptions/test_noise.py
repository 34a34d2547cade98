"""The noises draw from the exact distributions, and draw each value anew."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from shiftbench.corruptions import corrupt, noise
from shiftbench.corruptions.severity import constants

NOISES = ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"]


def exact(name: str, value: int, c: float) -> np.ndarray:
    """P(result = 0..255), from the published formula and scipy's distributions."""
    if name == "impulse_noise":
        p = np.zeros(256)
        p[value] = 1 - c
        p[0] += c / 2
        p[255] += c / 2
        return p
    if name == "shot_noise":
        counts = np.arange(int(20 * c) + 50)
        results = np.uint8(np.clip(counts / c, 0, 1) * 255)
        return np.bincount(results, stats.poisson.pmf(counts, value / 255 * c), minlength=256)
    std = c * 255 if name == "gaussian_noise" else c * value
    if std == 0:
        return np.eye(256)[value]
    below = stats.norm.cdf(np.arange(1, 256), value, std)
    return np.diff(below, prepend=0, append=1)


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize("table", ["cifar", "imagenet"])
@pytest.mark.parametrize("severity", [1, 5])
def test_values_follow_the_exact_distribution(name: str, table: str, severity: int) -> None:
    (c,) = constants(name, severity, table)
    values = torch.tensor([0, 1, 40, 128, 250, 255], dtype=torch.uint8)
    plain = values[:, None, None, None].repeat(1, 3, 128, 128).contiguous()
    result = corrupt(plain, name, severity, table=table, seed=1).numpy().reshape(len(values), -1)
    for value, drawn in zip(values.tolist(), result, strict=True):
        p = exact(name, value, c)
        assert p.sum() == pytest.approx(1)
        counts = np.bincount(drawn, minlength=256)
        likely = p * len(drawn) >= 5
        observed = np.append(counts[likely], counts[~likely].sum())
        expected = np.append(p[likely], p[~likely].sum()) * len(drawn)
        if expected[-1] < 5:
            assert observed[-1] <= 25
            observed, expected = observed[:-1], expected[:-1]
        if len(observed) > 1:
            assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-4


@pytest.mark.parametrize("seed", range(3))
def test_alias_table_holds_the_probabilities(seed: int) -> None:
    matrix = np.random.default_rng(seed).random((256, 256)) ** (4 * seed + 1)
    matrix /= matrix.sum(1, keepdims=True)
    table = noise.alias_table(matrix)
    share, alias = table >> 8, table & 255
    mass = share.astype(float)
    for row in range(256):
        np.add.at(mass[row], alias[row], 2**16 - share[row])
    assert (share >= 0).all()
    assert (share <= 2**16).all()
    np.testing.assert_allclose(mass / 2**24, matrix, atol=2**-24)


@pytest.mark.parametrize("name", NOISES)
def test_noise_of_neighbouring_images_and_values_is_unrelated(name: str) -> None:
    grey = torch.full((64, 3, 32, 32), 128, dtype=torch.uint8)
    drawn = corrupt(grey, name, 3, table="imagenet").double()
    drawn = (drawn - drawn.mean()) / drawn.std()
    pairs = {
        "next image": (drawn[1:], drawn[:-1]),
        "next channel": (drawn[:, 1:], drawn[:, :-1]),
        "next row": (drawn[:, :, 1:], drawn[:, :, :-1]),
        "next column": (drawn[..., 1:], drawn[..., :-1]),
        "a block of four further": (drawn.flatten(1)[:, 768:], drawn.flatten(1)[:, :-768]),
    }
    for where, (one, other) in pairs.items():
        assert abs((one * other).mean()) < 4 / one.numel() ** 0.5, where


def test_clean_values_survive_impulse_noise_as_often_as_they_should() -> None:
    grey = torch.full((50, 3, 32, 32), 77, dtype=torch.uint8)
    changed = (corrupt(grey, "impulse_noise", 5, table="cifar") != 77).float().mean()
    assert changed == pytest.approx(0.07, abs=4 * (0.07 * 0.93 / grey.numel()) ** 0.5)
