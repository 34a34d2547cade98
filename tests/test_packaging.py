"""The wheel is the truth: what it holds, and that the command works out of it in an empty folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

import pytest

import shiftbench

CHECKOUT = Path(__file__).resolve().parent.parent
# Where each folder of the checkout lies in the wheel.
FOLDERS = {
    "shiftbench": "shiftbench",
    **{name: f"shiftbench/{name}" for name in ("configs", "corruptions", "reports", "trainers")},
}


def run(*command: str | Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what the wheel is built from, without anything that earlier builds left in the checkout."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, copy)
    for name in FOLDERS:
        shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    target = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", target]
    run(sys.executable, "-m", "pip", "wheel", *options, source, folder=target)
    [path] = target.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The wheel in a folder of its own, first on the path."""
    target = tmp_path_factory.mktemp("installed")
    options = ["--no-deps", "--no-index", "--quiet", "--target", target]
    run(sys.executable, "-m", "pip", "install", *options, wheel, folder=target)
    return target


def test_every_file_of_the_package_and_no_other_is_in_the_wheel(source, wheel):
    expected = {
        f"{inside}/{path.relative_to(source / outside).as_posix()}"
        for outside, inside in FOLDERS.items()
        for path in (source / outside).rglob("*")
        if path.is_file()
    }
    with ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == expected
    assert {"shiftbench/py.typed", "shiftbench/configs/train.yaml"} <= packed
    assert any(name.startswith("shiftbench/reports/templates/") for name in packed)


def test_the_wheel_says_what_it_is(wheel):
    [folder] = {name.split("/")[0] for name in ZipFile(wheel).namelist() if ".dist-info/" in name}
    metadata = message_from_bytes(ZipFile(wheel).read(f"{folder}/METADATA"))
    assert metadata["Name"] == "shiftbench"
    assert metadata["Version"] == shiftbench.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"


@pytest.fixture
def command(installed, tmp_path):
    """The installed command, run in an empty folder."""

    def answer(*arguments: str) -> str:
        program = installed / "bin" / "shiftbench"
        return run(program, *arguments, folder=tmp_path, PYTHONPATH=str(installed)).stdout

    return answer


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--help"], "usage: shiftbench"),
        (["--version"], shiftbench.__version__),
        (["list", "corruptions"], "jpeg_compression"),
        (["train", "--cfg", "job"], "method:"),
        (["evaluate", "--cfg", "job"], "protocols:"),
    ],
    ids=["help", "version", "list", "train", "evaluate"],
)
def test_the_command_answers_and_leaves_nothing_behind(command, tmp_path, arguments, expected):
    assert expected in command(*arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_three_commands_one_after_the_other(command, tmp_path):
    command("train", "trainer.epochs=1")
    assert "concurl" in command("evaluate", "--shift", "fog", "--limit", "60")
    [results] = (tmp_path / "results").iterdir()
    command("report", str(results), "-o", "page")
    assert (tmp_path / "page" / "report.html").stat().st_size > 10_000
    assert ',"fog",' in (tmp_path / "page" / "cells.csv").read_text(encoding="utf-8")


def test_the_command_runs_the_wheel_and_not_the_checkout(installed, tmp_path):
    code = "import shiftbench.configs; print(shiftbench.__path__, shiftbench.configs.__file__)"
    result = run(sys.executable, "-c", code, folder=tmp_path, PYTHONPATH=str(installed))
    assert str(CHECKOUT) not in result.stdout
    assert str(installed) in result.stdout


def test_a_checkout_finds_its_own_folders_before_those_of_another_that_is_installed(source, tmp_path):
    code = "from importlib.util import find_spec; import sys; print(*(find_spec(name).origin for name in sys.argv[1:]))"
    packages = [folder.replace("/", ".") for folder in FOLDERS.values()]
    environment = {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    origins = run(sys.executable, "-c", code, *packages, folder=tmp_path, **environment).stdout.split()
    assert origins == [str(source / folder / "__init__.py") for folder in FOLDERS]
