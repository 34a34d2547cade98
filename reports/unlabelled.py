"""What is known without labels, and whether it follows the drop that only labels show."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shiftbench.reports import points
from shiftbench.reports.candidates import Candidate
from shiftbench.reports.groups import Group, choices, file_name, filled, tenths
from shiftbench.reports.names import decimal
from shiftbench.reports.overview import Number, number_of
from shiftbench.reports.view import View
from shiftbench.results.proxies import ALL

MIN_CONDITIONS = 5  # a rank correlation over fewer says nothing
PROXY = "shift_ari"


def drop_against_agreement(view: View) -> list[Group]:
    """Does agreement, which needs no labels, follow the drop, which does? One mark per condition."""
    groups = []
    for metric, protocol in choices(view):
        dots = {candidate: drops(view, candidate, protocol, metric) for candidate in view.drawn}
        dots = {one: xy for one, xy in dots.items() if len(xy) >= MIN_CONDITIONS and xy.nunique().min() > 1}
        low, high = tenths(np.concatenate([xy["drop"].to_numpy() for xy in dots.values()] or [np.empty(0)]))
        least = min((xy["mean"].min() for xy in dots.values()), default=0)
        panels = [
            points.scatter(
                file_name("label-free", view, metric, protocol, candidate.label),
                candidate.label,
                xy["mean"].to_numpy(),
                xy["drop"].to_numpy(),
                xlim=(min(-0.03, least - 0.03), 1.03),
                ylim=(low - 0.02, high),
                look=candidate.look,
                note=_in_words(view, candidate, protocol, metric),
            )
            for candidate, xy in dots.items()
        ]
        groups.append(Group(panels, metric, protocol))
    return filled(groups)


def _in_words(view: View, candidate: Candidate, protocol: str, metric: str) -> str:
    found = view.proxies
    found = found[(found["encoder"] == candidate.encoder) & (found["feature"] == candidate.feature)]
    found = found[(found["protocol"] == protocol) & (found["metric"] == metric) & (found["proxy"] == PROXY)]
    wanted = ALL if len(view.shifts) > 1 else view.shifts[0]
    found = found[(found["shift"] == wanted) & found["spearman"].notna()]
    return f"ρ = {decimal(float(found['spearman'].iloc[0]))}" if len(found) else ""


def drops(view: View, candidate: Candidate, protocol: str, metric: str) -> pd.DataFrame:
    """Columns mean (agreement) and drop, one row per shifted condition."""
    runs = view.runs(candidate, protocol, metric)
    table = view.agreement(candidate, protocol, "shift")
    if runs is None or table.empty:
        return pd.DataFrame({"mean": [], "drop": []})
    conditions = list(table[["shift", "corruption", "severity"]].itertuples(index=False, name=None))
    clean = runs.means([view.clean(shift) for shift, *_ in conditions])[0]
    return table.assign(drop=clean - runs.means(conditions)[0])[["mean", "drop"]].dropna()


@dataclass(frozen=True)
class Ranking:
    """One line of the table of rank correlations: how well one quantity orders the conditions.

    Attributes:
        numbers: Spearman's rho by encoder label; "all" is every encoder's conditions in one order.
    """

    proxy: str
    metric: str
    protocol: str
    numbers: dict[str, Number]


def rankings(view: View) -> list[Ranking]:
    """The proxies over all shifts, of the encoders that figures show."""
    wanted = ALL if len(view.shifts) > 1 else (view.shifts or [""])[0]
    table = view.proxies[(view.proxies["shift"] == wanted) & view.proxies["spearman"].notna()]
    labels = {one.key: one.label for one in view.drawn} | {(ALL, ALL, ALL): ALL}
    found: dict[tuple[str, str, str], dict[str, Number]] = {}
    for row in table[table["metric"].isin(view.headline)].to_dict("records"):
        label = labels.get((row["encoder"], row["feature"], row["selection"]))
        if label is not None:
            numbers = found.setdefault((row["proxy"], row["metric"], row["protocol"]), {})
            numbers[label] = Number(row["spearman"], row["spearman_low"], row["spearman_high"])
    return [Ranking(*key, numbers) for key, numbers in found.items()]


@dataclass(frozen=True)
class Measured:
    """One line of the table of metrics without labels."""

    candidate: Candidate
    metric: str
    protocol: str
    shift: str
    numbers: dict[str, Number]
    worst_case: str


def measured(view: View) -> list[Measured]:
    """Metrics without labels, clean and shifted, of every encoder that figures show."""
    found = []
    for shift in view.shifts or ["clean"]:
        for metric in view.label_free:
            for protocol in ["", *view.protocols]:
                for candidate in view.drawn:
                    line = view.line(candidate, shift, protocol, metric, None if protocol else "features")
                    numbers = {key: number_of(line, key) for key in ("clean", "shifted", "worst")}
                    if any(math.isfinite(number.value) for number in numbers.values()) and line is not None:
                        found.append(Measured(candidate, metric, protocol, shift, numbers, line["worst_case"]))
    return found
