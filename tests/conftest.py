"""What every test may use: the real data, a device, a second interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    import torch

CHECKOUT = Path(__file__).resolve().parent.parent

# Read by torch, numpy and numba when they are imported: a workstation computes as a small CI machine does.
os.environ.setdefault("OMP_NUM_THREADS", "2")

# No deadline, since no test may depend on wall time; the same examples in every run.
settings.register_profile("shiftbench", deadline=None, derandomize=True)
settings.load_profile("shiftbench")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds features that another one, or the user, has stored."""
    monkeypatch.setenv("SHIFTBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the real data sets, as SHIFTBENCH_DATA names it; skips where it does not."""
    folder = os.environ.get("SHIFTBENCH_DATA")
    if not folder:
        pytest.skip("SHIFTBENCH_DATA is not set: no real data sets here")
    if not Path(folder).is_dir():
        pytest.fail(f"SHIFTBENCH_DATA names {folder!r}, which is not a folder")
    return Path(folder)


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Runs the test on the CPU and, where there is one, on a CUDA device."""
    import torch

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    return torch.device(request.param)


@pytest.fixture(scope="session")
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """``run_python(code, **environment)`` runs a fresh interpreter with the checkout on its path."""

    def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(filter(None, [environment.pop("PYTHONPATH", None), str(CHECKOUT)]))
        return subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": path, **environment},
            capture_output=True,
            text=True,
        )

    return run
