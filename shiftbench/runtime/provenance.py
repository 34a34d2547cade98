"""What a result was made with: package versions and hardware, for ``run.json``."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("shiftbench", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "pandas", "numba", "pillow")


def versions() -> dict[str, str]:
    """Versions of python and of the packages that numbers depend on, as far as they are installed.

    Examples:
        >>> "numpy" in versions()
        True
    """
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def hardware() -> dict[str, Any]:
    """Processor, usable cores, operating system, and the GPU where torch is loaded and sees a GPU.

    Examples:
        >>> sorted(hardware())
        ['cores', 'cpu', 'gpu', 'system']
    """
    torch = sys.modules.get("torch")
    gpu = torch.cuda.get_device_name(0) if torch is not None and torch.cuda.is_available() else None
    return {"cpu": _processor(), "cores": os.cpu_count(), "gpu": gpu, "system": platform.system()}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
