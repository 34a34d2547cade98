"""One arithmetic for one comparison, and bfloat16 only where it says the same."""

import copy
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from shiftbench.encoders.base import Encoder, module_encoder
from shiftbench.encoders.load import load_encoder
from shiftbench.encoders.precision import fast_copy, fold_batch_norm, has_fast_bfloat16
from shiftbench.encoders.preprocess import Preprocess
from shiftbench.encoders.settle import agreement, settle
from shiftbench.errors import InputError
from shiftbench.runtime import compat

PLAIN = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
CPU = torch.device("cpu")
SETTLE = sys.modules[settle.__module__]  # the package has the function under the module's name


@pytest.fixture
def images():
    return torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=[True, False], ids=["fast", "slow"])
def fast(request, monkeypatch):
    monkeypatch.setattr(SETTLE, "has_fast_bfloat16", lambda device: request.param)
    return request.param


class Chaos(nn.Module):
    """Magnifies rounding until nothing else is left."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3072, 8)

    def forward(self, images):
        return torch.sin(1e6 * self.linear(images.flatten(1)))


def trained(network):
    """Running statistics and scales as if it had been trained: none is 0 or 1."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_var, module.weight.data, module.bias.data, module.running_mean):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return network.eval()


def test_auto_follows_the_hardware(fast, images):
    encoders = [load_encoder("pixels"), load_encoder("random:small_cnn"), load_encoder("random:resnet18_cifar")]
    settled = settle(encoders, images)
    wanted = "bfloat16" if fast else "float32"
    assert [encoder.dtype for encoder in settled] == ["float32", wanted, wanted]
    assert settled[0] is encoders[0]
    assert [encoder.name for encoder in settled] == [encoder.name for encoder in encoders]
    assert encoders[1].dtype == "float32"
    assert settled[1]._running is not None
    if fast:
        assert settled[1].fingerprint != encoders[1].fingerprint
        assert agreement(encoders[1], settled[1], images) > 0.999


def test_an_encoder_that_bfloat16_changes_keeps_all_in_float32(monkeypatch, capsys, images):
    monkeypatch.setattr(SETTLE, "has_fast_bfloat16", lambda device: True)
    chaos = wrapped(Chaos(), "chaos")
    settled = settle([load_encoder("random"), chaos], images)
    assert {encoder.dtype for encoder in settled} == {"float32"}
    said = capsys.readouterr().err
    assert "bfloat16 features of chaos agree with float32 ones to" in said
    assert "all encoders run in float32" in said
    settled = settle([load_encoder("random"), chaos], images, "bfloat16")  # asked for: done, and said
    assert {encoder.dtype for encoder in settled} == {"bfloat16"}
    assert "used since they were asked for" in capsys.readouterr().err


def test_what_was_asked_for_holds_for_all(fast, images):
    pinned = load_encoder("random:small_cnn?dtype=float32")
    free = load_encoder("random:resnet18_cifar")
    assert {encoder.dtype for encoder in settle([pinned, free], images)} == {"float32"}
    assert {encoder.dtype for encoder in settle([free], images, "bfloat16")} == {"bfloat16"}
    again = settle(settle([pinned, free], images), images)
    assert {encoder.dtype for encoder in again} == {"float32"}
    other = load_encoder("random:small_cnn?dtype=bfloat16&seed=1")
    with pytest.raises(InputError, match="bfloat16 for random:small_cnn and float32 for random:small_cnn"):
        settle([pinned, other], images)
    with pytest.raises(InputError, match="float32 for the evaluation"):
        settle([other], images, "float32")
    with pytest.raises(InputError, match="Unknown dtype"):
        settle([free], images, "float16")


def test_agreement_is_the_correlation_of_centred_features(images):
    generator = np.random.default_rng(0)
    one, noise = generator.normal(size=(40, 5)) + 100, generator.normal(size=(40, 5))

    def fixed(values):
        return Encoder("fixed", lambda x: {"backbone": torch.from_numpy(values)}, fingerprint="")

    for scale in (0.0, 0.1, 1.0):
        other = one + scale * noise
        wanted = np.corrcoef((one - one.mean(0)).ravel(), (other - other.mean(0)).ravel())[0, 1]
        assert agreement(fixed(one), fixed(other), images) == pytest.approx(wanted, abs=1e-5)
    constant = np.ones((40, 5))
    assert agreement(fixed(constant), fixed(constant), images) == 1
    assert agreement(fixed(constant), fixed(one), images) == 0


class Fails(nn.Module):
    """A linear map that raises when it runs in one of ``dtypes``, and is not finite in one of ``infinite``."""

    def __init__(self, *dtypes, infinite=()):
        super().__init__()
        self.linear, self.dtypes, self.infinite = nn.Linear(3072, 8), dtypes, infinite

    def forward(self, images):
        features = self.linear(images.flatten(1))
        if features.dtype in self.dtypes:
            raise RuntimeError(f"no {features.dtype} here")
        return features * torch.inf if features.dtype in self.infinite else features


def wrapped(network, name="net"):
    return module_encoder(name, network, Preprocess(*PLAIN), device=CPU)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_encoder_that_fails_in_one_arithmetic_does_not_agree(monkeypatch, capsys, images, dtype):
    monkeypatch.setattr(SETTLE, "has_fast_bfloat16", lambda device: True)
    encoder = wrapped(Fails(dtype))
    assert agreement(encoder, encoder.with_dtype("bfloat16"), images) == 0
    assert agreement(encoder.with_dtype("bfloat16"), encoder, images) == 0
    kind = str(dtype).removeprefix("torch.")
    assert f"net fails in {kind} alone (RuntimeError: no {dtype} here)" in capsys.readouterr().err
    assert {one.dtype for one in settle([load_encoder("random"), encoder], images)} == {"float32"}


def test_an_encoder_that_fails_in_both_arithmetics_decides_nothing(monkeypatch, capsys, images):
    monkeypatch.setattr(SETTLE, "has_fast_bfloat16", lambda device: True)
    encoder = wrapped(Fails(torch.float32, torch.bfloat16))
    assert agreement(encoder, encoder.with_dtype("bfloat16"), images) is None
    settled = settle([load_encoder("random"), encoder], images)
    assert [one.dtype for one in settled] == ["bfloat16", "bfloat16"]
    assert not capsys.readouterr().err
    with pytest.raises(RuntimeError, match=r"no torch\.bfloat16 here"):  # its own error, where it is used
        settled[1](images)


@pytest.mark.parametrize(
    ("infinite", "same"),
    [((torch.bfloat16,), 0), ((torch.float32,), 0), ((torch.float32, torch.bfloat16), None)],
)
def test_features_that_are_not_finite_do_not_agree(images, infinite, same):
    encoder = wrapped(Fails(infinite=infinite))
    assert agreement(encoder, encoder.with_dtype("bfloat16"), images) == same


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "densenet121", "shufflenet_v2_x0_5"])
def test_folding_changes_rounding_only(name):
    network = trained(compat.torchvision().models.get_model(name, weights=None)).double()
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    with torch.no_grad():
        before = network(pixels)
        folded = fold_batch_norm(network)
        after = network(pixels)
    left = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert folded == norms - left > 0
    assert name == "densenet121" or left == 0  # where BatchNorm comes before the convolution it stays
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9 * float(before.abs().max()))


def test_what_must_not_be_folded_is_not(capsys):
    class Tricky(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared, self.read_twice, self.plain = (nn.Conv2d(3, 3, 1) for _ in range(3))
            self.a, self.b, self.c, self.d = (nn.BatchNorm2d(3) for _ in range(4))

        def forward(self, x):
            x = self.a(self.shared(x)) + self.b(self.shared(x))
            y = self.read_twice(x)
            return self.d(self.plain(self.c(y) + y)).mean((2, 3))

    class Undecided(nn.Sequential):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x

    pixels = torch.rand(2, 3, 8, 8)
    network = trained(Tricky())
    with torch.no_grad():
        before = network(pixels)
        assert fold_batch_norm(network, keep=["plain"]) == 0
        assert fold_batch_norm(network) == 1  # plain, d
        torch.testing.assert_close(network(pixels), before)
    assert not capsys.readouterr().err
    assert fold_batch_norm(trained(Undecided(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))) == 0
    assert (
        "Undecided keeps its BatchNorm in bfloat16, since its forward cannot be traced (Trace"
        in capsys.readouterr().err
    )
    assert fold_batch_norm(nn.Linear(3, 3)) == 0
    assert not capsys.readouterr().err


def test_layers_of_a_folded_network_are_still_the_same(images):
    encoder = load_encoder("random:resnet18_cifar?feature=conv1,bn1,layer2,backbone")
    low = encoder.with_dtype("bfloat16")
    assert agreement(encoder, low, images) > 0.999


def test_the_fast_copy_leaves_the_original_alone(images):
    encoder = load_encoder("random:small_cnn")
    before = encoder(images)
    quick = fast_copy(encoder.backbone)
    assert {p.dtype for p in quick.parameters()} == {torch.bfloat16, torch.float32}
    assert {p.dtype for p in encoder.backbone.parameters()} == {torch.float32}
    assert torch.equal(encoder(images), before)


def test_a_network_that_cannot_be_copied_runs_as_it_is(images):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        linear = nn.utils.weight_norm(nn.Linear(3072, 4))  # its weight is computed from two others
    encoder = wrapped(nn.Sequential(nn.Flatten(), linear))
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(encoder.backbone)
    assert 0.999 < agreement(encoder, encoder.with_dtype("bfloat16"), images) < 1


def test_bfloat16_on_each_device(device, images):
    encoder = load_encoder("random:resnet18_cifar", device=str(device))
    assert isinstance(has_fast_bfloat16(device), bool)
    assert agreement(encoder, encoder.with_dtype("bfloat16"), images) > 0.999


@pytest.mark.realdata
def test_bfloat16_on_a_trained_network(real_data):
    """Accuracy of ResNet-20 on 1,000 test images: 1 of them may change sides."""
    weights = next(real_data.rglob("resnet20-12fca82f.th"), None)
    if weights is None:
        pytest.skip("no resnet20-12fca82f.th in SHIFTBENCH_DATA")
    from shiftbench.data.base import load_dataset

    test = load_dataset("cifar10").test
    images, labels = test.images[:1000], torch.from_numpy(test.labels[:1000])
    encoder = load_encoder(f"{weights}?norm=imagenet")
    right = [
        int((e.features(images)["logits"].argmax(1) == labels).sum()) for e in (encoder, encoder.with_dtype("bfloat16"))
    ]
    assert right[0] > 890
    assert abs(right[0] - right[1]) <= 1
    assert agreement(encoder, encoder.with_dtype("bfloat16"), images[:64]) > 0.9999
