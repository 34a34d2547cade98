"""torchvision's classifiers, loaded from where torch.hub keeps its files."""

import hashlib

import pytest
import torch

from shiftbench.encoders.load import load_encoder
from shiftbench.errors import InputError
from shiftbench.runtime import compat

NAME, WEIGHTS = "shufflenet_v2_x0_5", "IMAGENET1K_V1"


@pytest.fixture
def images():
    return torch.randint(0, 256, (3, 3, 40, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def models():
    return compat.torchvision().models


@pytest.fixture
def network(models):
    torch.manual_seed(0)
    return models.get_model(NAME, weights=None).eval()


@pytest.fixture
def cached(tmp_path, monkeypatch, models, network):
    """Random weights, where torch.hub would put the published ones."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    url = models.get_model_weights(NAME)[WEIGHTS].url
    file = tmp_path / "checkpoints" / url.rpartition("/")[2]
    file.parent.mkdir()
    torch.save(network.state_dict(), file)
    return file


def test_published_weights_with_their_own_preprocessing(cached, models, network, images):
    encoder = load_encoder(f"torchvision:{NAME}/{WEIGHTS}")
    transform = models.get_model_weights(NAME)[WEIGHTS].transforms()
    assert encoder.feature_names == ("backbone", "logits")
    with torch.no_grad():
        pixels = transform(images)
        wanted = network(pixels)
        hidden = encoder.backbone(encoder.preprocess(images))
    found = encoder.features(images)
    scale = float(wanted.abs().max())
    assert (found["logits"] - wanted).abs().max() < 0.02 * scale  # one level of 255 in some pixels
    torch.testing.assert_close(network.fc(hidden), found["logits"], rtol=1e-4, atol=1e-4 * scale)
    about = encoder.origin
    assert about["sha256"] == hashlib.sha256(cached.read_bytes()).hexdigest()
    assert (about["preprocess"]["size"], about["preprocess"]["crop"]) == (224, 0.875)


def test_ones_own_weights(tmp_path, models, images):
    torch.manual_seed(1)
    network = models.get_model(NAME, weights=None, num_classes=7).eval()
    torch.save({"model": {f"module.{key}": value for key, value in network.state_dict().items()}}, tmp_path / "w.pth")
    encoder = load_encoder(f"torchvision:{NAME}?weights={tmp_path / 'w.pth'}&norm=half")
    with torch.no_grad():
        wanted = network((images.float() / 255 - 0.5) / 0.5)
    torch.testing.assert_close(encoder.features(images)["logits"], wanted, rtol=1e-4, atol=1e-5)
    smaller = load_encoder(f"torchvision:{NAME}?weights={tmp_path / 'w.pth'}&norm=half&size=32&feature=stage3")
    assert smaller.feature_names == ("stage3+avg",)
    assert smaller(images).shape == (3, 96)


def test_without_its_classifier(tmp_path, network, images):
    torch.save({key: value for key, value in network.state_dict().items() if "fc" not in key}, tmp_path / "w.pth")
    assert load_encoder(f"torchvision:{NAME}?weights={tmp_path / 'w.pth'}&norm=half").feature_names == ("backbone",)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("torchvision:resnet81", "no classifier 'resnet81'. Did you mean 'resnet18'"),
        ("torchvision:fasterrcnn_resnet50_fpn", "no classifier"),
        (f"torchvision:{NAME}", rf"needs weights: {NAME}/{WEIGHTS}, or {NAME}\?weights=PATH"),
        (f"torchvision:{NAME}/V7", f"Unknown weights of {NAME} 'V7'. Available: {WEIGHTS}"),
        (f"torchvision:{NAME}/{WEIGHTS}", r"not in .*: add \?download=true to fetch them, once"),
        (f"torchvision:{NAME}/{WEIGHTS}?download=yes", "download=yes: use true or false"),
        (f"torchvision:{NAME}?weights=nothing.pth&norm=half", "weights=nothing.pth: there is no such file"),
        (f"torchvision:{NAME}?weights=nothing.pth", "does not say how its images were normalised"),
    ],
)
def test_what_cannot_be_loaded(tmp_path, monkeypatch, uri, message):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(InputError, match=message):
        load_encoder(uri)


def test_weights_of_another_network(tmp_path, network):
    torch.save(network.state_dict(), tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"the weights match \d+ of \d+ tensors of this network"):
        load_encoder(f"torchvision:mobilenet_v3_small?weights={tmp_path / 'w.pth'}&norm=half")
