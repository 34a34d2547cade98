"""Corrupted sets on disk: the official layouts, whole files only, resumed to the same bytes."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import shiftbench
from shiftbench.corruptions import SEVERITIES, corrupt, export
from shiftbench.corruptions.export import write_set
from shiftbench.errors import InputError
from shiftbench.runtime import compat

N = 30
LABELS = [i % 3 for i in range(N)]


@pytest.fixture(scope="module")
def data(photographs: Callable[..., Tensor]) -> Tensor:
    return photographs(N)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_cifar_layout(data: Tensor, tmp_path: Path) -> None:
    manifest = write_set(tmp_path, data, LABELS, names=["fog", "jpeg_compression"], seed=4)
    assert sorted(contents(tmp_path)) == ["fog.npy", "jpeg_compression.npy", "labels.npy", "manifest.json"]
    fog, labels = np.load(tmp_path / "fog.npy"), np.load(tmp_path / "labels.npy")
    assert (fog.dtype, fog.shape) == (np.uint8, (5 * N, 32, 32, 3))
    assert (labels.dtype, labels.tolist()) == (np.uint8, LABELS * 5)
    for severity in SEVERITIES:
        expected = corrupt(data, "fog", severity, table="cifar", seed=4).permute(0, 2, 3, 1).numpy()
        np.testing.assert_array_equal(fog[(severity - 1) * N : severity * N], expected)
    assert json.loads((tmp_path / "manifest.json").read_text()) == manifest
    settings = {key: manifest[key] for key in ("layout", "table", "seed", "version", "images")}
    assert settings == {"layout": "cifar", "table": "cifar", "seed": 4, "version": shiftbench.__version__, "images": N}
    for name, entry in manifest["files"].items():
        assert entry["sha256"] == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


def test_imagefolder_layout(data: Tensor, tmp_path: Path) -> None:
    names = [f"val_{i}" for i in range(N)]
    write_set(tmp_path, data, LABELS, names=["snow"], layout="imagefolder", classes=["a", "b", "c"], filenames=names)
    for severity in SEVERITIES:
        files = sorted((tmp_path / "snow" / str(severity)).rglob("*.JPEG"))
        assert {f"{path.parent.name}/{path.stem}" for path in files} == {
            f"{'abc'[label]}/{name}" for label, name in zip(LABELS, names, strict=True)
        }
        with Image.open(tmp_path / "snow" / str(severity) / "b" / "val_4.JPEG") as picture:
            decoded = np.asarray(picture).astype(float)
        expected = corrupt(data[4:5], "snow", severity, table="cifar", index=torch.tensor([4]))
        assert np.abs(decoded - expected[0].permute(1, 2, 0).numpy()).mean() < 12  # what JPEG of quality 85 loses
    assert (tmp_path / "snow" / "1" / "a" / "val_0.JPEG").read_bytes()[:2] == b"\xff\xd8"


@pytest.mark.parametrize("layout", export.LAYOUTS)
def test_chunks_workers_and_order_change_no_byte(data: Tensor, tmp_path: Path, layout: str) -> None:
    names = ["gaussian_noise", "frost"]
    write_set(tmp_path / "one", data, LABELS, names=names, layout=layout)
    chunks = [data[:7], data[7:8], data[8:]]
    write_set(tmp_path / "other", chunks, np.array(LABELS), names=names[::-1], layout=layout, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


@pytest.mark.parametrize("layout", export.LAYOUTS)
def test_killed_and_resumed(data: Tensor, tmp_path: Path, layout: str) -> None:
    """Killed in the middle of every second unit; what is there meanwhile is whole, and in the end all is the same."""
    names = ["shot_noise", "motion_blur"]
    write_set(tmp_path / "whole", data, LABELS, names=names, layout=layout)
    whole = contents(tmp_path / "whole")
    for limit in (1.5 * N, 6.5 * N):
        chunks, done = data.split(10), 0

        def advance(images: int, limit: float = limit) -> None:
            nonlocal done
            done += images
            if done > limit:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_set(tmp_path / "torn", list(chunks), LABELS, names=names, layout=layout, advance=advance)
        torn = {name: data for name, data in contents(tmp_path / "torn").items() if ".partial" not in name}
        assert {n: d for n, d in torn.items() if n != "manifest.json"}.items() <= whole.items()
    write_set(tmp_path / "torn", data, LABELS, names=names, layout=layout)
    assert contents(tmp_path / "torn") == whole


@pytest.mark.parametrize("layout", export.LAYOUTS)
def test_a_second_call_does_nothing(data: Tensor, tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    first = write_set(tmp_path, data, LABELS, names=["fog"], layout=layout, advance=done.append)
    assert sum(done) == 5 * N
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.setattr(export, "corrupt", None)
    done.clear()
    assert write_set(tmp_path, data, LABELS, names=["fog"], layout=layout, advance=done.append) == first
    assert sum(done) == 5 * N
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_more_corruptions_join_later_and_a_lost_file_is_written_again(data: Tensor, tmp_path: Path) -> None:
    write_set(tmp_path, data, LABELS, names=["fog"])
    manifest = write_set(tmp_path, data, LABELS, names=["contrast"])
    assert list(manifest["files"]) == ["contrast.npy", "fog.npy", "labels.npy"]
    before = (tmp_path / "fog.npy").read_bytes()
    (tmp_path / "fog.npy").write_bytes(before[:-1])
    write_set(tmp_path, data, LABELS, names=["fog"])
    assert (tmp_path / "fog.npy").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "holds a set with seed 0, not 1"),
        ({"table": "imagenet"}, "holds a set with table 'cifar', not 'imagenet'"),
        ({"layout": "imagefolder"}, "holds a set with layout 'cifar', not 'imagefolder'"),
        ({"labels": LABELS[::-1]}, "holds a set with source"),
    ],
)
def test_a_folder_holds_one_set(data: Tensor, tmp_path: Path, change: dict[str, object], message: str) -> None:
    write_set(tmp_path, data, LABELS, names=["contrast"])
    arguments = {"labels": LABELS, "names": ["contrast"], **change}
    with pytest.raises(InputError, match=message):
        write_set(tmp_path, data, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layout": "imagefolders"}, "Unknown layout 'imagefolders'. Did you mean 'imagefolder'"),
        ({"names": ["fog", "snwo"]}, "Unknown corruption 'snwo'. Did you mean 'snow'"),
        ({"labels": LABELS[1:]}, f"images and labels must be as many, not {N} and {N - 1}"),
        ({"labels": [0.5] * N}, "labels must be integers"),
        ({"labels": [-1] * N}, "labels must be integers from 0"),
        ({"classes": ["a", "b"]}, "classes must have 3 entries, not 2"),
        ({"filenames": ["a"]}, f"filenames must have {N} entries, not 1"),
        ({"images": [], "labels": np.zeros(0, int)}, "images must hold at least one image"),
        ({"images": iter([])}, "not a generator"),
    ],
)
def test_bad_input_writes_nothing(data: Tensor, tmp_path: Path, change: dict[str, object], message: str) -> None:
    arguments = {"images": data, "labels": LABELS, "names": ["contrast"], **change}
    with pytest.raises(InputError, match=message):
        write_set(tmp_path / "set", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "set" / "contrast.npy").exists()


def test_images_of_two_sizes_are_refused(data: Tensor, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must all be \(3, 32, 32\), as the first, not \(3, 16, 32\)"):
        write_set(tmp_path, [data[:10], data[10:, :, :16]], LABELS, names=["contrast"])


def test_the_writer_streams(run_python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    """Memory stays far below the 92 MB of the file, with a data set made as it is read."""
    code = f"""
import resource, torch
from shiftbench.corruptions.export import write_set

class Chunks:
    def __iter__(self):
        return (torch.full((250, 3, 32, 32), i, dtype=torch.uint8) for i in range(24))

write_set({str(tmp_path)!r}, [torch.zeros(1, 3, 32, 32, dtype=torch.uint8)], [0], names=["contrast"])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_set({str(tmp_path / "set")!r}, Chunks(), [0] * 6000, names=["contrast"])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    result = run_python(code)
    assert result.stdout, result.stderr
    assert int(result.stdout) < 40
    assert (tmp_path / "set" / "contrast.npy").stat().st_size > 92e6


@pytest.mark.slow
def test_robustbench_reads_it(tmp_path: Path, photographs: Callable[..., Tensor]) -> None:
    """Its loader knows CIFAR-10-C's 10,000 images only."""
    data = photographs(50).repeat(200, 1, 1, 1)
    write_set(tmp_path / "CIFAR-10-C", data, [i % 10 for i in range(10_000)], names=["brightness", "fog"])
    load = compat.robustbench().data.load_cifar10c
    x, y = load(20, severity=3, data_dir=str(tmp_path), shuffle=False, corruptions=["fog"])
    expected = corrupt(data[:20], "fog", 3, table="cifar")
    assert y.tolist() == [i % 10 for i in range(20)]
    assert torch.equal((x * 255).round().to(torch.uint8), expected)


@pytest.mark.slow
@pytest.mark.realdata
def test_whole_cifar_test_set(real_data: Path, tmp_path: Path) -> None:
    with (real_data / "cifar-10-batches-py" / "test_batch").open("rb") as file:
        batch = pickle.load(file, encoding="bytes")
    data = torch.from_numpy(batch[b"data"].reshape(-1, 3, 32, 32).copy())
    write_set(tmp_path, data, batch[b"labels"], names=["frost"])
    assert np.load(tmp_path / "frost.npy", mmap_mode="r").shape == (50_000, 32, 32, 3)
    assert np.load(tmp_path / "labels.npy").tolist() == batch[b"labels"] * 5


def test_iterating_again_and_again_is_asked_for(data: Tensor, tmp_path: Path) -> None:
    def generator() -> Iterator[Tensor]:
        yield data

    with pytest.raises(InputError, match="not a generator"):
        write_set(tmp_path, generator(), LABELS)
