"""Reports from saved results: tables, figures and one HTML page. Nothing here needs torch."""

from shiftbench.reports.merge import merge
from shiftbench.reports.report import report
from shiftbench.reports.tables import latex_table, markdown_table, terminal_table

__all__ = ["latex_table", "markdown_table", "merge", "report", "terminal_table"]
