"""The compiled kernels and the tensor operations give the same bytes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from shiftbench.corruptions import TABLES, backend, corrupt
from shiftbench.registry import CORRUPTIONS


@pytest.mark.parametrize("name", CORRUPTIONS.names())
@pytest.mark.parametrize("table", ["cifar", "imagecorruptions"])
def test_both_paths_agree_to_the_bit(
    images: Tensor, name: str, table: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = [corrupt(images, name, severity, table=table) for severity in (1, 3, 5)]
    monkeypatch.setattr(backend, "compiled", lambda _: False)
    for severity, expected in zip((1, 3, 5), compiled, strict=True):
        assert torch.equal(corrupt(images.to(device), name, severity, table=table).cpu(), expected)


@pytest.mark.parametrize("name", CORRUPTIONS.names())
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 9), (3, 33, 47)], ids=str)
def test_both_paths_agree_at_odd_sizes(
    photographs: Callable[..., Tensor], name: str, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "saturate" and shape[0] == 1:
        pytest.skip("grey images have no saturation")
    odd = photographs(2, *shape[1:])[:, : shape[0]].contiguous()
    compiled = [corrupt(odd, name, 4, table=table) for table in TABLES]
    monkeypatch.setattr(backend, "compiled", lambda _: False)
    for table, expected in zip(TABLES, compiled, strict=True):
        assert torch.equal(corrupt(odd, name, 4, table=table), expected)


@pytest.mark.parametrize("nudge", [backend.NUDGE, 0.5])
def test_cut_is_to_uint8(nudge: float) -> None:
    values = torch.tensor([-3.0, -1e-9, 0.0, 0.9, 0.9999, 1.0, 127.5, 254.999, 255.0, 256.0, 1e9])
    assert [int(backend.cut(np.float32(v), nudge)) for v in values.tolist()] == backend.to_uint8(values, nudge).tolist()
