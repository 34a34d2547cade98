"""Strangers' files: whatever they are, they are read as tensors or refused in one clear line, and never run."""

import argparse
import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from shiftbench.encoders.cifar_resnet import CifarResNet
from shiftbench.encoders.load import load_encoder
from shiftbench.encoders.reading import HEADER_LIMIT, flatten, read, read_tensors
from shiftbench.errors import InputError


class Runs:
    """Runs a function of the attacker's choice when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


TOUCH = "__import__('pathlib').Path('canary').touch()"


def weights():
    return CifarResNet([1, 1, 1]).state_dict()


def saved(content, **options):
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def zipped(files, compression=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(files):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def safetensors(header, content=b"", claimed=None):
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded) if claimed is None else claimed) + encoded + content


def with_data_pkl(content):
    """A checkpoint of today's zip format around a pickle of the attacker's."""
    return zipped({"w/data.pkl": content, "w/version": b"3\n", "w/byteorder": b"little"})


def doubled(levels):
    """A dictionary that refers to one dictionary twice, and so on: 2**levels ways to its end."""
    content = {}
    for _ in range(levels):
        content = {"a": content, "b": content}
    return content


def endless():
    content = {}
    content[""] = content
    return content


def scripted():
    stream = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), stream)
    return stream.getvalue()


SPEC = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
ATTACKS = {
    "os.system": (lambda: saved({"state_dict": Runs(os.system, "touch canary")}), r"wants to run posix\.system"),
    "eval": (lambda: saved({"state_dict": Runs(eval, TOUCH)}), r"wants to run \S*eval.*shiftbench convert"),
    "exec beside good weights": (lambda: saved({**weights(), "x": Runs(exec, TOUCH)}), r"wants to run \S*exec"),
    "eval, old format": (lambda: saved(Runs(eval, TOUCH), _use_new_zipfile_serialization=False), "wants to run .*eval"),
    "plain pickle, protocol 2": (lambda: pickle.dumps(Runs(eval, TOUCH), 2), "wants to run .*eval"),
    "plain pickle, protocol 5": (lambda: pickle.dumps({"w": Runs(eval, TOUCH)}, 5), "wants to run .*eval"),
    "zip with a pickle of protocol 4": (lambda: with_data_pkl(pickle.dumps(Runs(eval, TOUCH), 4)), "wants to run .*eval"),
    "a whole pickled model": (lambda: saved(nn.Linear(2, 2)), r"wants to run torch\.nn\.modules\.linear\.Linear"),
    "arrays of objects": (lambda: saved({"w": np.array([Runs(eval, TOUCH)], dtype=object)}), "wants to run numpy"),
    "plain pickle without weights": (lambda: pickle.dumps([1, 2], 2), "not a torch checkpoint"),
    "no tensors": (lambda: saved({"epoch": 3}), "holds no tensors"),
    "a list": (lambda: saved([torch.zeros(2)]), "holds no tensors"),
    "a dictionary of 2**60 paths": (lambda: saved(doubled(60)), "holds no tensors"),
    "a dictionary within itself": (lambda: saved(endless()), "holds no tensors"),
    "a tensor of a terabyte in one number": (lambda: saved({"w": torch.zeros(1).expand(1 << 38)}), "claims .* bytes"),
    "nothing": (lambda: b"", r"is empty \(0 bytes\)"),
    "text": (lambda: b"hello, I am a text file", "is a text file"),
    "a web page": (lambda: b"\n <!DOCTYPE html><html><head><title>Sign in", "is a web page"),
    "a git-lfs pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", "git lfs pull"),
    "noise": (lambda: bytes(range(1, 256)) * 9, "not a torch checkpoint"),
    "a picture": (lambda: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is a picture"),
    "truncated zip": (lambda: saved(weights())[:200_000], "not a torch checkpoint, or is damaged"),
    "truncated old format": (lambda: saved(weights(), _use_new_zipfile_serialization=False)[:9000], "damaged"),
    "gzip": (lambda: gzip.compress(saved(weights())), "is a gzip archive: unpack it"),
    "a checkpoint in a zip": (lambda: zipped({"w.pth": saved(weights())}), r"zip archive holding 'w\.pth'"),
    "an empty zip": (lambda: zipped({}), "zip archive that is empty"),
    "a checkpoint in a tar": (lambda: tarred({"w.pth": saved(weights())}), r"tar archive holding 'w\.pth'"),
    "torch 0.1's tar": (
        lambda: tarred({"storages": b"", "tensors": b"", "pickle": pickle.dumps(Runs(eval, TOUCH))}), r"tar format of torch 0\.1"
    ),
    "zip bomb": (
        lambda: zipped({"w/data.pkl": b"\0" * 50_000_000}, zipfile.ZIP_DEFLATED), r"unpack to 50,000,000 .*zip bomb"
    ),
    "path traversal": (lambda: zipped({"w/data.pkl": b"", "../../canary": b"x"}), "outside of itself"),
    "absolute path": (lambda: zipped({"w/data.pkl": b"", "/tmp/canary": b"x"}), "outside of itself"),
    "TorchScript": (scripted, "TorchScript archive, which runs code"),
    "torch.export": (lambda: zipped({"w/archive_format": b"pt2", "w/models/model.json": b"{}"}), r"torch\.export archive"),
    "numpy archive": (lambda: zipped({"w.npy": b"x"}), "zip archive holding"),
    "huge header": (lambda: safetensors({}, claimed=1 << 60), "header claims 1,152,921,504,606,846,976 bytes"),
    "header beyond the file": (lambda: safetensors({}, claimed=1000), "header claims 1,000 bytes"),
    "header over the limit": (lambda: safetensors(b"{" + b" " * HEADER_LIMIT + b"}"), "header claims"),
    "header that is no JSON": (lambda: safetensors(b"{{{{"), "not a safetensors file"),
    "offsets beyond the file": (
        lambda: safetensors({"w": {**SPEC, "data_offsets": [0, 1 << 40], "shape": [1 << 38]}}), "not a safetensors file"
    ),
    "offsets that overlap": (lambda: safetensors({"v": SPEC, "w": SPEC}, b"\0" * 8), "not a safetensors file"),
    "truncated safetensors": (lambda: safetensors({"w": SPEC}, b"\0" * 4), "not a safetensors file"),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_refused_in_one_line_and_nothing_runs_or_is_written(tmp_path, monkeypatch, attack, suffix):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    make, message = ATTACKS[attack]
    file = Path(f"w{suffix}")
    file.write_bytes(make())
    with pytest.raises(InputError, match=message) as refused:
        load_encoder(f"{file}?norm=none")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300
    assert str(refused.value).startswith(f"'w{suffix}'")
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_the_attacks_would_run(tmp_path, monkeypatch):
    """The canary sings where nobody looks after it, or the table above would prove nothing."""
    monkeypatch.chdir(tmp_path)
    for attack in ("os.system", "eval", "plain pickle, protocol 5"):
        Path("w.pth").write_bytes(ATTACKS[attack][0]())
        with Path("w.pth").open("rb") as file:
            if attack.startswith("plain"):
                pickle.load(file)
            else:
                torch.load(file, weights_only=False)
        Path("canary").unlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "w.pth")
    with pytest.raises(InputError, match="not a regular file"):
        load_encoder(f"{tmp_path / 'w.pth'}?norm=none")


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_what_honest_checkpoints_hold_besides_is_read(tmp_path, options):
    content = {
        "model": weights(),
        "best_acc": np.float64(91.5),
        "epoch": np.int64(3),
        "args": argparse.Namespace(lr=0.1, arch="resnet8"),
    }
    (tmp_path / "w.pth").write_bytes(saved(content, **options))
    found = read(tmp_path / "w.pth")
    assert (found["best_acc"], found["epoch"], found["args"].lr) == (91.5, 3, 0.1)
    assert set(read_tensors(tmp_path / "w.pth")) == {f"model.{key}" for key in weights()}


def test_numpy_scalars_of_either_generation_are_read(tmp_path):
    """numpy 1 and 2 pickle scalars under different names; neither may depend on which one is installed."""
    content = saved({"w": torch.ones(2), "best": np.float32(0.5)}, _use_new_zipfile_serialization=False)
    for module in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        present = b"numpy._core.multiarray" if b"numpy._core.multiarray" in content else b"numpy.core.multiarray"
        (tmp_path / "w.pth").write_bytes(content.replace(present, module))
        assert read(tmp_path / "w.pth")["best"] == np.float32(0.5)


def test_the_content_counts_and_not_the_suffix(tmp_path):
    from safetensors.torch import save_file

    save_file({"w": torch.arange(3.0)}, tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").rename(tmp_path / "w.bin")
    assert torch.equal(read_tensors(tmp_path / "w.bin")["w"], torch.arange(3.0))
    torch.save({"w": torch.arange(3.0)}, tmp_path / "w.safetensors")
    assert torch.equal(read_tensors(tmp_path / "w.safetensors")["w"], torch.arange(3.0))


@pytest.mark.parametrize("length", [0x0280, 0x0480, 0x4B50])
def test_lengths_that_look_like_other_formats(tmp_path, length):
    """The first two bytes of these safetensors files are those of a pickle or of a zip archive."""
    header = json.dumps({"w": SPEC}).encode().ljust(length)
    (tmp_path / "w.safetensors").write_bytes(safetensors(header, b"\0" * 8))
    assert torch.equal(read_tensors(tmp_path / "w.safetensors")["w"], torch.zeros(2))


def test_flatten_leaves_the_optimiser_out():
    tensor = torch.zeros(1)
    content = {
        "state_dict": {"a.b": tensor}, "optimizer": {"state": {0: {"exp_avg": tensor}}}, "lr_schedulers": {"x": tensor},
        "epoch": 1, "ema": {"shadow": {"a.b": tensor}}, "optim_token": tensor,
    }  # fmt: skip
    assert set(flatten(content)) == {"state_dict.a.b", "ema.shadow.a.b", "optim_token"}


def test_flatten_takes_a_module_as_its_state_dict():
    assert set(flatten({"model": nn.Linear(2, 2)})) == {"model.weight", "model.bias"}
