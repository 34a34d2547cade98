"""The bytes of every corruption, severity and table are those that were written down.

They hold across machines: all arithmetic on pixels is in integers, or in floating point without fused, reordered or
transcendental operations, and constants that need the latter are computed in float64 and rounded to float32 or to
integers, which hides a last bit that two mathematical libraries may disagree on.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from shiftbench.corruptions import TABLES


@pytest.fixture(scope="module")
def goldens() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_goldens", Path(__file__).with_name("make_goldens.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", ["compiled", "tensors"])
def test_golden_hashes(goldens: ModuleType, path: str, request: pytest.FixtureRequest) -> None:
    if path == "tensors":
        request.getfixturevalue("tensor_path")
    written = json.loads(goldens.FILE.read_text())
    now = goldens.hashes()
    changed = [(name, table) for name in written for table in TABLES if now[name][table] != written[name][table]]
    assert changed == []


@pytest.mark.slow
@pytest.mark.parametrize("processor", ["generic", "haswell"])
def test_golden_hashes_on_an_older_processor(
    goldens: ModuleType, processor: str, run_python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """Compiled for other vector widths, without and with fused multiply-adds to be tempted by."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("these processors are x86-64")
    script = str(goldens.FILE.with_name("make_goldens.py"))
    code = f"import json, runpy; print(json.dumps(runpy.run_path({script!r})['hashes']()))"
    result = run_python(
        code,
        NUMBA_CPU_NAME=processor,
        NUMBA_CPU_FEATURES="",
        NUMBA_CACHE_DIR=str(tmp_path),
        ATEN_CPU_CAPABILITY="default",
    )
    assert result.stdout, result.stderr
    written, now = json.loads(goldens.FILE.read_text()), json.loads(result.stdout)
    assert {name: now[name] for name in written} == written
