"""The generator equals the published one, on every path, and its streams have nothing to do with each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from shiftbench.corruptions import backend
from shiftbench.corruptions.sampling import Draws, normal_quantiles, philox

# Known answers of philox4x32-10 from Random123 (counter, key, result).
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_philox_known_answers(counter: tuple[int, ...], key: tuple[int, int], result: tuple[int, ...]) -> None:
    assert philox(*counter, *key) == result
    assert tuple(word.item() for word in philox(*(torch.tensor([c]) for c in counter), *key)) == result


@pytest.mark.parametrize("count", [1, 4, 5, 1023])
def test_words_are_the_generators(count: int) -> None:
    """Word lane * blocks + block is lane ``lane`` of the block with counter (index low, index high, block, field)."""
    draws = Draws(3, "fog", 2, torch.tensor([7, 2**35 + 1]))
    blocks = -(-count // 4)
    for words, index in zip(draws.words((count,), 9).tolist(), (7, 2**35 + 1), strict=True):
        expected = [philox(index % 2**32, index >> 32, block, 9, *draws.key) for block in range(blocks)]
        assert words == [expected[j % blocks][j // blocks] for j in range(count)]


def test_all_paths_draw_the_same(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    def everything(device: str | torch.device) -> list[torch.Tensor]:
        draws = Draws(1, "snow", 4, torch.tensor([0, 1, 2**40], device=device))
        drawn = [draws.words((5, 3), 0), draws.uniform((9,), -45, 45, 1), draws.normal((8, 8), 0.5, 0.3, 2)]
        return [d.cpu() for d in (*drawn, draws.integers((4, 4, 2), 6, 3), draws.uniform((), 0, 1, 4))]

    compiled = everything("cpu")
    monkeypatch.setattr(backend, "compiled", lambda _: False)
    for one, other in zip(compiled, everything(device), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_distributions() -> None:
    draws = Draws(0, "test", 1, torch.arange(20))
    uniform = draws.uniform((2000,), -2, 3, 0).flatten().numpy()
    assert stats.kstest(uniform, stats.uniform(-2, 5).cdf).pvalue > 0.01
    assert uniform.min() >= -2
    assert uniform.max() < 3
    normal = draws.normal((2000,), 0, 1, 1).flatten().numpy()
    assert stats.kstest(normal, stats.norm.cdf).pvalue > 0.01
    counts = np.bincount(draws.integers((2000,), 6, 2).flatten().numpy(), minlength=6)
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 0.01


def test_normal_quantiles_keep_the_moments() -> None:
    z = normal_quantiles()
    assert abs(z.mean()) < 1e-12
    assert abs(z.square().mean() - 1) < 5e-6
    assert abs(z.pow(4).mean() - 3) < 1e-3


@pytest.mark.parametrize(
    "other",
    [
        Draws(0, "fog", 1, torch.arange(1, 33)),
        Draws(1, "fog", 1, torch.arange(32)),
        Draws(0, "frost", 1, torch.arange(32)),
        Draws(0, "fog", 2, torch.arange(32)),
        Draws(0, "fog", 1, torch.arange(32) + 2**32),
    ],
    ids=["neighbour", "seed", "corruption", "severity", "index + 2**32"],
)
def test_streams_are_unrelated_at_every_lag(other: Draws) -> None:
    """A shifted copy of a stream would show as one large cross-correlation."""
    a = Draws(0, "fog", 1, torch.arange(32)).normal((4096,), 0, 1, 0).double()
    b = other.normal((4096,), 0, 1, 0).double()
    for x, y in [(a, b), (a, a.roll(1, 0))]:
        correlation = torch.fft.irfft(torch.fft.rfft(x) * torch.fft.rfft(y).conj()) / 4096
        assert correlation.abs().max() < 6 / 64  # 131,072 values with standard deviation 1 / 64: expect 4.6


def test_two_fields_of_a_draw_are_unrelated() -> None:
    draws = Draws(0, "snow", 1, torch.arange(64))
    a, b = draws.normal((1024,), 0, 1, 0).flatten(), draws.normal((1024,), 0, 1, 1).flatten()
    assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 4 / 256
