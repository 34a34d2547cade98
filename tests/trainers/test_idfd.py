"""Feature decorrelation against its definition and the specification's known values."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from shiftbench.trainers.idfd import feature_decorrelation


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(features: np.ndarray, temperature: float, kind: str, center: bool) -> float:
    """One pair of dimensions after the other."""
    columns = [column - column.mean() if center else column for column in features.T]
    columns = [column / np.linalg.norm(column) for column in columns]
    total = 0.0
    for place, one in enumerate(columns):
        row = np.array([one @ other for other in columns])
        if kind == "softmax":
            total -= row[place] / temperature - math.log(np.exp(row / temperature).sum())
        else:
            total += ((row - np.eye(len(columns))[place]) ** 2).sum()
    return total / len(columns)


@pytest.mark.parametrize("kind", ["softmax", "frobenius"])
@pytest.mark.parametrize("center", [False, True])
def test_it_is_its_formula(kind, center):
    features = normal(12, 5) + 1
    value = feature_decorrelation(features, 1.5, kind, center)
    assert value.item() == pytest.approx(by_hand(features.numpy(), 1.5, kind, center))


def test_softmax_form_has_the_known_values():
    """D = 128, temperature 2: ln 128 collapsed, 4.358 at random, 4.357 orthonormal."""
    random = functional.normalize(normal(128, 128), dim=1)
    assert feature_decorrelation(torch.ones(64, 128)).item() == pytest.approx(math.log(128), abs=1e-5)
    assert feature_decorrelation(random).item() == pytest.approx(4.358, abs=1e-3)
    assert feature_decorrelation(torch.linalg.qr(normal(300, 128)).Q).item() == pytest.approx(4.357, abs=1e-3)


def test_frobenius_form_is_0_for_orthogonal_dimensions_of_any_length():
    orthogonal = torch.linalg.qr(normal(20, 6)).Q * torch.arange(1.0, 7)
    assert feature_decorrelation(orthogonal, kind="frobenius").item() == pytest.approx(0, abs=1e-12)
    assert feature_decorrelation(torch.ones(9, 6), kind="frobenius").item() == pytest.approx(5)


def test_centering_makes_it_blind_to_a_shift():
    features = normal(30, 4)
    moved = features + torch.tensor([5.0, -3.0, 2.0, 9.0])
    assert feature_decorrelation(moved, center=True) == pytest.approx(feature_decorrelation(features, center=True))
    assert feature_decorrelation(moved) > feature_decorrelation(features)


def test_gradient_is_the_numerical_one_through_both_normalisations():
    def loss(raw: torch.Tensor) -> torch.Tensor:
        return feature_decorrelation(functional.normalize(raw, dim=1))

    assert torch.autograd.gradcheck(loss, normal(5, 3).requires_grad_())


def test_half_precision_and_empty_dimensions_stay_finite():
    features = normal(16, 8).bfloat16()
    features[:, 0] = 0
    features.requires_grad_()
    value = feature_decorrelation(features)
    value.backward()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert features.grad.isfinite().all()
