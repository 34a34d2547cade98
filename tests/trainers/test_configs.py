"""The configuration files: they compose, name what exists, and hold the published values."""

from importlib.resources import files

import pytest
import yaml

from shiftbench.configs import compose
from shiftbench.errors import InputError
from shiftbench.registry import BACKBONES, DATASETS, METHODS
from shiftbench.trainers.augment import Augmentation
from shiftbench.trainers.options import Options, bind

CONFIGS = files("shiftbench.configs")
PATHS = {"folder": ["data.path=x"], "npz": ["data.path=x"]}


def names(group: str) -> list[str]:
    return sorted(
        file.name.removesuffix(".yaml") for file in (CONFIGS / group).iterdir() if file.name.endswith(".yaml")
    )


@pytest.mark.parametrize("data", names("data"))
@pytest.mark.parametrize("method", METHODS.names())
def test_every_method_composes_with_every_data_set(method, data):
    config = compose("train", [f"method={method}", f"data={data}", *PATHS.get(data, [])])
    assert set(config) == {"seed", "device", "runs", "resume", "data", "trainer"}
    options = Options(**bind(Options, config["trainer"], "trainer"))
    Augmentation(**bind(Augmentation, options.augmentation, "trainer.augmentation"))
    assert options.backbone in BACKBONES
    parameters = {key: value for key, value in options.method.items() if key != "name"}
    bind(METHODS.load(options.method["name"]), parameters, "trainer.method", reserved=("samples", "k"))
    assert config["data"]["name"] == data


def test_every_registered_name_has_its_file():
    assert set(names("method")) == {*METHODS.names(), "base"}
    assert set(names("data")) == set(DATASETS.names())


@pytest.mark.parametrize("recipe", names("recipe"))
def test_a_recipe_is_for_a_method_and_a_data_set(recipe):
    method, data = recipe.split("_", 1)
    assert method in METHODS
    assert data in DATASETS


@pytest.mark.parametrize("file", [f"{group}/{name}.yaml" for group in ("method", "recipe") for name in names(group)])
def test_every_value_says_where_it_comes_from(file):
    lines = (CONFIGS / file).read_text(encoding="utf-8").splitlines()
    values = [line for line in lines if ": " in line and not line.startswith("#") and "name: " not in line]
    assert [line for line in values if "#" not in line] == []


def test_every_option_of_a_method_is_in_its_file():
    for name in METHODS.names():
        text = yaml.safe_load((CONFIGS / f"method/{name}.yaml").read_text(encoding="utf-8"))
        options = {key: value for key, value in text["method"].items() if key != "name"}
        bind(METHODS.load(name), options, name, reserved=("samples", "k"))
        allowed = set(METHODS.load(name).__init__.__kwdefaults__)
        assert set(options) == allowed


def test_cifar10_recipe_is_the_published_one():
    """Section 1.3 of the reimplementation notes; the batch, the schedule and the optimiser are the same everywhere."""
    trainer = compose("train", ["method=concurl", "data=cifar10"])["trainer"]
    wanted = {"backbone": "resnet18_cifar", "epochs": 2000, "batch": 128, "lr": 0.015, "momentum": 0.9}
    wanted |= {"weight_decay": 5e-4, "optimizer": "sgd", "schedule": "multistep", "warmup": 0, "drop_last": False}
    assert {key: trainer[key] for key in wanted} == wanted
    method = {"alpha": 0, "beta": 1, "gamma": 1, "tau": 0.85, "negatives": 4096, "bank_momentum": 0.5}
    method |= {"transform_count": 64, "projection_dim": 152, "cluster_dim": 256, "hidden_dim": 2048, "eps": 0.05}
    assert {key: trainer["method"][key] for key in method} == method
    views = {"crop": [0.2, 1.0], "grayscale": 0.2, "jitter": [0.4] * 4, "flip": 0.5}
    assert {key: trainer["augmentation"][key] for key in views} == views
    assert trainer["augmentation"]["second_view"] * 0.4 == pytest.approx(0.38)


def test_digits_are_never_mirrored_nor_given_a_benchmark_corruption():
    views = Augmentation(**bind(Augmentation, compose("train")["trainer"]["augmentation"], "trainer.augmentation"))
    assert views.flip == 0
    assert views.jitter == (0, 0, 0, 0)


def test_overrides_win_over_recipes():
    config = compose("train", ["trainer.epochs=2", "seed=7", "trainer.method.tau=0.3"])
    assert (config["trainer"]["epochs"], config["seed"], config["trainer"]["method"]["tau"]) == (2, 7, 0.3)


def test_compose_may_be_called_within_hydra():
    from hydra import compose as inner
    from hydra import initialize_config_module

    with initialize_config_module("shiftbench.configs", version_base="1.3"):
        compose("train")
        assert inner("train", ["seed=5"]).seed == 5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method=concrul", "Unknown method 'concrul'. Did you mean 'concurl'?"),
        ("data=digit", "Unknown data 'digit'. Did you mean 'digits'?"),
        ("data=folder", r"data.path has no default: give data.path=VALUE."),
        ("trainer.epoch=1", "There is no option 'trainer.epoch'"),
        ("trainer.epochs", "missing EQUAL"),
        ("seed=1,2", "Ambiguous value"),
    ],
)
def test_a_wrong_override_is_one_clear_line(override, message):
    with pytest.raises(InputError, match=message) as caught:
        compose("train", [override])
    assert "\n" not in str(caught.value)
