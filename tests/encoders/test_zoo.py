"""What the model zoos share: strict loading, split classifiers, downloads only on demand, extras named when they lack."""

import hashlib

import pytest
import torch
from torch import nn

from shiftbench.encoders import zoo
from shiftbench.encoders.preprocess import Preprocess
from shiftbench.encoders.taps import split_classifier
from shiftbench.errors import InputError

PLAIN = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(zoo, "import_module", missing)
    for name, extra in {"timm": "timm", "transformers": "hf", "onnxruntime": "onnx"}.items():
        with pytest.raises(InputError, match=rf"{name} is not installed: pip install 'shiftbench\[{extra}\]'"):
            zoo.library(name)


def test_split_classifier_takes_off_the_last_linear_layer():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Sequential(nn.Dropout(), nn.Linear(8, 3)))
    probe = torch.rand(4, 3, 2, 2)
    with torch.no_grad():
        before, layer = network.eval()(probe), network[3][1]
        assert split_classifier(network, probe) == "3.1"
        hidden = network(probe)
        assert hidden.shape == (4, 8)
        assert torch.equal(layer(hidden), before)


def test_split_classifier_leaves_other_outputs_alone():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Softmax(1))
    assert split_classifier(network, torch.rand(2, 3, 2, 2)) == ""
    assert isinstance(network[1], nn.Linear)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("0.weight"), "match 1 of 2 tensors of this network .missing 0.weight"),
        (lambda s: s.update({"0.bias": torch.zeros(9)}), "match 1 of 2 .* .another shape for 0.bias"),
        (lambda s: s.update({"1.bias": torch.zeros(9)}), "match 2 of 2 .* .unknown 1.bias"),
        (lambda s: s["0.bias"].fill_(torch.nan), "not finite 0.bias"),
    ],
)
def test_weights_that_do_not_fit(change, message):
    network = nn.Sequential(nn.Linear(3, 2))
    state = {key: value.clone() for key, value in network.state_dict().items()}
    zoo.fill_strictly(network, state, "it")
    change(state)
    with pytest.raises(InputError, match=message):
        zoo.fill_strictly(network, state, "it")


def test_a_url_changes_the_preprocessing():
    start = Preprocess((0.1,) * 3, (0.2,) * 3, 224, crop=0.875, interpolation="bicubic")
    assert zoo.adjusted(start).describe() == start.describe()
    changed = zoo.adjusted(start, norm="half", size="64", crop="none", interpolation="bilinear").describe()
    assert changed == {"mean": [0.5] * 3, "std": [0.5] * 3, "size": 64, "crop": None, "interpolation": "bilinear"}
    assert zoo.adjusted(start, crop="1").crop == 1
    for wrong in ({"size": "big"}, {"size": "0"}, {"crop": "2"}, {"norm": "imagenette"}, {"interpolation": "cubic"}):
        with pytest.raises(InputError):
            zoo.adjusted(start, **wrong)


def test_downloads_happen_only_when_allowed(tmp_path, monkeypatch, capsys):
    fetched = []

    def download(url, file, hash_prefix):
        fetched.append((url, hash_prefix))
        (tmp_path / "checkpoints" / "net-0123abcd.pth").write_bytes(b"weights")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    url = "https://example.org/net-0123abcd.pth"
    with pytest.raises(InputError, match=r"The weights of net are not in .*net-0123abcd.pth: add \?download=true"):
        zoo.hub_file(url, "net", False)
    assert fetched == []
    assert zoo.hub_file(url, "net", "true").read_bytes() == b"weights"
    assert fetched == [(url, "0123abcd")]
    assert f"from {url}, sha256 {hashlib.sha256(b'weights').hexdigest()}" in capsys.readouterr().err
    zoo.hub_file(url, "net", "true")
    assert len(fetched) == 1


def test_a_named_file_must_be_there(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        zoo.given_file(str(tmp_path / "no.pth"))
