"""RobustBench's zoo, loaded from where the zoo keeps its files, and never by running them."""

import pytest
import torch

from shiftbench.encoders.load import load_encoder
from shiftbench.errors import InputError
from shiftbench.runtime import compat

robustbench = compat.robustbench()
NAME = "Hendrycks2020AugMix_WRN"


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    zoo = robustbench.model_zoo
    entry = zoo.model_dicts[zoo.enums.BenchmarkDataset.cifar_10][zoo.enums.ThreatModel.corruptions][NAME]
    return entry["model"]().eval()


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "cifar10" / "corruptions"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def images():
    return torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "wrap", [lambda s: {"state_dict": s, "epoch": 3}, lambda s: s, lambda s: {"last": s, "best": {}}]
)
def test_a_network_of_the_zoo(tmp_path, folder, network, images, wrap):
    """Its published file has no mu and sigma, as the zoo knows, and the wrapper of data-parallel training."""
    state = {f"module.{key}": value for key, value in network.state_dict().items() if key not in ("mu", "sigma")}
    torch.save(wrap(state), folder / f"{NAME}.pt")
    encoder = load_encoder(f"robustbench:cifar10/corruptions/{NAME}?model_dir={tmp_path}")
    with torch.no_grad():
        wanted = network(images.float() / 255)
    found = encoder.features(images)
    assert encoder.name == f"robustbench:{NAME}"
    assert encoder.feature_names == ("backbone", "logits")
    assert found["backbone"].shape == (4, 128)
    torch.testing.assert_close(found["logits"], wanted, rtol=1e-4, atol=1e-4)


def test_it_gives_what_the_zoo_gives(tmp_path, folder, network, images):
    torch.save(network.state_dict(), folder / f"{NAME}.pt")
    theirs = compat.robustbench().utils.load_model(NAME, tmp_path, "cifar10", "corruptions")
    with torch.no_grad():
        wanted = theirs(images.float() / 255)
    found = load_encoder(f"robustbench:cifar10/corruptions/{NAME}?model_dir={tmp_path}").features(images)["logits"]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


class Canary:
    def __reduce__(self):
        return (eval, ("__import__('pathlib').Path('canary').touch()",))


def test_a_pickle_that_runs_code_is_refused(tmp_path, folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Canary()}, folder / f"{NAME}.pt")
    with pytest.raises(InputError, match="wants to run"):
        load_encoder(f"robustbench:cifar10/corruptions/{NAME}?model_dir={tmp_path}")
    assert not (tmp_path / "canary").exists()


def test_a_download_is_the_zoos_own(tmp_path, network, monkeypatch):
    asked = []

    def download(gdrive_id, file):
        asked.append(gdrive_id)
        torch.save(network.state_dict(), file)

    monkeypatch.setattr(robustbench.utils, "download_gdrive_new", download)
    uri = f"robustbench:cifar10/corruptions/{NAME}?model_dir={tmp_path / 'zoo'}"
    with pytest.raises(InputError, match=rf"{NAME}.pt: add \?download=true"):
        load_encoder(uri)
    assert asked == []
    load_encoder(f"{uri}&download=true")
    load_encoder(uri)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("cifar10", "DATASET/THREAT/NAME is needed"),
        (f"cifar/corruptions/{NAME}", "Unknown RobustBench data set 'cifar'. Did you mean 'cifar10'"),
        (f"cifar10/corruption/{NAME}", "Did you mean 'corruptions'"),
        ("cifar10/corruptions/Hendrycks2020AugMix_WNR", f"Did you mean '{NAME}'"),
        ("cifar10/corruptions/Diffenderfer2021Winning_LRR_CARD_Deck", "not one network with one file"),
    ],
)
def test_what_cannot_be_loaded(uri, message):
    with pytest.raises(InputError, match=message):
        load_encoder(f"robustbench:{uri}")


def test_weights_of_another_network(tmp_path, folder):
    torch.save({"conv1.weight": torch.zeros(3)}, folder / f"{NAME}.pt")
    with pytest.raises(InputError, match=r"the weights match 2 of 190 tensors.*missing"):  # its own mu and sigma
        load_encoder(f"robustbench:cifar10/corruptions/{NAME}?model_dir={tmp_path}")
