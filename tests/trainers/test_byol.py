"""BYOL: its loss, its slow network, and what of it is saved."""

import math

import pytest
import torch
from torch import nn

from shiftbench.trainers.byol import byol_loss, follow, momentum_at, slow_copy


def test_loss_of_the_specification_vector_and_of_known_angles():
    z, other = torch.tensor([[2.0, 0], [0, 1], [1, 1]]), torch.tensor([[1.0, 0], [0, 2], [1, -1]])
    assert byol_loss(z, other).item() == pytest.approx(0.666667, abs=1e-6)
    assert byol_loss(z, 3 * z).item() == pytest.approx(0, abs=1e-6)
    assert byol_loss(z, -z).item() == pytest.approx(4)


def test_targets_get_no_gradient():
    predictions, targets = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)).unbind()
    predictions.requires_grad_()
    targets.requires_grad_()
    byol_loss(predictions, targets).backward()
    assert predictions.grad.abs().sum() > 0
    assert targets.grad is None


def test_momentum_rises_from_its_start_to_1():
    assert momentum_at(0.996, 0.0) == pytest.approx(0.996)
    assert momentum_at(0.996, 0.5) == pytest.approx(0.998)
    assert momentum_at(0.996, 1.0) == 1
    assert momentum_at(0.9, 0.25) == pytest.approx(1 - 0.1 * (math.cos(math.pi / 4) + 1) / 2)


def test_the_slow_copy_follows_by_its_momentum():
    fast = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    slow = slow_copy(fast)
    assert not any(parameter.requires_grad for parameter in slow.parameters())
    before = [parameter.clone() for parameter in slow.parameters()]
    with torch.no_grad():
        for parameter in fast.parameters():
            parameter += 1
    fast(torch.randn(4, 3))
    follow(slow, fast, 0.9)
    for was, now, goal in zip(before, slow.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(now, 0.9 * was + 0.1 * goal)
    assert torch.equal(slow[1].running_mean, torch.zeros(2))


def test_the_saved_network_is_the_slow_one(build, train_steps):
    model = build("byol", momentum=0.5)
    pairs = [(model.backbone, model.online["backbone"]), (model.heads["head"], model.online["projector"])]
    starts = [[parameter.clone() for parameter in fast.parameters()] for _, fast in pairs]
    for start, (slow, _) in zip(starts, pairs, strict=True):
        assert all(map(torch.equal, start, slow.parameters()))
    train_steps(model, 1)
    for start, (slow, fast) in zip(starts, pairs, strict=True):
        for was, one, other in zip(start, slow.parameters(), fast.parameters(), strict=True):
            torch.testing.assert_close(one, (was + other) / 2)
        assert not all(map(torch.equal, start, fast.parameters()))
    torch.testing.assert_close(model.heads["head"](torch.randn(3, 16)).norm(dim=1), torch.ones(3))


def test_at_the_end_the_slow_network_stands_still(build, train_steps):
    model = build("byol")
    model.progress = 1.0
    start = [parameter.clone() for parameter in model.backbone.parameters()]
    train_steps(model, 2)
    assert all(map(torch.equal, start, model.backbone.parameters()))


def test_the_predictor_has_its_own_rate(build):
    model = build("byol", predictor_lr=10.0)
    network, predictor = model.parameter_groups()
    assert (network["lr_scale"], predictor["lr_scale"]) == (1.0, 10.0)
    assert set(predictor["params"]) == set(model.online["predictor"].parameters())


def test_both_directions_count_half(build):
    """By hand: each view's prediction against the slow network's projection of the other."""
    model = build("byol").eval()
    views = torch.randn(2, 5, 3, 4, 4, generator=torch.Generator().manual_seed(0)).unbind()
    online = [model.online["predictor"](model.online["projector"](model.online["backbone"](view))) for view in views]
    slow = [model.heads["head"](model.backbone(view)) for view in views]
    cosines = [torch.cosine_similarity(online[a], slow[1 - a], dim=1).mean() for a in (0, 1)]
    expected = 2 - cosines[0] - cosines[1]
    torch.testing.assert_close(model.losses(views, torch.arange(5))["prediction"], expected)
