"""The tables: what was measured, and what follows from it. Nothing here needs torch."""

from shiftbench.results.comparisons import compare
from shiftbench.results.summary import summarize
from shiftbench.results.tables import Results

__all__ = ["Results", "compare", "summarize"]
