"""Nothing that a file or the current folder holds is executed, but for the module that the user names."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from shiftbench.encoders.reading import read_tensors
from shiftbench.errors import InputError
from shiftbench.images import open_rgb

CHECKOUT = Path(__file__).resolve().parents[2]
# Names that we or our libraries try to import, where they are installed and where they are not.
TEMPTING = (
    "psutil",
    "wandb",
    "transformers",
    "timm",
    "onnxruntime",
    "cupy",
    "torchcodec",
    "tensorboard",
    "ruamel",
    "yaml",
)


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A folder full of canaries: each leaves a file when it is executed."""
    folder = tmp_path / "trap"
    (folder / "hydra_plugins" / "plugin").mkdir(parents=True)
    canary = "from pathlib import Path\nPath(__file__ + '.ran').touch()\n"
    for name in TEMPTING:
        (folder / f"{name}.py").write_text(canary)
    (folder / "hydra_plugins" / "__init__.py").write_text(canary)
    (folder / "hydra_plugins" / "plugin" / "__init__.py").write_text(canary)
    (folder / "sitecustomize.py").write_text(canary)
    (folder / "mine.py").write_text(
        "import mine_too\n\ndef features(images):\n    return images.float().mean((2, 3))\n"
    )
    (folder / "mine_too.py").write_text("")
    monkeypatch.chdir(folder)
    return folder


def run(*words, folder):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PYTHONPATH": str(CHECKOUT), "SHIFTBENCH_CACHE": str(folder / "cache")}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def ran(folder):
    return sorted(path.name for path in folder.rglob("*.ran"))


SCRIPT = [sys.executable, "-P", "-c", "import sys; from shiftbench.cli.main import main; sys.exit(main())"]
MODULE = [sys.executable, "-m", "shiftbench"]
EVALUATE = [
    "evaluate",
    "--data",
    "digits",
    "--limit",
    "40",
    "floors=[pixels]",
    "probes=[]",
    "seeds=2",
    "--shift",
    "fog-1",
]


@pytest.mark.parametrize("start", [SCRIPT, MODULE], ids=["script", "module"])
@pytest.mark.parametrize(
    "words",
    [["doctor"], [*EVALUATE, "--checkpoint", "random:small_cnn"], [*EVALUATE, "--checkpoint", "mine:features"]],
    ids=["doctor", "evaluate", "evaluate a callable"],
)
def test_the_current_folder_is_not_a_library(trap, start, words):
    if start is SCRIPT and sys.version_info < (3, 11):
        pytest.skip("python -P came with 3.11")
    done = run(*start, *words, folder=trap)
    assert done.returncode == 0, done.stderr
    assert ran(trap) == []


def test_a_canary_sings_when_it_is_imported(trap):
    """The test above can fail."""
    run(sys.executable, "-c", "import wandb", folder=trap)
    assert ran(trap) == ["wandb.py.ran"]


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_postscript_starts_no_program(tmp_path, monkeypatch, suffix):
    """Pillow would hand it to Ghostscript."""

    def started(*arguments, **options):
        pytest.fail(f"a program was started: {arguments}")

    monkeypatch.setattr(subprocess, "Popen", started)
    (tmp_path / f"picture{suffix}").write_bytes(POSTSCRIPT)
    with pytest.raises(InputError, match="Cannot read the image"):
        open_rgb(tmp_path / f"picture{suffix}")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_of_very_many_steps_is_refused_before_it_is_read(tmp_path, monkeypatch, zipped):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was read"))
    content = b"\x80\x02" + 2_000_000 * b"]" + 1_999_999 * b"a" + b"."
    path = tmp_path / "weights.pt"
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", content)
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match="more than 500,000 steps"):
        read_tensors(path)
