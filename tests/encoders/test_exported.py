"""Exported graphs: ONNX as data, torch's archives only where they are trusted."""

import warnings

import pytest
import torch
from torch import nn

from shiftbench.encoders.load import load_encoder
from shiftbench.errors import InputError

DYNAMIC = ({0: torch.export.Dim("n")},)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()


@pytest.fixture
def images():
    return torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def wanted(network, images):
    with torch.no_grad():
        return network((images.float() / 255 - 0.5) / 0.5)


def to_onnx(network, file, example, **options):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript, with which torch writes ONNX, is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (example,), file, verbose=False, **options)


def to_torchscript(network, file):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network, torch.rand(2, 3, 32, 32)).save(str(file))


@pytest.mark.parametrize(
    "options", [{"dynamic_shapes": DYNAMIC}, {"external_data": False}], ids=["any batch", "batch of 2"]
)
def test_onnx(tmp_path, network, images, wanted, options):
    to_onnx(network, tmp_path / "net.onnx", torch.rand(2, 3, 32, 32), **options)
    encoder = load_encoder(f"{tmp_path / 'net.onnx'}?norm=half")
    torch.testing.assert_close(encoder(images), wanted, rtol=1e-4, atol=1e-5)
    assert (encoder.name, encoder.origin["preprocess"]["size"]) == ("net", 32)
    with pytest.raises(InputError, match=r"net.onnx' does not say how its images were normalised: add \?norm="):
        load_encoder(str(tmp_path / "net.onnx"))
    with pytest.raises(InputError, match="takes images of 32 pixels only, not size=64"):
        load_encoder(f"{tmp_path / 'net.onnx'}?norm=half&size=64")
    with pytest.raises(InputError, match="has an arithmetic of its own"):
        load_encoder(f"{tmp_path / 'net.onnx'}?norm=half&dtype=bfloat16")


def test_the_fingerprint_covers_weights_beside_the_onnx_file(tmp_path, network):
    to_onnx(network, tmp_path / "net.onnx", torch.rand(2, 3, 32, 32))
    weights = tmp_path / "net.onnx.data"
    if not weights.exists():
        pytest.skip("this torch keeps the weights inside")
    before = load_encoder(f"{tmp_path / 'net.onnx'}?norm=half").fingerprint
    content = bytearray(weights.read_bytes())
    content[0] ^= 1
    weights.write_bytes(content)
    assert load_encoder(f"{tmp_path / 'net.onnx'}?norm=half").fingerprint != before
    assert load_encoder(f"{tmp_path / 'net.onnx'}?norm=none").fingerprint != before


def test_an_onnx_file_with_uint8_input_and_two_outputs(tmp_path, network, images):
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, images):
            maps = self.network[0]((images.float() / 255 - 0.5) / 0.5)
            return self.network[1:](maps), maps

    to_onnx(
        Whole().eval(), tmp_path / "net.onnx", images[:2], dynamic_shapes=DYNAMIC, output_names=["pooled", "maps"]
    )  # fmt: skip
    with pytest.raises(InputError, match="takes uint8 images and normalises them itself: leave norm out"):
        load_encoder(f"{tmp_path / 'net.onnx'}?norm=half")
    encoder = load_encoder(f"{tmp_path / 'net.onnx'}?feature=pooled")
    with torch.no_grad():
        pooled, maps = Whole()(images)
    torch.testing.assert_close(encoder(images), pooled, rtol=1e-4, atol=1e-5)
    found = load_encoder(f"{tmp_path / 'net.onnx'}?feature=maps&pool=max")
    assert found.feature_names == ("maps+max",)
    torch.testing.assert_close(found(images), maps.amax((2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dynamic", [DYNAMIC, None], ids=["any batch", "batch of 2"])
def test_torch_export(tmp_path, network, images, wanted, dynamic):
    file = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(network, (torch.rand(2, 3, 32, 32),), dynamic_shapes=dynamic), file)
    with pytest.raises(InputError, match=r"holds a program that torch would run, and is refused.*\?trust=true"):
        load_encoder(f"{file}?norm=half")
    encoder = load_encoder(f"{file}?norm=half&trust=true")
    torch.testing.assert_close(encoder(images), wanted, rtol=1e-4, atol=1e-5)
    assert encoder.origin["preprocess"]["size"] == 32


@pytest.mark.parametrize("suffix", [".ts", ".torchscript", ".pt"])
def test_torchscript(tmp_path, network, images, wanted, suffix):
    to_torchscript(network, tmp_path / f"net{suffix}")
    with pytest.raises(InputError, match=r"TorchScript|holds a program"):
        load_encoder(f"{tmp_path / 'net'}{suffix}?norm=half")
    encoder = load_encoder(f"{tmp_path / 'net'}{suffix}?norm=half&trust=true")
    torch.testing.assert_close(encoder(images), wanted, rtol=1e-4, atol=1e-5)
    assert load_encoder(f"{tmp_path / 'net'}{suffix}?norm=half&trust=true&l2=true").feature_names == ("backbone+l2",)


@pytest.mark.parametrize("name", ["a.onnx", "a.pt2", "a.ts", "a.pt"])
@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x05\x06" + bytes(18)])
def test_files_that_are_not_what_they_are_called(tmp_path, name, content):
    if name == "a.onnx":
        pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="is not a") as caught:
        load_encoder(f"{tmp_path / name}?norm=half&trust=true")
    assert "\n" not in str(caught.value)


def test_an_onnx_file_cannot_read_outside_of_its_folder(tmp_path, network):
    onnx = pytest.importorskip("onnx")
    folder = tmp_path / "inside"
    folder.mkdir()
    to_onnx(network, folder / "net.onnx", torch.rand(2, 3, 32, 32))
    model = onnx.load(folder / "net.onnx", load_external_data=False)
    places = [place for tensor in model.graph.initializer for place in tensor.external_data if place.key == "location"]
    if not places:
        pytest.skip("this torch keeps the weights inside")
    (folder / "net.onnx.data").rename(tmp_path / "secret")
    for place in places:
        place.value = "../secret"
    onnx.save(model, folder / "net.onnx")
    with pytest.raises(InputError, match="is not an ONNX model"):
        load_encoder(f"{folder / 'net.onnx'}?norm=half")


def test_what_does_not_fit(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        load_encoder(f"{tmp_path / 'no.onnx'}?norm=half")
    to_torchscript(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4)), tmp_path / "net.ts")
    with pytest.raises(InputError, match=r"fails on images of 48 pixels .*: add \?size="):
        load_encoder(f"{tmp_path / 'net.ts'}?norm=half&trust=true&size=48")
