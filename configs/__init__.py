"""Every option of ``train`` and ``evaluate``, as YAML, and how these files become plain values."""

from shiftbench.configs.compose import compose

__all__ = ["compose"]
