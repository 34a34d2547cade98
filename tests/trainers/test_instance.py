"""Instance discrimination against its definition, its analytic gradient, and the spec's known values."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from shiftbench.errors import InputError
from shiftbench.trainers.instance import InstanceBank, nce_loss, softmax_loss


def unit(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    rows = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return functional.normalize(rows, dim=-1)


def nce_by_hand(similarities: np.ndarray, temperature: float, normalizer: float, samples: int) -> float:
    """The formula as the specification states it, in double precision, one pair after the other."""
    noise = (similarities.shape[1] - 1) / samples
    total = 0.0
    for row in similarities:
        p = np.exp(row / temperature) / normalizer
        total -= math.log(p[0] / (p[0] + noise + 1e-7)) + sum(math.log(noise / (q + noise + 1e-7)) for q in p[1:])
    return total / len(similarities)


def test_nce_loss_is_its_formula():
    similarities = unit(4, 9)
    value = nce_loss(similarities, 0.35, torch.tensor(52.0), samples=50)
    assert value.item() == pytest.approx(nce_by_hand(similarities.double().numpy(), 0.35, 52.0, 50), rel=1e-5)


def test_nce_gradient_is_the_analytic_one():
    """d loss / d s_0 = -(n/(P_0 + n)) / (tau B) and d loss / d s_j = (P_j/(P_j + n)) / (tau B), n = m/N + 1e-7."""
    similarities = unit(4, 9, dtype=torch.float64).requires_grad_()
    tau, normalizer, samples = 0.5, torch.tensor(60.0, dtype=torch.float64), 50
    nce_loss(similarities, tau, normalizer, samples).backward()
    noise = 8 / samples + 1e-7
    p = (similarities.detach() / tau).exp() / normalizer
    expected = p / (p + noise)
    expected[:, 0] = -noise / (p[:, 0] + noise)
    torch.testing.assert_close(similarities.grad, expected / tau / 4, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("samples", [1000, 5000])
def test_nce_starts_at_ln_of_one_plus_m_plus_one(samples, temperature, device):
    """Random features against a random bank: 9.32 at m = 4096, whatever N and the temperature."""
    torch.manual_seed(0)
    bank = InstanceBank(samples, 128, temperature=temperature, negatives=4096).to(device)
    loss = bank.loss(unit(64, 128, seed=1).to(device), torch.arange(64, device=device))
    assert loss.item() == pytest.approx(math.log(4097) + 1, abs=0.03)


def test_nce_floor_of_a_perfect_positive():
    """Own cosine 1, all others random, temperature 0.5: about 7.34 (specification, by running the original)."""
    torch.manual_seed(0)
    bank = InstanceBank(4000, 128, temperature=0.5, negatives=4096)
    bank.bank.copy_(unit(4000, 128))
    bank.normalizer.copy_(4000 * (unit(64, 128, seed=1) @ bank.bank.t() / 0.5).exp().mean())
    assert bank.loss(bank.bank[:64].clone(), torch.arange(64)).item() == pytest.approx(7.34, abs=0.05)


def test_normalizer_is_estimated_on_the_first_batch_alone():
    torch.manual_seed(0)
    bank = InstanceBank(500, 16, temperature=0.5, negatives=2000)
    assert bank.normalizer == 0
    features = unit(100, 16)
    bank.loss(features, torch.arange(100))
    first = bank.normalizer.clone()
    everything = 500 * (features @ bank.bank.t() / 0.5).exp().mean()
    assert first.item() == pytest.approx(everything.item(), rel=0.02)
    bank.loss(unit(100, 16, seed=5) * 3, torch.arange(100))
    assert torch.equal(bank.normalizer, first)


def test_nce_sees_only_drawn_entries():
    """The same draws by hand: gather of features instead of gather of products."""
    bank = InstanceBank(40, 8, temperature=0.4, negatives=6)
    features, index = unit(5, 8), torch.tensor([3, 1, 39, 0, 7])
    torch.manual_seed(7)
    value = bank.loss(features, index)
    torch.manual_seed(7)
    columns = torch.cat([index[:, None], torch.randint(40, (5, 6))], dim=1)
    similarities = torch.einsum("bd,bmd->bm", features, bank.bank[columns])
    assert value.item() == pytest.approx(nce_loss(similarities, 0.4, bank.normalizer, 40).item(), rel=1e-6)


def test_softmax_loss_is_cross_entropy_in_value_and_gradient():
    features = unit(6, 12, dtype=torch.float64).requires_grad_()
    bank, index = unit(20, 12, seed=1, dtype=torch.float64), torch.tensor([0, 3, 19, 3, 7, 2])
    softmax_loss(features, bank, index, 0.3).backward()
    p = torch.softmax(features.detach() @ bank.t() / 0.3, dim=1)
    by_hand = -p[torch.arange(6), index].log().mean()
    assert softmax_loss(features, bank, index, 0.3).item() == pytest.approx(by_hand.item())
    p[torch.arange(6), index] -= 1
    torch.testing.assert_close(features.grad, p @ bank / 0.3 / 6)


def test_softmax_loss_of_the_specification_vector():
    v = functional.normalize(torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), dim=1)
    bank = functional.normalize(torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, -1.0]]), dim=1)
    assert softmax_loss(v, bank, torch.arange(3), 0.1).item() == pytest.approx(2.605601, abs=1e-6)
    assert softmax_loss(v, bank, torch.arange(3), 1.0).item() == pytest.approx(0.935659, abs=1e-6)


def test_softmax_loss_starts_at_ln_n(device):
    bank = InstanceBank(50_000, 128, temperature=1.0, negatives=0).to(device)
    loss = bank.loss(unit(32, 128, seed=1).to(device), torch.arange(32, device=device))
    assert loss.item() == pytest.approx(10.82, abs=0.02)


@pytest.mark.parametrize("negatives", [0, 16])
def test_gradient_goes_to_the_features_only(negatives):
    bank = InstanceBank(30, 8, temperature=0.5, negatives=negatives)
    features = unit(4, 8).requires_grad_()
    bank.loss(features, torch.arange(4)).backward()
    assert features.grad.abs().sum() > 0
    assert list(bank.parameters()) == []


@pytest.mark.parametrize("momentum", [0.5, 0.2])
def test_bank_update_is_its_formula(momentum):
    bank = InstanceBank(30, 8, temperature=0.5, momentum=momentum)
    before, features, index = bank.bank.clone(), unit(4, 8), torch.tensor([5, 0, 29, 7])
    bank.update(features, index)
    mixed = momentum * before[index] + (1 - momentum) * features
    torch.testing.assert_close(bank.bank[index], mixed / mixed.norm(dim=1, keepdim=True), atol=1e-6, rtol=1e-6)
    rest = torch.ones(30, dtype=torch.bool)
    rest[index] = False
    assert torch.equal(bank.bank[rest], before[rest])


def test_bank_starts_near_unit_norm():
    norms = InstanceBank(2000, 128, temperature=1.0).bank.norm(dim=1)
    assert norms.mean().item() == pytest.approx(0.999, abs=0.005)
    assert norms.std().item() == pytest.approx(0.039, abs=0.005)


def test_bank_is_checkpointed_whole():
    bank = InstanceBank(30, 8, temperature=0.5, negatives=4)
    bank.loss(unit(4, 8), torch.arange(4))
    bank.update(unit(4, 8), torch.arange(4))
    other = InstanceBank(30, 8, temperature=0.5, negatives=4)
    other.load_state_dict(bank.state_dict())
    assert torch.equal(other.bank, bank.bank)
    assert other.normalizer == bank.normalizer > 0


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"momentum": 1.0}, {"negatives": -1}])
def test_values_outside_their_range_are_refused(wrong):
    [(name, value)] = wrong.items()
    with pytest.raises(InputError, match=f"^The memory bank's {name}={value} must be "):
        InstanceBank(30, 8, **{"temperature": 0.5, **wrong})
