"""timm's networks, loaded from where the Hugging Face hub keeps its files."""

import pytest
import torch
from safetensors.torch import save_file

from shiftbench.encoders.load import load_encoder
from shiftbench.errors import InputError
from shiftbench.runtime import compat

compat.torchvision()
timm = pytest.importorskip("timm", reason="the extra timm is not installed")
NAME, TAG = "resnet10t", "c3_in1k"


@pytest.fixture
def images():
    return torch.randint(0, 256, (3, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return timm.create_model(NAME).eval()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The cache of the hub, in a folder of its own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_published_weights_with_the_tags_preprocessing(hub, network, images):
    repository, commit = hub / f"models--timm--{NAME}.{TAG}", "a" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots" / commit).mkdir(parents=True)
    save_file(network.state_dict(), repository / "snapshots" / commit / "model.safetensors")
    for uri in (f"timm:{NAME}.{TAG}", f"timm:{NAME}"):
        encoder = load_encoder(uri)
        about = encoder.origin["preprocess"]
        assert (about["size"], about["crop"], about["interpolation"]) == (176, 0.875, "bicubic")
        data = timm.data.resolve_model_data_config(network)
        assert (about["mean"], about["std"]) == (list(data["mean"]), list(data["std"]))
        with torch.no_grad():
            pixels = encoder.preprocess(images)
            wanted = network.forward_head(network.forward_features(pixels), pre_logits=True)
            logits = network(pixels)
        found = encoder.features(images)
        assert encoder.feature_names == ("backbone", "logits")
        torch.testing.assert_close(found["backbone"], wanted, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found["logits"], logits, rtol=1e-4, atol=1e-4)


def test_ones_own_weights_with_other_classes_and_another_size(tmp_path, images):
    network = timm.create_model(NAME, num_classes=7).eval()
    torch.save(
        {"state_dict": {f"module.{key}": value for key, value in network.state_dict().items()}}, tmp_path / "w.pth"
    )
    encoder = load_encoder(
        f"timm:{NAME}.{TAG}?weights={tmp_path / 'w.pth'}&size=40&crop=none&norm=half&feature=layer2,logits"
    )
    with torch.no_grad():
        wanted = network((images.float() / 255 - 0.5) / 0.5)
    found = encoder.features(images)
    assert found["layer2+avg"].shape == (3, 128)
    torch.testing.assert_close(found["logits"], wanted, rtol=1e-4, atol=1e-4)


def test_a_transformer(tmp_path, images):
    save_file(timm.create_model("vit_tiny_patch16_224").state_dict(), tmp_path / "w.safetensors")
    encoder = load_encoder(
        f"timm:vit_tiny_patch16_224?weights={tmp_path / 'w.safetensors'}&feature=backbone,blocks.1&pool=cls"
    )
    found = encoder.features(images[:1])
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "backbone": (1, 192),
        "blocks.1+cls": (1, 192),
    }


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("timm:resnet10", "no network 'resnet10'. Did you mean 'resnet10t'"),
        (f"timm:{NAME}.a1", f"no weights '{NAME}.a1'; its tags of {NAME} are {TAG}"),
        (f"timm:{NAME}.{TAG}", rf"not in the Hugging Face cache, as timm/{NAME}.{TAG}: add \?download=true"),
    ],
)
def test_what_cannot_be_loaded(hub, uri, message):
    with pytest.raises(InputError, match=message):
        load_encoder(uri)


def test_a_download_is_the_hubs_own(hub, tmp_path, network, images, monkeypatch, capsys):
    """The first of the names under which the hub may have it."""
    asked = []

    def download(repository, name):
        asked.append((repository, name))
        if name.endswith(".safetensors"):
            raise huggingface_hub.errors.EntryNotFoundError("none")
        torch.save(network.state_dict(), tmp_path / name)
        return str(tmp_path / name)

    huggingface_hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    encoder = load_encoder(f"timm:{NAME}.{TAG}?download=true&size=32&crop=none")
    assert asked == [(f"timm/{NAME}.{TAG}", "model.safetensors"), (f"timm/{NAME}.{TAG}", "pytorch_model.bin")]
    assert f"sha256 {encoder.origin['sha256']}" in capsys.readouterr().err.replace("\n", "")


def test_weights_of_another_network(tmp_path, network):
    torch.save(network.state_dict(), tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"'w.pth' does not fit timm:resnet18: .*Missing key"):
        load_encoder(f"timm:resnet18?weights={tmp_path / 'w.pth'}")
