"""A batch in parts has the gradients of the parts together; compiled, a network keeps its weights and their names."""

import copy

import pytest
import torch
from torch import nn

from shiftbench.errors import InputError
from shiftbench.trainers import network


def small() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)]
    return nn.Sequential(*layers, nn.BatchNorm1d(5))


def loss(features: torch.Tensor) -> torch.Tensor:
    """It compares all images of a batch."""
    return (features @ features.t()).softmax(dim=1).square().sum()


def test_parts_have_the_gradients_and_statistics_of_the_parts_together():
    """The witness runs the parts at once and keeps everything; BatchNorm counts each part once."""
    images, witness, parted = torch.randn(10, 3, 6, 6), small(), small()
    network.prepare(parted, compiled=False, parts=4)
    loss(torch.cat([witness(part) for part in images.split([3, 3, 2, 2])])).backward()
    loss(parted(images)).backward()
    for (name, found), expected in zip(parted.named_parameters(), witness.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, msg=lambda text, name=name: f"{name}: {text}")
    assert parted.state_dict().keys() == witness.state_dict().keys()
    torch.testing.assert_close(parted.state_dict(), witness.state_dict())
    torch.testing.assert_close(parted.eval()(images), witness.eval()(images))


def test_no_part_has_a_single_image():
    parted = small()
    network.prepare(parted, compiled=False, parts=4)
    for count in (2, 3, 5, 7):
        assert parted(torch.randn(count, 3, 6, 6)).shape == (count, 5)


def test_parts_keep_the_activations_of_one_part_at_a_time():
    """What the backward pass holds on to, counted by autograd's own hooks."""

    def kept(parts: int) -> int:
        model, sizes = small(), []
        network.prepare(model, compiled=False, parts=parts)
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            model(torch.randn(12, 3, 6, 6))
        return sum(sizes)

    assert kept(4) < 0.5 * kept(1)


def test_a_copy_made_before_is_not_changed():
    model = small()
    slow = copy.deepcopy(model)
    network.prepare(model, compiled=False, parts=2)
    slow(torch.randn(4, 3, 6, 6))
    assert slow[1].num_batches_tracked == 1
    assert model[1].num_batches_tracked == 0


def test_compiling_calls_torch_compile_and_keeps_the_names(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda forward: asked.append(forward) or forward)
    monkeypatch.setattr(network.shutil, "which", lambda name: name or None)
    model, images = small(), torch.randn(4, 3, 6, 6)
    expected = small()(images)
    network.prepare(model, compiled=True, parts=1)
    assert len(asked) == 1
    torch.testing.assert_close(model(images), expected)
    assert model.state_dict().keys() == small().state_dict().keys()


def test_compiling_without_a_compiler_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(network.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"trainer.compile=true needs a C\+\+ compiler"):
        network.prepare(small(), compiled=True, parts=1)


@pytest.mark.slow
def test_a_compiled_network_computes_the_same():
    if not any(map(network.shutil.which, network.COMPILERS)):
        pytest.skip("no C++ compiler here")
    model, images = small(), torch.randn(8, 3, 6, 6)
    expected = small()(images)
    network.prepare(model, compiled=True, parts=2)
    loss(model(images)).backward()
    whole = small()
    network.prepare(whole, compiled=True, parts=1)
    torch.testing.assert_close(whole(images), expected, atol=1e-4, rtol=1e-4)
