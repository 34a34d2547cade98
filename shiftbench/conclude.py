"""From measured tables to the whole of results: what one evaluation, or several together, say."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import pandas as pd

from shiftbench.comparisons import compare
from shiftbench.parallel import parallel_map
from shiftbench.proxies import proxies
from shiftbench.results import TABLES, Results, in_order
from shiftbench.summary import BASELINE, summarize


def conclude(measured: Mapping[str, pd.DataFrame], baseline: str = BASELINE) -> Results:
    """Results with the tables that follow from the measured ones.

    Args:
        measured: the tables cells, recall, stability and draws.
        baseline: the encoder whose errors normalise mCE.
    """
    cells, draws = measured["cells"], measured["draws"]
    tables: list[Callable[[], pd.DataFrame]] = [  # the longest first
        lambda: proxies(cells, measured["stability"]),
        lambda: compare(cells, draws),
        lambda: summarize(cells, baseline, draws),
    ]
    told, compared, summary = parallel_map(lambda table: table(), tables, os.cpu_count() or 1)
    return Results(
        summary=summary,
        comparisons=compared,
        proxies=told,
        cells=cells,
        recall=measured["recall"],
        stability=measured["stability"],
        draws=draws,
    )


def unite(name: str, earlier: pd.DataFrame, later: pd.DataFrame) -> pd.DataFrame:
    """The rows of two tables of one name; of a row that both have, the later one."""
    keys = list(TABLES[name].keys)
    if earlier.empty or later.empty:
        return later if earlier.empty else earlier
    both = pd.concat([earlier, later], ignore_index=True).drop_duplicates(keys, keep="last")
    return in_order(both, keys)
