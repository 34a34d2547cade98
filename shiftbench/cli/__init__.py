"""The ``shiftbench`` command: each sub-command calls one public function."""

from shiftbench.cli.main import main

__all__ = ["main"]
