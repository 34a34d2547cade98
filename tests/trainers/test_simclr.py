"""NT-Xent against its formula, and its known values."""

import math

import numpy as np
import pytest
import torch

from shiftbench.errors import InputError
from shiftbench.trainers.simclr import nt_xent

Z = torch.tensor([[2.0, 0], [0, 1], [1, 1]], dtype=torch.float64)
OTHER = torch.tensor([[1.0, 0], [0, 2], [1, -1]], dtype=torch.float64)


def by_hand(first: np.ndarray, second: np.ndarray, temperature: float) -> float:
    rows = np.concatenate([first, second])
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    total, count = 0.0, len(first)
    for i, row in enumerate(rows):
        others = [math.exp(row @ other / temperature) for j, other in enumerate(rows) if j != i]
        total -= math.log(math.exp(row @ rows[(i + count) % (2 * count)] / temperature) / sum(others))
    return total / len(rows)


def test_nt_xent_of_the_specification_vector():
    assert nt_xent(Z, OTHER, 0.5).item() == pytest.approx(1.351988, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_nt_xent_is_its_formula_and_symmetric(temperature):
    first, second = torch.randn(2, 7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    value = nt_xent(first, second, temperature).item()
    assert value == pytest.approx(by_hand(first.numpy(), second.numpy(), temperature))
    assert value == pytest.approx(nt_xent(second, first, temperature).item())


def test_nt_xent_of_equal_rows_is_chance():
    assert nt_xent(torch.ones(8, 3), torch.ones(8, 3), 0.1).item() == pytest.approx(math.log(15))


def test_gradient_is_the_numerical_one():
    assert torch.autograd.gradcheck(nt_xent, (Z.clone().requires_grad_(), OTHER.clone().requires_grad_(), 0.5))


def test_low_precision_and_low_temperatures_stay_finite():
    rows = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    value = nt_xent(rows[0], rows[1], 0.005)
    value.backward()
    assert (value.dtype, value.isfinite().item(), rows.grad.isfinite().all().item()) == (torch.float32, True, True)


@pytest.mark.parametrize("second", [torch.ones(1, 3), torch.ones(2, 3)])
def test_a_batch_without_negatives_is_refused(second):
    with pytest.raises(InputError, match=r"two or more matched rows, got \(1, 3\)"):
        nt_xent(torch.ones(1, 3), second)
