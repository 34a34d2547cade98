"""Shifts as lists of conditions."""

import pytest
import torch

from shiftbench.corruptions import corrupt, corruptions
from shiftbench.data.shifts import apply, conditions
from shiftbench.errors import InputError
from shiftbench.records import CLEAN, Condition


def test_corruption_is_fifteen_by_five_behind_clean():
    found = conditions(["corruption"], "cifar")
    assert found[0] == CLEAN
    assert {(one.corruption, one.severity) for one in found[1:]} == {
        (name, severity) for name in corruptions("common") for severity in range(1, 6)
    }
    assert len(found) == 76
    assert {one.table for one in found[1:]} == {"cifar"}


@pytest.mark.parametrize(
    ("asked", "labels"),
    [
        ([], ["clean"]),
        (["clean"], ["clean"]),
        (["fog-3"], ["clean", "fog-3"]),
        (["fog-3", "fog-3", "clean"], ["clean", "fog-3"]),
        (["spatter"], ["clean", *(f"spatter-{s}" for s in range(1, 6))]),
    ],
)
def test_names(asked, labels):
    assert [one.label for one in conditions(asked, "cifar")] == labels


def test_all_holds_every_registered_shift():
    assert set(conditions(["all"], "cifar")) >= set(conditions(["corruption"], "cifar"))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("corrupton", "Did you mean 'corruption'"),
        ("fog-6", "severity must be"),
        ("fog-x", "severity must be"),
        ("fgo-2", "Did you mean"),
    ],
)
def test_bad_names(asked, message):
    with pytest.raises(InputError, match=message):
        conditions([asked], "cifar")


def test_apply_draws_by_place_in_the_split():
    images = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    condition = Condition("corruption", "gaussian_noise", 3, "cifar")
    whole = apply(condition, images, seed=4)
    parts = torch.cat([apply(condition, images[:2], seed=4), apply(condition, images[2:], start=2, seed=4)])
    assert torch.equal(whole, parts)
    assert torch.equal(whole, corrupt(images, "gaussian_noise", 3, table="cifar", seed=4))
    assert apply(CLEAN, images) is images
