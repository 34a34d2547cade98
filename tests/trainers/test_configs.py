"""The configuration files: they compose, name what exists, and hold the published values."""

import itertools
from importlib.resources import files
from typing import Any

import pytest
import torch
import yaml

from shiftbench.configs import compose
from shiftbench.encoders.backbones import build_backbone
from shiftbench.errors import InputError
from shiftbench.registry import BACKBONES, DATASETS, METHODS
from shiftbench.trainers.augment import Augmentation
from shiftbench.trainers.options import Options, accepted, bind

CONFIGS = files("shiftbench.configs")
BENCHMARKS = {  # and their images' side in pixels
    "digits": 32,
    "fashion_mnist": 28,
    "cifar10": 32,
    "cifar100_20": 32,
    "stl10": 96,
    "imagenet10": 224,
    "imagenet_dogs15": 224,
}
PATHS = {"folder": ["data.path=x"], "npz": ["data.path=x"]}


def names(group: str) -> list[str]:
    return sorted(
        file.name.removesuffix(".yaml") for file in (CONFIGS / group).iterdir() if file.name.endswith(".yaml")
    )


def check(method: str, data: str, preset: str) -> dict[str, Any]:
    """Compose, and bind every part to what takes it."""
    given = [f"method={method}", f"data={data}", f"preset={preset}", *PATHS.get(data, [])]
    config = compose("train", given)
    assert set(config) == {"seed", "device", "runs", "limit", "resume", "data", "trainer"}
    options = Options(**bind(Options, config["trainer"], "trainer"))
    Augmentation(**bind(Augmentation, options.augmentation, "trainer.augmentation"))
    assert options.backbone in BACKBONES
    parameters = {key: value for key, value in options.method.items() if key != "name"}
    bind(METHODS.load(options.method["name"]), parameters, "trainer.method", reserved=("samples", "k"))
    assert config["data"]["name"] == data
    with torch.device("meta"):
        stride = build_backbone(options.backbone).stride
    if data in BENCHMARKS:
        assert (config["trainer"]["augmentation"]["size"] or BENCHMARKS[data]) >= 2 * stride
    return config["trainer"]


@pytest.mark.parametrize("data", BENCHMARKS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_its_recipe_for_every_benchmark(method, data):
    check(method, data, "paper")


@pytest.mark.parametrize("data", names("data"))
def test_the_presets_compose_with_every_data_set(data):
    check("npid", data, "common")
    check("concurl", data, "paper")


def test_every_registered_name_has_its_file():
    assert set(names("method")) == {*METHODS.names(), "base"}
    assert set(names("data")) == set(DATASETS.names())


def test_every_recipe_belongs_to_a_choice_that_can_be_made():
    """A file whose name no preset, method and data set spell is never read."""
    choices = [names("preset"), METHODS.names(), DATASETS.names()]
    assert set(names("images")) <= set(DATASETS.names())
    assert set(names("variant")) <= {"_".join(choice) for choice in itertools.product(*choices[:2])}
    assert set(names("recipe")) <= {"_".join(choice) for choice in itertools.product(*choices)}


@pytest.mark.parametrize("data", sorted(set(BENCHMARKS) - {"digits"}))
def test_the_common_preset_differs_in_the_method_alone(data):
    """And in whether a third view is the image itself; a first and a second are augmented for every method."""
    trainers = [check(method, data, "common") for method in METHODS]
    for trainer in trainers:
        assert set(trainer["augmentation"].pop("clean")) <= {2}
        del trainer["method"]
    assert all(trainer == trainers[0] for trainer in trainers)


def test_digits_are_cheap_for_every_method():
    for method, preset in itertools.product(METHODS, names("preset")):
        trainer = compose("train", [f"method={method}", f"preset={preset}"])["trainer"]
        assert (trainer["backbone"], trainer["epochs"], trainer["augmentation"]["size"]) == ("small_cnn", 120, None)


@pytest.mark.parametrize("preset", names("preset"))
@pytest.mark.parametrize("method", ["concurl", "byol"])
def test_published_heads_too_wide_for_digits_are_narrowed(method, preset):
    assert compose("train", [f"method={method}", f"preset={preset}"])["trainer"]["method"]["hidden_dim"] == 256


@pytest.mark.parametrize(
    "file",
    [f"{group}/{name}.yaml" for group in ("method", "preset", "images", "variant", "recipe") for name in names(group)],
)
def test_every_value_says_where_it_comes_from(file):
    lines = (CONFIGS / file).read_text(encoding="utf-8").splitlines()
    values = [line for line in lines if ": " in line and not line.startswith("#") and "name: " not in line]
    assert [line for line in values if "#" not in line] == []


def test_every_option_of_a_method_is_in_its_file():
    for name in METHODS.names():
        text = yaml.safe_load((CONFIGS / f"method/{name}.yaml").read_text(encoding="utf-8"))
        options = {key: value for key, value in text["method"].items() if key != "name"}
        bind(METHODS.load(name), options, name, reserved=("samples", "k"))
        assert set(options) == set(accepted(METHODS.load(name))) - {"samples", "k"}


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


@pytest.mark.parametrize(
    ("method", "data", "wanted"),
    [
        ("concurl", "cifar100_20", {"lr": 0.06, "tau": 0.35, "transform_count": 16, "projection_dim": 88}),
        ("concurl", "imagenet10", {"lr": 0.03, "tau": 1.0, "transform_count": 1, "projection_dim": 104, "size": 160}),
        ("concurl", "imagenet_dogs15", {"lr": 0.06, "tau": 0.5, "transform_count": 64, "projection_dim": 136}),
        ("idfd", "cifar10", {"epochs": 2000, "lr": 0.03, "batch": 128, "temperature": 1.0, "feature_temperature": 2.0}),
        ("idfd", "cifar10", {"flip": 0.0, "jitter": [0.4, 0.4, 0.4, 0.0], "grayscale_first": False, "negatives": 0}),
        ("npid", "cifar10", {"epochs": 200, "temperature": 0.1, "milestones": [0.6, 0.8], "flip": 0.0, "lr": 0.03}),
        ("simclr", "cifar10", {"batch": 512, "lr": 0.4, "weight_decay": 1e-4, "temperature": 0.1, "final_lr": 1e-3}),
        ("byol", "cifar10", {"batch": 512, "lr": 0.05, "momentum": 0.996, "predictor_lr": 10.0, "crop": [0.08, 1.0]}),
        ("byol", "cifar100_20", {"batch": 256, "warmup": 0.05, "hidden_dim": 4096, "instance_dim": 256}),
        ("cc", "cifar10", {"backbone": "resnet34", "size": 224, "optimizer": "adam", "lr": 3e-4, "batch": 256}),
        ("cc", "imagenet10", {"backbone": "resnet34", "size": 224, "jitter": [0.8, 0.8, 0.8, 0.2], "blur": 0.5}),
        ("decl", "cifar10", {"batch": 128, "epochs": 2000, "weight_decay": 0.0, "clean": [2], "std": [1.0, 1.0, 1.0]}),
        ("drc", "cifar10", {"optimizer": "adam", "lr": 1e-4, "batch": 256, "epochs": 200, "balance_weight": None}),
        ("pica", "stl10", {"batch": 128, "backbone": "resnet34", "balance_weight": 2.0, "clean": [0]}),
    ],
)
def test_paper_recipes_hold_the_published_values(method, data, wanted):
    """The reimplementation notes: sections 1.3 and 2.2 of one, 1.5, 2.3 and 3 of the other."""
    trainer = compose("train", [f"method={method}", f"data={data}"])["trainer"]
    flat = {**trainer, **trainer["augmentation"], **trainer["method"]}
    assert {key: flat[key] for key in wanted} == wanted


@pytest.mark.parametrize("preset", names("preset"))
def test_the_image_that_decl_assigns_is_not_augmented(preset):
    assert compose("train", ["method=decl", f"preset={preset}"])["trainer"]["augmentation"]["clean"] == [2]


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
        ("preset=papers", "Unknown preset 'papers'. Did you mean 'paper'?"),
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
