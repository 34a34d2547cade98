"""Shifts, each as the list of conditions it consists of."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from shiftbench.corruptions import SEVERITIES, corrupt, corruptions
from shiftbench.errors import InputError, unknown
from shiftbench.records import CLEAN, Condition
from shiftbench.registry import CORRUPTIONS, SHIFTS


def clean(table: str) -> list[Condition]:
    """The split as it is."""
    return [CLEAN]


def corruption(table: str) -> list[Condition]:
    """The 15 benchmark corruptions at 5 severities (Hendrycks & Dietterich 2019)."""
    return [Condition("corruption", name, severity, table) for name in corruptions("common") for severity in SEVERITIES]


def conditions(shifts: Sequence[str], table: str) -> list[Condition]:
    """All conditions of the named shifts, the clean one first, each once.

    Args:
        shifts: names of ``shiftbench list shifts`` or of single corruptions (``fog``, ``fog-3`` for one severity), or ``all``.
        table: the resolved table of severity constants.

    Raises:
        InputError: an unknown shift or a severity outside 1..5.
    """
    found = {CLEAN: None}
    for name in shifts:
        names = SHIFTS.names() if name == "all" else [name]
        for one in names:
            found |= dict.fromkeys(SHIFTS.load(one)(table) if one in SHIFTS else _single(one, table))
    return list(found)


def apply(condition: Condition, images: torch.Tensor, *, start: int = 0, seed: int = 0) -> torch.Tensor:
    """The images of a split under a condition.

    Args:
        condition: which.
        images: uint8 (N, 3, H, W), a chunk of the clean split.
        start: the position of the chunk's first image in the split, since randomness is drawn per image.
        seed: of the corruptions' randomness.
    """
    if not condition.corruption:
        return images
    index = torch.arange(start, start + len(images))
    return corrupt(images, condition.corruption, condition.severity, table=condition.table, seed=seed, index=index)


def _single(name: str, table: str) -> list[Condition]:
    kind, dash, severity = name.rpartition("-")
    kind = kind if dash else name
    if kind not in CORRUPTIONS:
        raise unknown("shift", name, ["all", *SHIFTS, *CORRUPTIONS])
    if not dash:
        return [Condition("corruption", kind, s, table) for s in SEVERITIES]
    if severity not in map(str, SEVERITIES):
        raise InputError(f"Shift {name!r}: severity must be 1, 2, 3, 4 or 5, not {severity!r}.")
    return [Condition("corruption", kind, int(severity), table)]
