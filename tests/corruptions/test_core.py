"""The contract of ``corrupt``: what goes in, what comes out, and what the bytes depend on."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from shiftbench.corruptions import SEVERITIES, TABLES, corrupt, corruptions
from shiftbench.corruptions.severity import CONSTANTS
from shiftbench.errors import InputError
from shiftbench.registry import CORRUPTIONS

NAMES = CORRUPTIONS.names()
NOISES = ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"]
# Where a higher severity is meant to differ more from the clean image, in which tables.
MONOTONE = {name: ["cifar", "tiny_imagenet", "imagenet"] for name in corruptions("common")}
for name in ("glass_blur", "elastic_transform", "snow", "frost"):  # their rows trade one strength for another
    del MONOTONE[name]
MONOTONE["fog"].remove("imagenet")  # row 3 is thicker than row 2, but less even


def test_subsets() -> None:
    assert corruptions() == corruptions("common")
    assert len(corruptions("common")) == 15  # the published fifteen: what is added is extra
    assert corruptions("all") == NAMES
    assert not set(corruptions("common")) & set(corruptions("extra"))
    with pytest.raises(InputError, match=r"Unknown subset of the corruptions 'comon'. Did you mean 'common'"):
        corruptions("comon")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", NAMES)
@given(
    n=st.integers(0, 3),
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    severity=st.sampled_from(SEVERITIES),
    table=st.sampled_from(["auto", *TABLES]),
    seed=st.integers(),
    data=st.data(),
)
def test_shape_dtype_and_input_unchanged(
    name: str, n: int, height: int, width: int, severity: int, table: str, seed: int, data: st.DataObject
) -> None:
    channels = 3 if name == "saturate" else data.draw(st.sampled_from([1, 3]))
    generator = torch.Generator().manual_seed(height * width + n)
    images = torch.randint(0, 256, (n, channels, height, width), dtype=torch.uint8, generator=generator)
    before = images.clone()
    result = corrupt(images, name, severity, table=table, seed=seed)
    assert result.shape == images.shape
    assert result.dtype == torch.uint8
    assert torch.equal(images, before)
    if n:
        assert result.data_ptr() != images.data_ptr()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("table", ["cifar", "imagecorruptions"])
def test_bytes_depend_on_neither_batch_nor_order(images: Tensor, name: str, table: str) -> None:
    index = torch.arange(len(images)) * 1000 + 2**33
    whole = corrupt(images, name, 3, table=table, seed=5, index=index)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
    assert torch.equal(corrupt(images[order], name, 3, table=table, seed=5, index=index[order]), whole[order])
    for rows in (slice(0, 1), slice(1, 6), slice(6, None)):
        assert torch.equal(corrupt(images[rows], name, 3, table=table, seed=5, index=index[rows]), whole[rows])


@pytest.mark.parametrize("name", NAMES)
def test_memory_layout_does_not_matter(images: Tensor, name: str) -> None:
    interleaved = images[:3].contiguous(memory_format=torch.channels_last)
    assert torch.equal(corrupt(interleaved, name, 2), corrupt(images[:3], name, 2))


@pytest.mark.parametrize("name", ["defocus_blur", "zoom_blur", "gaussian_blur", "brightness", "contrast"])
def test_these_draw_nothing(images: Tensor, name: str) -> None:
    one, other = images[:1], images[:1].expand(2, -1, -1, -1)
    assert torch.equal(corrupt(other, name, 5, seed=8), corrupt(one, name, 5).expand(2, -1, -1, -1))


@pytest.mark.parametrize(
    "name", [*NOISES, *["glass_blur", "motion_blur", "snow", "frost", "fog", "elastic_transform", "spatter"]]
)
def test_index_and_seed_choose_the_randomness(images: Tensor, name: str) -> None:
    first, repeated = images[:1], images[:1].expand(6, -1, -1, -1)
    by_index = corrupt(repeated, name, 3, table="imagenet")
    by_seed = torch.cat([corrupt(first, name, 3, table="imagenet", seed=seed) for seed in range(6)])
    for results in (by_index, by_seed):
        assert len({result.numpy().tobytes() for result in results}) == 6
    assert torch.equal(corrupt(first, name, 3, table="imagenet", index=torch.tensor([4])), by_index[4:5])


def test_bytes_are_the_same_in_another_process(run_python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    code = """
import hashlib, torch
from shiftbench.corruptions import corrupt, corruptions
ramp = torch.arange(2 * 3 * 16 * 16).remainder(251).to(torch.uint8).view(2, 3, 16, 16)
print(hashlib.sha256(b"".join(corrupt(ramp, name, 3).numpy().tobytes() for name in corruptions("all"))).hexdigest())
"""
    one, other = (run_python(code, PYTHONHASHSEED=seed) for seed in ("1", "2"))
    assert one.stdout, one.stderr
    assert one.stdout == other.stdout


def test_threads_give_what_one_gives(images: Tensor) -> None:
    expected = {name: corrupt(images, name, 4) for name in NAMES}
    wrong: list[str] = []

    def work(names: list[str]) -> None:
        wrong.extend(name for name in names if not torch.equal(corrupt(images, name, 4), expected[name]))

    threads = [threading.Thread(target=work, args=(NAMES[i:] + NAMES[:i],)) for i in (0, 5, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(("name", "table"), [(name, table) for name, tables in MONOTONE.items() for table in tables])
def test_severity_grows(photographs: Callable[..., Tensor], name: str, table: str) -> None:
    clean = photographs(64)
    errors = [(corrupt(clean, name, s, table=table).float() - clean.float()).square().mean() for s in SEVERITIES]
    assert errors == sorted(errors)
    assert errors[0] > 0


@pytest.mark.parametrize("name", [name for name in NAMES if name != "saturate"])
def test_grey_is_corrupted_as_grey_colour(images: Tensor, name: str) -> None:
    """A grey image and the same in three equal channels get equal luma, where channels are not drawn separately."""
    grey = images[:, :1].contiguous()
    alone = corrupt(grey, name, 3, table="imagecorruptions").float()
    if name in NOISES:
        colour = corrupt(images, name, 3, table="imagecorruptions")
        assert alone.std() == pytest.approx(colour.float().std().item(), rel=0.2)
        return
    colour = corrupt(grey.expand(-1, 3, -1, -1), name, 3, table="imagecorruptions").float()
    luma = 0.299 * colour[:, :1] + 0.587 * colour[:, 1:2] + 0.114 * colour[:, 2:]
    assert (alone - luma).abs().max() < (20 if name in ("frost", "spatter") else 1.01)  # tints that saturate


def test_saturate_refuses_grey(images: Tensor) -> None:
    with pytest.raises(InputError, match="saturate needs colour"):
        corrupt(images[:, :1], "saturate", 1)


IMAGES = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"images": np.zeros((2, 3, 16, 16), np.uint8)}, TypeError, "images must be a torch tensor, not ndarray"),
        ({"images": IMAGES.float()}, TypeError, "images must be uint8 .* not torch.float32"),
        ({"images": IMAGES[0]}, ValueError, r"images must be \(N, 3, H, W\) .* not \(3, 16, 16\)"),
        ({"images": IMAGES.permute(0, 2, 3, 1)}, ValueError, r"not \(2, 16, 16, 3\)"),
        ({"images": IMAGES[..., :7]}, ValueError, "at least 8 x 8 pixels, not 16 x 7"),
        ({"name": "fgo"}, ValueError, "Unknown corruption 'fgo'. Did you mean 'fog'"),
        ({"severity": 0}, ValueError, "severity must be 1, 2, 3, 4 or 5, not 0"),
        ({"severity": 6}, ValueError, "not 6"),
        ({"severity": 2.0}, ValueError, "not 2.0"),
        ({"severity": True}, ValueError, "not True"),
        ({"seed": 0.5}, TypeError, "seed must be an integer, not 0.5"),
        ({"table": "imagnet"}, ValueError, "Unknown severity table 'imagnet'. Did you mean 'imagenet'"),
        ({"index": torch.zeros(3, dtype=torch.int64)}, ValueError, r"one entry per image, \(2,\), not \(3,\)"),
        ({"index": torch.zeros(2)}, TypeError, "index must be an int64 tensor, not torch.float32"),
        ({"index": [0, 1]}, TypeError, "index must be an int64 tensor, not list"),
    ],
)
def test_bad_input(change: dict[str, Any], error: type[Exception], message: str) -> None:
    given_ = {"images": IMAGES, "name": "fog", "severity": 1, **change}
    with pytest.raises(InputError, match=message) as caught:
        corrupt(**given_)
    assert isinstance(caught.value, error)


def test_a_corruption_of_ones_own(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def posterise(images: Tensor, constants: tuple[float, ...], *_: object) -> Tensor:
        return images & (256 - (1 << (8 - int(constants[0]))))

    module = ModuleType("mine")
    module.posterise = posterise  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mine", module)
    monkeypatch.setitem(CONSTANTS, "mine:posterise", {"imagenet": ((6,), (5,), (4,), (3,), (2,))})
    assert torch.equal(corrupt(images, "mine:posterise", 4, table="cifar"), images & 0b11100000)


def test_integers_of_numpy_are_welcome() -> None:
    assert torch.equal(corrupt(IMAGES, "fog", np.int64(2), seed=np.int64(3)), corrupt(IMAGES, "fog", 2, seed=3))


def test_an_empty_batch_is_still_checked() -> None:
    assert corrupt(IMAGES[:0], "fog", 1).shape == (0, 3, 16, 16)
    with pytest.raises(InputError):
        corrupt(IMAGES[:0], "fgo", 1)
