"""Preprocessing as options on a URI say it."""

import pytest
import torch

from shiftbench.data.base import load_dataset
from shiftbench.encoders.preprocess import NORMS, flag, normalisation, preprocessing
from shiftbench.errors import InputError


@pytest.mark.parametrize("name", NORMS)
def test_every_norm_is_three_means_and_three_positive_deviations_within_the_scale(name):
    mean, std = normalisation(name)
    assert len(mean) == len(std) == 3
    assert all(0 <= value <= 1 for value in (*mean, *std))
    assert min(std) > 0


@pytest.mark.realdata
def test_cifars_norm_is_that_of_its_pixels(real_data):
    images, (mean, std) = load_dataset("cifar10").train.images[:], normalisation("cifar10")
    values = torch.arange(256) / 255
    for channel in range(3):
        share = torch.bincount(images[:, channel].flatten(), minlength=256) / images[:, channel].numel()
        center = (share * values).sum().item()
        assert center == pytest.approx(mean[channel], abs=1e-4)
        assert (share * (values - center) ** 2).sum().sqrt().item() == pytest.approx(std[channel], abs=1e-4)


def test_numbers_in_place_of_a_name():
    assert normalisation("0.5,0.4,0.3/0.2,0.1,1") == ((0.5, 0.4, 0.3), (0.2, 0.1, 1.0))


@pytest.mark.parametrize(
    "norm",
    ["0.5/0.2", "0.5,0.5,0.5/0.2,0.2,0", "a,b,c/1,1,1", "1,1,1/1,1,1/1", "0,0,0/nan,1,1", "123,116,103/1,1,1e9", "/"],
)
def test_numbers_that_are_no_normalisation(norm):
    with pytest.raises(InputError, match="three means, a slash and three"):
        normalisation(norm)


def test_options_build_the_preprocessing():
    options = {"norm": "half", "size": "24", "crop": "0.875", "interpolation": "bicubic"}
    assert preprocessing("w.pth", **options).describe() == {
        "mean": [0.5] * 3, "std": [0.5] * 3, "size": 24, "crop": 0.875, "interpolation": "bicubic"
    }  # fmt: skip
    assert preprocessing("w.pth", norm="half", default_size=224).size == 224
    assert preprocessing("w.pth", norm="half", default_size=224, size=96).size == 96
    assert preprocessing("w.pth", norm="half").size is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"'w\.pth' does not say how .* add \?norm= with one of none, half, imagenet, cifar10"),
        ({"norm": "imagnet"}, "Did you mean 'imagenet'"),
        ({"norm": "half", "size": "x"}, "size=x"),
        ({"norm": "half", "size": "-3"}, "size=-3"),
        ({"norm": "half", "size": "100000"}, "size=100000"),
        ({"norm": "half", "size": "32", "crop": "x"}, "crop=x"),
        ({"norm": "half", "size": "32", "crop": "7"}, "crop=7"),
        ({"norm": "half", "crop": "0.5"}, "crop=0.5"),
        ({"norm": "half", "interpolation": "cubic"}, "Did you mean 'bicubic'"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(InputError, match=message):
        preprocessing("'w.pth'", **options)


def test_flags_come_as_words_and_as_values():
    assert [flag("x", value) for value in ("true", "False", True, False)] == [True, False, True, False]
    with pytest.raises(InputError, match="x=1: use true or false"):
        flag("x", "1")
