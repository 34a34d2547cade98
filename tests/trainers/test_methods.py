"""What every method keeps to: where its gradients go, that it learns, what it saves, and how it reduces to others."""

import math
from typing import get_args

import numpy as np
import pytest
import torch

from shiftbench.data.base import load_dataset
from shiftbench.errors import InputError
from shiftbench.registry import METHODS
from shiftbench.trainers.engine import Trainer
from shiftbench.trainers.options import accepted

RESERVED = ("samples", "k")  # the engine's, not the user's


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_falls_when_the_same_views_come_again(build, train_steps, method):
    losses = [sum(step.values()).item() for step in train_steps(build(method), 40, lr=0.02, same=True)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0] - 0.04 * abs(losses[0])


@pytest.mark.parametrize("method", METHODS)
def test_two_epochs_on_digits(tiny, tmp_path, method):
    """64 real images: every value is finite, and the backbone has moved."""
    digits = load_dataset("digits").train
    np.savez(tmp_path / "few.npz", images=digits.images[:80].permute(0, 2, 3, 1).numpy(), labels=digits.labels[:80])
    trainer = Trainer(tiny(f"method={method}", f"data.path='{tmp_path}/few.npz'", "trainer.epochs=2"))
    before = {name: value.clone() for name, value in trainer.method.backbone.named_parameters()}
    for _ in range(2):
        trainer.epoch(lambda count, text: None)
    assert any(not torch.equal(before[name], value) for name, value in trainer.method.backbone.named_parameters())
    values = [value for row in trainer.history for value in row.values() if value is not None]
    assert np.isfinite(values).all()


AT_REST = ("concurl", "prototypes")  # as published: no term of the loss moves them


@pytest.mark.parametrize("method", METHODS)
def test_gradients_go_to_what_is_trained(build, train_steps, method):
    model = build(method)
    train_steps(model, 1)
    for name, parameter in model.named_parameters():
        trained = parameter.requires_grad and (method, name) != AT_REST
        assert (parameter.grad is not None) == trained, name
    trained = {parameter for group in model.parameter_groups() for parameter in group["params"]}
    assert trained == {parameter for parameter in model.parameters() if parameter.requires_grad}
    assert not any(buffer.requires_grad for buffer in model.buffers())


@pytest.mark.parametrize("method", METHODS)
def test_the_state_holds_all_that_a_step_needs(build, train_steps, method):
    """A method built anew from another seed goes on as the first one would."""
    first, second = build(method), build(method, seed=7)
    train_steps(first, 2)
    second.load_state_dict(first.state_dict())
    for terms, expected in zip(train_steps(second, 2), train_steps(first, 2), strict=True):
        assert terms == expected


def test_a_head_called_cluster_scores_each_cluster(build):
    heads = {method: build(method).heads for method in METHODS}
    shapes = {method: own["cluster"](torch.randn(6, 16)).shape for method, own in heads.items() if "cluster" in own}
    assert set(shapes.values()) == {(6, 5)}


@pytest.mark.parametrize("method", ["drc", "decl", "cc", "pica"])
def test_the_sizes_of_learned_clusters_are_watched(build, train_steps, method):
    model = build(method)
    train_steps(model, 1)
    assert 0 <= model.diagnostics["mass_min"] <= 0.2 <= model.diagnostics["mass_max"] <= 1


def test_masses_are_the_smallest_and_the_largest_mean_assignment(build):
    model = build("npid")
    model.watch_masses(torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.25, 0.25]]))
    assert model.diagnostics == {"mass_min": 0.125, "mass_max": 0.75}


@pytest.mark.parametrize("method", METHODS)
def test_every_number_of_a_method_has_a_range(build, method):
    """Which not-a-number is outside of, and a whole number far below 0."""
    options = {name: parameter for name, parameter in accepted(METHODS.load(method)).items() if name not in RESERVED}
    kinds = {name: get_args(parameter.annotation) or [parameter.annotation] for name, parameter in options.items()}
    outside = {name: math.nan if float in kind else -9 for name, kind in kinds.items() if {float, int} & {*kind}}
    for name, value in outside.items():
        with pytest.raises(InputError, match=f"={value} must be "):
            build(method, **{name: value})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k", [1, 41])
def test_a_number_of_clusters_that_makes_no_sense_is_refused(build, method, k):
    with pytest.raises(InputError, match=f"k={k} clusters for 40 images: at least 2 and at most 40"):
        build(method, k=k)


@pytest.mark.parametrize(
    ("method", "options", "simple", "its"),
    [
        ("concurl", {"gamma": 0.0, "tau": 0.5, "negatives": 8}, "npid", {"temperature": 0.5, "negatives": 8}),
        ("concurl", {"gamma": 0.0, "tau": 1.0, "negatives": 0}, "idfd", {"decorrelation": 0.0}),
        ("idfd", {"decorrelation": 0.0}, "npid", {"temperature": 1.0}),
        ("decl", {"cluster": 0.0, "anchor": 0.0}, "simclr", {}),
        ("cc", {"cluster": 0.0}, "simclr", {}),
        ("drc", {"features": 0.0, "balance": "entropy", "balance_weight": 2.0}, "pica", {}),
    ],
)
def test_without_its_own_terms_a_method_is_the_simpler_one(build, train_steps, method, options, simple, its):
    """From the same seed: the same losses, and the same weights after three steps."""
    whole, part = build(method, **options), build(simple, **its)
    for terms, expected in zip(train_steps(whole, 3), train_steps(part, 3), strict=True):
        assert list(terms.values()) == list(expected.values())
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), part.parameters(), strict=True))


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        ("npid", {"temperature": 0.0}),
        ("npid", {"instance_dim": 0}),
        ("idfd", {"decorrelation": -1.0}),
        ("idfd", {"feature_temperature": 0.0}),
        ("simclr", {"temperature": -0.5}),
        ("simclr", {"hidden_dim": 0}),
        ("byol", {"momentum": 1.0}),
        ("byol", {"predictor_lr": 0.0}),
        ("cc", {"cluster_temperature": 0.0}),
        ("cc", {"cluster": -1.0}),
        ("drc", {"features": 0.0, "probabilities": 0.0}),
        ("drc", {"balance_weight": -0.1}),
        ("drc", {"feature_temperature": 0.0}),
        ("pica", {"balance_weight": -1.0}),
        ("decl", {"alpha": 0.0}),
        ("decl", {"warmup": -0.1}),
        ("decl", {"warmup": 1.0}),
        ("concurl", {"slow_momentum": 1.0}),
    ],
)
def test_values_outside_their_range_are_refused(build, method, wrong):
    with pytest.raises(InputError, match=str(next(iter(wrong.values())))) as caught:
        build(method, **wrong)
    assert "\n" not in str(caught.value)
