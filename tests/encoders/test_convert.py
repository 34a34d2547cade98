"""A checkpoint that needs its pickle run becomes a safetensors file, if it is trusted."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from shiftbench.encoders.cifar_resnet import CifarResNet
from shiftbench.encoders.convert import convert
from shiftbench.encoders.load import load_encoder
from shiftbench.errors import InputError


class Settings(dict):
    """What training frameworks leave in their checkpoints."""


class Runs:
    def __reduce__(self):
        return eval, ("__import__('pathlib').Path('canary').touch()",)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_safe_checkpoint_is_converted_without_trust(recwarn):
    module = CifarResNet([1, 1, 1])
    shared = module.conv1.weight  # safetensors refuses memory that two tensors share
    torch.save(
        {"state_dict": {**module.state_dict(), "tied": shared}, "epoch": 3, "optimizer": {"state": {0: shared}}},
        "w.pth",
    )
    count = convert("w.pth", "w.safetensors")
    found = load_file("w.safetensors")
    assert count == len(found) == len(module.state_dict()) + 1
    assert all(torch.equal(found[f"state_dict.{key}"], value) for key, value in module.state_dict().items())
    assert not [warning for warning in recwarn if "--trust" in str(warning.message)]


def test_the_result_is_loaded_as_the_source_would_be(recwarn):
    torch.manual_seed(1)
    module = CifarResNet([1, 1, 1]).eval()
    torch.save(
        {"hyper_parameters": Settings(lr=0.1), "state_dict": {f"model.{k}": v for k, v in module.state_dict().items()}},
        "w.ckpt",
    )
    with pytest.raises(InputError, match=r"wants to run .*Settings.*shiftbench convert w\.ckpt w\.safetensors --trust"):
        load_encoder("w.ckpt?norm=none")
    convert("w.ckpt", "w.safetensors", trust=True)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(load_encoder("w.safetensors?norm=none")(images), module(images.float() / 255))


def test_without_trust_nothing_runs_and_nothing_is_written():
    torch.save({"state_dict": Runs(), "w": torch.zeros(2)}, "w.pth")
    with pytest.raises(InputError, match=r"wants to run \S*eval"):
        convert("w.pth", "w.safetensors")
    assert [path.name for path in Path().iterdir()] == ["w.pth"]


def test_trust_says_what_it_does():
    torch.save({"state_dict": Runs(), "w": torch.ones(2)}, "w.pth")
    with pytest.warns(UserWarning, match="can do anything that you can"):
        assert convert("w.pth", "w.safetensors", trust=True) == 1
    assert Path("canary").exists()
    assert torch.equal(load_file("w.safetensors")["w"], torch.ones(2))


@pytest.mark.filterwarnings("ignore:Running the pickle")
def test_whole_modules_and_plain_pickles():
    module = nn.Linear(2, 3)
    torch.save(module, "module.pth")
    Path("plain.pth").write_bytes(pickle.dumps({"model": module.state_dict()}))
    convert("module.pth", "module.safetensors", trust=True)
    convert("plain.pth", "plain.safetensors", trust=True)
    assert torch.equal(load_file("module.safetensors")["weight"], module.weight)
    assert torch.equal(load_file("plain.safetensors")["model.weight"], module.weight)


@pytest.mark.filterwarnings("ignore:Running the pickle")
@pytest.mark.parametrize(
    ("content", "target", "message"),
    [
        ({"w": torch.zeros(2)}, "w.pt", "must end in .safetensors"),
        ({"w": torch.zeros(2)}, "there.safetensors", "is there already"),
        ({"epoch": 3}, "w.safetensors", "holds no tensors"),
        (b"hello", "w.safetensors", "is a text file"),
        (b"\x80\x04cno_such_package\nThing\n.", "w.safetensors", "needs the package 'no_such_package'"),
        (b"\x80\x02cbuiltins\nint\n(X\x01\0\0\0xtR.", "w.safetensors", "fails when run: ValueError"),
    ],
)
def test_what_cannot_be_converted(content, target, message):
    Path("there.safetensors").touch()
    if isinstance(content, bytes):
        Path("w.pth").write_bytes(content)
    else:
        torch.save(content, "w.pth")
    with pytest.raises(InputError, match=message):
        convert("w.pth", target, trust=True)
    assert sorted(path.name for path in Path().iterdir()) == ["there.safetensors", "w.pth"]


def test_there_must_be_something():
    with pytest.raises(InputError, match=r"no file 'nothing\.pth'"):
        convert("nothing.pth", "w.safetensors")
