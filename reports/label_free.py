"""The section "Without labels": what is known where nobody knows the classes, and what of it follows the drop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from shiftbench.reports.candidates import ShownCandidate
from shiftbench.reports.names import decimal, label_in_words, metric_name, score
from shiftbench.reports.section import TEMPLATES, Chapter, Content, Section
from shiftbench.reports.sheets import (
    Sheet,
    SheetCell,
    SheetColumn,
    SheetRow,
    heading_cell,
    number_cell,
    sheet_or_none,
    word_cells,
)
from shiftbench.reports.standings import Number, number_of
from shiftbench.reports.terms import QUANTITIES
from shiftbench.reports.view import View
from shiftbench.results.proxies import ALL
from shiftbench.results.schema import FEATURES


def content(chapter: Chapter) -> Content | None:
    """Both tables."""
    scores, correlations = label_free_sheet(chapter.view), rankings_sheet(chapter.view)
    return {"scores": scores, "correlations": correlations} if scores or correlations else None


SECTION = Section(
    "tables", TEMPLATES / "label_free.html", content, anchor="label-free", title="Without labels",
    is_listed=lambda content: content["scores"] is not None,
)  # fmt: skip


@dataclass(frozen=True)
class LabelFreeScore:
    """One line of the table of metrics without labels; ``protocol`` is empty where features alone are described."""

    candidate: ShownCandidate
    metric: str
    protocol: str
    shift: str
    numbers: dict[str, Number]
    worst_case: str


def label_free_scores(view: View) -> list[LabelFreeScore]:
    """Metrics without labels, clean and shifted, of every candidate that figures show."""
    scores = []
    for shift in view.shifts or ["clean"]:
        for metric in view.label_free:
            for protocol in ["", *view.protocols]:
                for candidate in view.drawn:
                    line = view.line(candidate, shift, protocol, metric, None if protocol else FEATURES)
                    numbers = {key: number_of(line, key) for key in ("clean", "shifted", "worst")}
                    if line is not None and any(math.isfinite(number.value) for number in numbers.values()):
                        worst_case = label_in_words(line["worst_case"])
                        scores.append(LabelFreeScore(candidate, metric, protocol, shift, numbers, worst_case))
    return scores


def label_free_sheet(view: View) -> Sheet | None:
    """Metrics without labels; None where none was measured."""
    scores = label_free_scores(view)
    shifted = any(math.isfinite(line.numbers["shifted"].value) for line in scores)
    wanted = ("clean", "shifted", "worst") if shifted else ("clean",)
    columns = [
        SheetColumn("Encoder"),
        SheetColumn("Metric", key="metric"),
        SheetColumn("Of", key="protocol", can_filter=False),
        SheetColumn("Shift", key="shift", is_optional=True),
        *(SheetColumn(QUANTITIES[key].heading, "number") for key in wanted),
    ]
    rows = []
    for line in scores:
        keys = {"metric": metric_name(line.metric), "protocol": line.protocol or FEATURES, "shift": line.shift}
        cells = [heading_cell(line.candidate), *word_cells(keys, columns)]
        for key in wanted:
            case = [line.worst_case] if key == "worst" and line.worst_case else []
            cells.append(number_cell(line.numbers[key], partial(score, metric=line.metric), case))
        rows.append(SheetRow(cells, keys, line.candidate))
    first = rows[0].keys if rows else {}
    chosen = {key: first.get(key, "") for key in ("metric", "shift")}
    return sheet_or_none(f"Metrics without labels on {view.data}", columns, rows, chosen)


@dataclass(frozen=True)
class Ranking:
    """One line of the table of rank correlations: how well one quantity orders the conditions.

    Attributes:
        numbers: Spearman's rho by candidate's label; ``ALL`` is every candidate's conditions in one order.
    """

    proxy: str
    metric: str
    protocol: str
    numbers: dict[str, Number]


def rankings(view: View) -> list[Ranking]:
    """The proxies over all shifts, of the candidates that figures show."""
    wanted = ALL if len(view.shifts) > 1 else (view.shifts or [""])[0]
    table = view.proxies[(view.proxies["shift"] == wanted) & view.proxies["spearman"].notna()]
    labels = {candidate.key: candidate.label for candidate in view.drawn} | {(ALL, ALL, ALL): ALL}
    by_quantity: dict[tuple[str, str, str], dict[str, Number]] = {}
    for row in table[table["metric"].isin(view.headline)].to_dict("records"):
        label = labels.get((row["encoder"], row["feature"], row["selection"]))
        if label is not None:
            numbers = by_quantity.setdefault((row["proxy"], row["metric"], row["protocol"]), {})
            numbers[label] = Number(row["spearman"], row["spearman_low"], row["spearman_high"])
    return [Ranking(*key, numbers) for key, numbers in by_quantity.items()]


def rankings_sheet(view: View) -> Sheet | None:
    """Spearman's rho of what needs no labels with the drop; None where there is none."""
    lines = rankings(view)
    known = {label for line in lines for label in line.numbers}
    labels = [label for label in [*(candidate.label for candidate in view.drawn), ALL] if label in known]
    columns = [
        SheetColumn("Without labels"),
        SheetColumn("Drop in", key="metric"),
        SheetColumn("Clusters", key="protocol"),
        *(SheetColumn(label, "number") for label in labels),
    ]
    rows = []
    for line in lines:
        keys = {"metric": metric_name(line.metric), "protocol": line.protocol}
        numbers = [number_cell(line.numbers.get(label, Number(math.nan)), decimal) for label in labels]
        heading = SheetCell(metric_name(line.proxy), metric_name(line.proxy))
        rows.append(SheetRow([heading, *word_cells(keys, columns), *numbers], keys))
    first = rows[0].keys if rows else {}
    chosen = {key: first.get(key, "") for key in ("metric", "protocol")}
    return sheet_or_none(f"Rank correlations with the drop on {view.data}", columns, rows, chosen)
