"""A wrong normalisation, a dead network and a constant one are noticed before hours are spent on them."""

import pytest
import torch
from torch import nn

from shiftbench.cli.doctor import photographs
from shiftbench.encoders.base import Encoder, module_encoder
from shiftbench.encoders.checks import unusual
from shiftbench.encoders.load import load_encoder
from shiftbench.encoders.preprocess import NORMS, Preprocess, normalisation

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images():
    return photographs(32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x, ""),
        (lambda x: x + 1e3, "hardly depends on the image"),
        (lambda x: x * 0 + 3, "is the same for all images"),
        (lambda x: torch.where(x > 2.5, torch.nan, x), "is not finite for"),
        (lambda x: x * (torch.arange(8) < 3), "is constant in 62% of its dimensions"),
    ],
)
def test_unusual_features(change, message):
    features = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    lines = unusual({"good": features, "bad": change(features)})
    assert [line.split()[0] for line in lines] == (["bad"] if message else [])
    assert message in " ".join(lines)


def trained_with(norm, images):
    """A network whose first BatchNorm has seen images with this normalisation."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    network[1].momentum = None  # the average over what it sees
    preprocess = Preprocess(*normalisation(norm))
    network.train()
    with torch.no_grad():
        for part in images.split(16):
            network(preprocess(part))
    return network.eval()


@pytest.mark.parametrize("norm", ["imagenet", "half", "none"])
@pytest.mark.parametrize("given", ["imagenet", "half", "none"])
def test_a_wrong_normalisation_is_noticed_and_the_right_one_named(norm, given, images):
    network = trained_with(norm, images[:32])
    encoder = module_encoder("mine", network, Preprocess(*normalisation(given)), device=CPU)
    lines = encoder.check(images[32:])
    if norm == given:
        assert lines == []
    else:
        [line] = lines
        assert line.startswith("mine: its first BatchNorm sees")
        named = line.partition("norm=")[2].partition(" ")[0]
        assert max(a / b for a, b in zip(NORMS[named][1], NORMS[norm][1], strict=True)) < 1.5


def test_networks_without_a_trained_batch_norm_have_nothing_to_compare(images):
    for uri in ("random:resnet18_cifar", "random:small_cnn", "pixels"):
        assert load_encoder(uri).check(images) == []
    dead = module_encoder("dead", nn.Sequential(nn.Flatten(), nn.Linear(3072, 4), nn.ReLU()), Preprocess(
        (0.0,) * 3, (1.0,) * 3), device=CPU)  # fmt: skip
    with torch.no_grad():
        dead.backbone[1].bias.fill_(-1e3)
    assert dead.check(images) == ["dead: backbone is the same for all images"]


def test_a_callables_features_are_checked_too(images):
    encoder = Encoder("odd", lambda x: {"backbone": torch.full((len(x), 3), torch.inf)}, fingerprint="")
    assert encoder.check(images) == ["odd: backbone is not finite for 64 of 64 images"]


@pytest.mark.realdata
@pytest.mark.parametrize(("norm", "wrong"), [("imagenet", False), ("cifar10", False), ("half", True), ("none", True)])
def test_real_weights(real_data, norm, wrong, images):
    weights = next(real_data.rglob("resnet20-12fca82f.th"), None)
    if weights is None:
        pytest.skip("no resnet20-12fca82f.th in SHIFTBENCH_DATA")
    lines = load_encoder(f"{weights}?norm={norm}").check(images)
    assert bool(lines) == wrong
    assert not wrong or "norm=imagenet" in lines[0]
