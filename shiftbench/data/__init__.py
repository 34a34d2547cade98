"""Data sets and shifts."""

from __future__ import annotations

from typing import Any

from shiftbench.records import Dataset
from shiftbench.registry import DATASETS

__all__ = ["load_dataset"]


def load_dataset(name: str, **options: Any) -> Dataset:
    """Load a registered data set.

    Args:
        name: a name of ``shiftbench list datasets``, or ``package.module:function``.
        options: what that data set takes; ``path`` is where its files are.

    Raises:
        InputError: no such data set, or its files are missing or damaged.
    """
    return DATASETS.load(name)(**options)
