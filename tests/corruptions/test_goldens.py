"""The bytes of every corruption, severity and table are those that were written down.

They hold across machines: all arithmetic on pixels is in integers, or in floating point without fused, reordered or
transcendental operations, and constants that need the latter are computed in float64 and rounded to float32 or to
integers, which hides a last bit that two mathematical libraries may disagree on.
"""

from __future__ import annotations

import importlib.util
import json
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
