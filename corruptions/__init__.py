"""Common image corruptions (Hendrycks & Dietterich 2019): batched, repeatable, by severity table.

Needs torch, NumPy, numba and Pillow; ``frost`` also reads the textures of the installed imagecorruptions package.
"""

from shiftbench.corruptions.core import SEVERITIES, corrupt, corruptions
from shiftbench.corruptions.severity import TABLES, resolve_table

__all__ = ["SEVERITIES", "TABLES", "corrupt", "corruptions", "resolve_table"]
