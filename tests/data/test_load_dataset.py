"""One way to load every data set: its options, what clusters are fitted on, and the configuration of each."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from shiftbench.data.base import load_dataset
from shiftbench.errors import InputError
from shiftbench.images import ImageFiles
from shiftbench.registry import DATASETS

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "data"


@pytest.mark.parametrize("name", DATASETS)
def test_its_configuration_names_its_options(name):
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert config.pop("name") == name
    assert config.pop("fit") == "train"
    parameters = inspect.signature(DATASETS.load(name)).parameters
    assert set(config) == set(parameters)
    for option, parameter in parameters.items():
        if option == "path":
            assert config[option] == "???"
        elif parameter.default is not None:  # where it is None, the configuration may say what that means
            assert config[option] == parameter.default


def test_no_other_configurations():
    assert {file.stem for file in CONFIGS.glob("*.yaml")} == set(DATASETS)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("digits", {"path": "x"}, r"The data set digits takes no data\.path; it takes root, size\."),
        ("cifar10", {"path": "x"}, r"The data set cifar10 takes no data\.path; it takes root, download\."),
        ("folder", {}, r"The data set folder needs data\.path\."),
        ("digits", {"fit": "test"}, r"data\.fit=test: one of train, train\+test is needed"),
        ("digit", {}, "Did you mean 'digits'"),
    ],
)
def test_options_that_are_none(name, options, message):
    with pytest.raises(InputError, match=message):
        load_dataset(name, **options)


def test_fit_on_train_and_test():
    apart, both = load_dataset("digits"), load_dataset("digits", fit="train+test")
    assert len(both.train) == 1797
    assert torch.equal(both.train.images[1437:], apart.test.images)
    np.testing.assert_array_equal(both.train.labels, np.concatenate([apart.train.labels, apart.test.labels]))
    assert torch.equal(both.test.images, apart.test.images)
    assert both.fingerprint != apart.fingerprint


def test_fit_on_train_and_test_in_files(tmp_path, monkeypatch):
    monkeypatch.setattr("shiftbench.images.IN_MEMORY", 0)
    for i in range(6):
        Image.new("RGB", (8, 8), (i, i, i)).save(tmp_path / f"{i}.png")
    both = load_dataset("folder", path=str(tmp_path), size=8, fit="train+test")
    assert isinstance(both.train.images, ImageFiles)
    assert sorted(both.train.images[:][:, 0, 0, 0].tolist()) == list(range(6))
    assert both.train.labels is None
