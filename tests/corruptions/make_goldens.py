"""Compute the reference hashes of the corruptions anew: ``python tests/corruptions/make_goldens.py``.

A change of a hash is a change of results: it needs a new version and a line in the change log.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch

from shiftbench.corruptions import TABLES, corrupt
from shiftbench.registry import CORRUPTIONS

FILE = Path(__file__).with_name("goldens.json")


def golden_images() -> torch.Tensor:
    """Four images from integer arithmetic alone, uint8 (4, 3, 32, 32): waves, blocks and a gradient."""
    y, x = torch.arange(32)[:, None], torch.arange(32)
    planes = [
        (7 * x + 3 * y) % 256,
        (x * y + 5 * x) % 256,
        ((x // 8 + y // 8) % 2) * 180 + 30,
        (8 * x + y // 2).clamp(max=255),
        (x - 16) ** 2 // 2 + (y - 16) ** 2 // 3,
        255 - 4 * (x - y).abs(),
    ]
    return torch.stack([torch.stack([planes[(i + c) % 6].expand(32, 32) for c in range(3)]) for i in range(4)]).to(
        torch.uint8
    )


def hashes() -> dict[str, dict[str, str]]:
    """corruption -> table -> the first 16 digits of the sha256 of all five severities."""
    images, index = golden_images(), torch.tensor([0, 1, 9999, 2**33])
    found: dict[str, dict[str, str]] = {}
    for name in CORRUPTIONS.names():
        for table in TABLES:
            digest = hashlib.sha256()
            for severity in range(1, 6):
                digest.update(corrupt(images, name, severity, table=table, seed=1, index=index).numpy().tobytes())
            found.setdefault(name, {})[table] = digest.hexdigest()[:16]
    return found


if __name__ == "__main__":
    FILE.write_text(json.dumps(hashes(), indent=1) + "\n")
