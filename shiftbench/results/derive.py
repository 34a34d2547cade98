"""From the measured tables to complete results, of one evaluation or of several merged ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Any

import pandas as pd

from shiftbench.results.comparisons import compare_group, comparisons_table
from shiftbench.results.proxies import proxies
from shiftbench.results.runs import Group, groups
from shiftbench.results.summary import BASELINE, count_cells, summarize_group, summary_table
from shiftbench.results.tables import TABLES, Results, in_order
from shiftbench.runtime.parallel import parallel_map


def derive(measured: Mapping[str, pd.DataFrame], baseline: str = BASELINE) -> Results:
    """Results with the tables that follow from the measured ones.

    Args:
        measured: the tables cells, recall, stability and replicates.
        baseline: the encoder whose errors normalise mCE.
    """
    cells, replicates = measured["cells"], measured["replicates"]
    counts = count_cells(cells)

    def of_group(group: Group) -> tuple[list[pd.DataFrame], list[dict[str, Any]]]:
        return compare_group(group), summarize_group(group, baseline, counts)

    tasks: Iterator[Callable[[], Any]] = chain(
        [partial(proxies, cells, measured["stability"])],  # the longest first
        (partial(of_group, group) for group in groups(cells, replicates)),
    )
    proxy_table, *of_groups = parallel_map(lambda task: task(), tasks, os.cpu_count() or 1)
    return Results(
        summary=summary_table([row for _, rows in of_groups for row in rows], baseline),
        comparisons=comparisons_table([table for tables, _ in of_groups for table in tables]),
        proxies=proxy_table,
        cells=cells,
        recall=measured["recall"],
        stability=measured["stability"],
        replicates=replicates,
    )


def merge_rows(name: str, earlier: pd.DataFrame, later: pd.DataFrame) -> pd.DataFrame:
    """The rows of two tables of one name; where both have a row, the later one is kept."""
    keys = list(TABLES[name].keys)
    if earlier.empty or later.empty:
        return later if earlier.empty else earlier
    both = pd.concat([earlier, later], ignore_index=True).drop_duplicates(keys, keep="last")
    return in_order(both, keys)
