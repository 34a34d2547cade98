"""The section "Not measured": what failed or was left out, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from shiftbench.reports.candidates import distinct
from shiftbench.reports.names import condition_name
from shiftbench.reports.section import TEMPLATES, Chapter, Content, Section
from shiftbench.results.runs import CHANCE_KEY, CONDITION


def content(chapter: Chapter) -> Content | None:
    """Those of all clusterers."""
    missing = failures([view.cells for view in chapter.views], [view.stability for view in chapter.views])
    return {"failures": missing} if missing else None


SECTION = Section("foot", TEMPLATES / "failures.html", content, anchor="failures")


@dataclass(frozen=True)
class Failure:
    """Cells of one encoder that were not measured, for one reason."""

    encoder: str
    what: str
    status: str
    reason: str
    conditions: list[str]


def failures(cells: Sequence[pd.DataFrame], stability: Sequence[pd.DataFrame]) -> list[Failure]:
    """What was not measured and why, by encoder, status and reason.

    ``what`` is the metric that is not defined, or the axis of stability; empty for all scores of a condition.
    """
    columns = ["encoder", "what", "status", "reason", *CONDITION]
    tables = []
    for table in cells:
        missing = table[(table["status"] != "ok") & (table["shift"] != CHANCE_KEY[0])]
        single = missing["reason"].str.startswith("not defined")
        tables.append(missing.assign(what=missing["metric"].where(single, "")))
    for table in stability:
        tables.append(table[table["status"] != "ok"].rename(columns={"axis": "what"}))
    by_reason: dict[tuple[str, str, str], dict[str, dict[str, None]]] = {}
    rows = distinct(pd.concat([table[columns].drop_duplicates() for table in tables]), columns)
    for encoder, what, status, reason, shift, corruption, severity in rows:
        by_what = by_reason.setdefault((encoder, status, reason), {})
        by_what.setdefault(what, {})[condition_name(corruption, int(severity), shift)] = None
    return [
        Failure(encoder, what, status, reason, list(conditions))
        for (encoder, status, reason), by_what in by_reason.items()
        for what, conditions in by_what.items()
        if not (what and conditions.keys() <= by_what.get("", {}).keys())  # no scores, so no agreement either
    ]
