"""Data sets and shifts. One file per family, and ``base`` to load one by name."""

from shiftbench.data.base import load_dataset

__all__ = ["load_dataset"]
