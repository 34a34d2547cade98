"""The python code that the documentation shows: every block runs, those of a page one after the other."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from source_files import CHECKOUT

import shiftbench
from shiftbench.corruptions.severity import Row

PAGES = [*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/*.md"), CHECKOUT / "benchmarks" / "README.md"]
# A block that needs what no test has stays as it is, with the reason directly above it: <!-- not run: needs CIFAR-10 -->
BLOCK = re.compile(r"^(?:<!-- not run: .+ -->\n(?P<left_out>))?```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
MOST_LEFT_OUT = 3


class Block(NamedTuple):
    line: int  # of the page, where the code begins
    code: str
    runs: bool


def blocks(text: str) -> list[Block]:
    """The python blocks of a page."""
    return [
        Block(text.count("\n", 0, match.start("code")), match["code"], match["left_out"] is None)
        for match in BLOCK.finditer(text)
    ]


BLOCKS = {page.relative_to(CHECKOUT).as_posix(): blocks(page.read_text(encoding="utf-8")) for page in PAGES}


def images() -> torch.Tensor:
    return torch.randint(256, (16, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def corruptions() -> dict[str, Any]:
    return {"images": images(), "index": torch.arange(16), "Tensor": torch.Tensor, "Row": Row}


def results() -> dict[str, Any]:
    """A results folder under the name that the page gives it."""
    folder = Path("results") / "digits-1a2b3c4d"
    shiftbench.evaluate("pixels", shift=["fog-1", "fog-2"], floors=[], seeds=2, limit=60, results=folder)
    return {}


def stability() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    return {"features": generator.normal(size=(60, 4)), "partitions": generator.integers(10, size=(5, 60))}


# What readers have of their own, by page.
PREPARED: dict[str, Callable[[], dict[str, Any]]] = {
    "README.md": lambda: {"model": torch.nn.Flatten()},
    "docs/corruptions.md": corruptions,
    "docs/encoders.md": lambda: {"images": images()},
    "docs/results.md": results,
    "docs/stability.md": stability,
}


@pytest.mark.parametrize("page", sorted(page for page, shown in BLOCKS.items() if shown))
def test_the_blocks_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = PREPARED.get(page, dict)()
    for block in BLOCKS[page]:
        if block.runs:
            exec(compile("\n" * block.line + block.code, page, "exec"), known)


def test_few_blocks_are_left_out():
    left_out = [f"{page}:{block.line}" for page, shown in BLOCKS.items() for block in shown if not block.runs]
    assert len(left_out) <= MOST_LEFT_OUT, f"let more of {', '.join(left_out)} run"


def test_blocks_are_read_off_a_page():
    shown = "a\n```python\nx = 1\n```\n```sh\nls\n```\n<!-- not run: needs CIFAR-10 -->\n```python\nload()\n```\n"
    assert blocks(shown) == [Block(2, "x = 1\n", True), Block(9, "load()\n", False)]
