"""Where data sets are looked for, what is said of those that are not there, and downloads from a local mirror."""

import gzip
import hashlib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest

from shiftbench.data import mnist
from shiftbench.data.base import load_dataset
from shiftbench.data.sources import SOURCES, locate, status
from shiftbench.errors import InputError
from shiftbench.registry import DATASETS
from shiftbench.runtime import compat


@pytest.mark.parametrize("name", SOURCES)
def test_what_is_not_there(tmp_path, name):
    found, where, advice = status(name, str(tmp_path))
    assert (found, where) == (False, str(tmp_path))
    assert advice.endswith(".")
    with pytest.raises(InputError) as caught:
        load_dataset(name, root=str(tmp_path))
    assert str(caught.value).startswith(f"{name} is not there: no ")
    assert f"{advice} Another folder is named with data.root=DIR or SHIFTBENCH_DATA." in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def touch(folder, pattern):
    file = folder / pattern.replace("*", "").replace("[0-9]", "01440764")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


@pytest.mark.parametrize(("name", "place"), [(name, place) for name in SOURCES for place in SOURCES[name].folders])
def test_it_is_found_in_each_of_its_places(tmp_path, name, place):
    for pattern in SOURCES[name].files:
        assert not status(name, str(tmp_path)).found
        touch(tmp_path / place, pattern)
    assert status(name, str(tmp_path)) == (True, str(tmp_path / place), "")
    assert locate(name, str(tmp_path)) == tmp_path / place


@pytest.mark.parametrize("name", ["digits", "folder", "npz"])
def test_what_is_always_there(name):
    assert status(name).found


def test_every_registered_data_set_has_a_status(tmp_path):
    assert {*SOURCES, "digits", "folder", "npz"} == set(DATASETS)


def test_no_such_data_set():
    with pytest.raises(InputError, match="Did you mean 'cifar10'"):
        status("cifar11")


def test_the_environment_names_the_root(tmp_path, monkeypatch):
    touch(tmp_path / "USPS", "usps.bz2")
    touch(tmp_path / "USPS", "usps.t.bz2")
    monkeypatch.setenv("SHIFTBENCH_DATA", str(tmp_path))
    assert status("usps").found
    assert not status("usps", str(tmp_path / "other")).found
    monkeypatch.delenv("SHIFTBENCH_DATA")
    monkeypatch.chdir(tmp_path)
    assert status("usps").where == "data"


def test_looking_loads_neither_torch_nor_numpy(run_python):
    result = run_python("""
import sys
from shiftbench.data.sources import status
status("imagenet")
assert not {"torch", "numpy", "torchvision"} & set(sys.modules)
""")
    assert result.returncode == 0, result.stderr


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """torchvision's own downloader, pointed at a server in this process."""
    theirs = compat.torchvision().datasets.MNIST
    resources, md5s = [], {}
    for split, n in (("train", 6), ("t10k", 4)):
        for kind, array in (("images-idx3", np.full((n, 28, 28), n)), ("labels-idx1", np.arange(n))):
            file = f"{split}-{kind}-ubyte"
            sizes = np.array(array.shape, ">u4").tobytes()
            content = bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()
            packed = gzip.compress(content)
            (tmp_path / "mirror").mkdir(exist_ok=True)
            (tmp_path / "mirror" / f"{file}.gz").write_bytes(packed)
            md5s[file] = hashlib.md5(content).hexdigest()
            resources.append((f"{file}.gz", hashlib.md5(packed).hexdigest()))
    monkeypatch.setattr(theirs, "resources", resources)
    monkeypatch.setitem(mnist.IDX_MD5, "mnist", md5s)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=tmp_path / "mirror")) as server:
        monkeypatch.setattr(theirs, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path / "mirror"
        server.shutdown()


def test_download(tmp_path, mirror, capsys):
    root = str(tmp_path / "new" / "root")
    with pytest.raises(InputError, match="is not there"):
        load_dataset("mnist", root=root)
    data = load_dataset("mnist", root=root, download=True)
    assert (len(data.train), data.test.labels.tolist()) == (6, [0, 1, 2, 3])
    assert f"Downloading mnist to {root}" in capsys.readouterr().err
    load_dataset("mnist", root=root, download=True)
    assert "Downloading" not in capsys.readouterr().err


def test_a_download_that_fails(tmp_path, mirror):
    for file in mirror.iterdir():
        file.unlink()
    with pytest.raises(InputError, match=r"^Downloading mnist failed \(.*404.*\)\. Try again, or by hand: put"):
        load_dataset("mnist", root=str(tmp_path / "root"), download=True)


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if source.fetch is None])
def test_what_cannot_be_downloaded(tmp_path, name):
    with pytest.raises(InputError, match=f"{name} cannot be downloaded by shiftbench. To get it, (request|unpack)"):
        load_dataset(name, root=str(tmp_path), download=True)
