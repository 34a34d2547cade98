"""From names to conditions."""

import sys
import types

import numpy as np
import pytest
import torch

from shiftbench.corruptions import corrupt, corruptions
from shiftbench.data.shifts import resolve
from shiftbench.errors import InputError
from shiftbench.records import CLEAN, Condition, Dataset, Sample, Shift, Skipped, Split
from shiftbench.registry import SHIFTS


@pytest.fixture(autouse=True)
def nothing_on_disk(monkeypatch, tmp_path):
    monkeypatch.setenv("SHIFTBENCH_DATA", str(tmp_path))


def dataset(name="mine", n=20, classes=tuple("abcd")):
    images = torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = Split(images, np.arange(n) % len(classes))
    return Dataset(name, split, split, classes)


def labels(asked, data=None):
    return [condition.label for condition in resolve(asked, data or dataset(), table="cifar", seed=0)]


def test_corruption_is_fifteen_by_five_behind_clean():
    found = list(resolve(["corruption"], dataset(), table="cifar", seed=0))
    assert found[0] == CLEAN
    assert {(one.corruption, one.severity) for one in found[1:]} == {
        (name, severity) for name in corruptions("common") for severity in range(1, 6)
    }
    assert len(found) == 76
    assert {one.table for one in found[1:]} == {"cifar"}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([], ["clean"]),
        (["clean"], ["clean"]),
        (["fog-3"], ["clean", "fog-3"]),
        (["fog-3", "fog-3", "clean"], ["clean", "fog-3"]),
        (["spatter"], ["clean", *(f"spatter-{s}" for s in range(1, 6))]),
        (["prior-5", "prior"], ["clean", "prior-5", *(f"prior-{s}" for s in range(1, 5))]),
    ],
)
def test_names(asked, expected):
    assert labels(asked) == expected


def test_synthetic_is_a_group():
    shifts = {one.shift for one in resolve(["synthetic"], dataset(), table="cifar", seed=0)}
    assert shifts == {"clean", "prior", "subpopulation", "resolution"}


def test_all_takes_what_fits_and_says_what_is_missing():
    found = resolve(["all"], dataset("cifar10", classes=tuple("abcdefghij")), table="cifar", seed=0)
    natural = {one.shift for one, sample in found.items() if isinstance(sample, Skipped)}
    fitting = {name for name in SHIFTS.names("natural") if "cifar10" in SHIFTS.load(name).data}
    assert {"cifar10.1_v6", "cinic10", "stl10"} <= natural == fitting
    assert "cifar10_c" not in {one.shift for one in found}  # not missed, since the same corruptions are made here
    reason = found[Condition("cifar10.1_v6")].reason
    assert "no cifar10.1_v6_data.npy" in reason
    assert "github.com/modestyachts/CIFAR-10.1" in reason
    assert {one.shift for one in found} == natural | {"clean", "corruption", *SHIFTS.names("synthetic")}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("corrupton", "Did you mean 'corruption'"),
        ("fog-6", "severity must be"),
        ("fog-x", "severity must be"),
        ("corruption-fog-2", "has no such condition"),
        ("fgo-2", "Did you mean"),
        ("prior-6", "Did you mean 'prior-5'"),
        ("folder", "Did you mean 'folder:PATH'"),
        ("natural", "No natural shift of mine is known"),
        ("cifar10_c", "is a shift of cifar10, not of mine"),
        ("imagenet_r", "any set of ImageNet classes, not of mine"),
        ("math:pi", "is a float, not a Shift"),
    ],
)
def test_bad_names(asked, message):
    with pytest.raises(InputError, match=message):
        labels([asked])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("cifar10_c", r"Shift 'cifar10_c': no CIFAR-10-C .* CIFAR-10-C\.tar"),
        ("cifar10.1_v6", "no cifar10.1_v6_data.npy .* Clone"),
        ("cinic10", "no CINIC-10/test .* Unpack"),
        ("stl10", "'stl10': stl10 is not in .* --data stl10"),
    ],
)
def test_a_shift_asked_for_by_name_must_be_there(asked, message):
    with pytest.raises(InputError, match=message):
        labels([asked], dataset("cifar10", classes=tuple("abcdefghij")))


def test_files_are_looked_for_below_the_data_sets_root(tmp_path):
    data = dataset("cifar10", classes=tuple("abcdefghij"))
    elsewhere = Dataset(data.name, data.train, data.test, data.classes, root=str(tmp_path / "elsewhere"))
    with pytest.raises(InputError, match="elsewhere"):
        labels(["cinic10"], elsewhere)


def test_a_corruption_draws_by_place_in_the_test_split():
    data = dataset(n=6)
    [_, sample] = resolve(["gaussian_noise-3"], data, table="cifar", seed=4).values()
    images, index = data.test.images, torch.arange(6)
    whole = sample.change(images, index)
    parts = torch.cat([sample.change(images[:2], index[:2]), sample.change(images[2:], index[2:])])
    assert torch.equal(whole, parts)
    assert torch.equal(whole, corrupt(images, "gaussian_noise", 3, table="cifar", seed=4))
    assert sample.rows.tolist() == list(range(6))


def partly(data, table, seed):
    """Other pictures of classes 1 and 3."""
    return {Condition("partly", split="test[partly]"): Sample(np.array([1, 3, 3]), None, data.test.images[:3])}


def test_a_shift_of_some_classes_comes_behind_the_clean_images_of_those(monkeypatch):
    module = types.ModuleType("a_users_module")
    module.partly = Shift("partly", "natural", paired=False, samples=partly)
    monkeypatch.setitem(sys.modules, "a_users_module", module)
    data = dataset()
    found = resolve(["fog-1", "a_users_module:partly"], data, table="cifar", seed=0)
    assert [one.label for one in found] == ["clean", "fog-1", "clean[partly]", "partly"]
    pair = found[Condition("clean", split="test[partly]")]
    expected = [i for i in range(20) if i % 4 in (1, 3)]
    assert pair.rows.tolist() == expected
    assert pair.labels.tolist() == [i % 4 for i in expected]
    assert pair.images is None
