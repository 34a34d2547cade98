"""The section "Does agreement tell the drop, without labels?": one mark per condition."""

from __future__ import annotations

import numpy as np
import pandas as pd

from shiftbench.reports import points
from shiftbench.reports.candidates import ShownCandidate
from shiftbench.reports.headline import AGREEMENT, MOVED
from shiftbench.reports.names import decimal
from shiftbench.reports.panels import PanelGroup, choices, file_name, filled, tenths
from shiftbench.reports.section import TEMPLATES, Chapter, Content, Section
from shiftbench.reports.view import View
from shiftbench.results.proxies import ALL, MIN_CONDITIONS


def content(chapter: Chapter) -> Content | None:
    """One panel per candidate."""
    groups = drop_against_agreement(chapter.view)
    return {"groups": groups, "metrics": chapter.view.headline} if groups else None


SECTION = Section("figures", TEMPLATES / "prediction.html", content, needs=("shifts",))


def drop_against_agreement(view: View) -> list[PanelGroup]:
    """Does agreement, which needs no labels, follow the drop, which does? One mark per condition."""
    groups = []
    for metric, protocol in choices(view):
        dots = {candidate: drops(view, candidate, protocol, metric) for candidate in view.drawn}
        dots = {
            candidate: table
            for candidate, table in dots.items()
            if len(table) >= MIN_CONDITIONS and table.nunique().min() > 1
        }
        low, high = tenths(np.concatenate([table["drop"].to_numpy() for table in dots.values()] or [np.empty(0)]))
        least = min((table["mean"].min() for table in dots.values()), default=0)
        panels = [
            points.scatter(
                file_name("label-free", view, metric, protocol, candidate.label),
                candidate.label,
                table["mean"].to_numpy(),
                table["drop"].to_numpy(),
                xlim=(min(-0.03, least - 0.03), 1.03),
                ylim=(low - 0.02, high),
                look=candidate.look,
                note=_correlation(view, candidate, protocol, metric),
            )
            for candidate, table in dots.items()
        ]
        groups.append(PanelGroup(panels, metric, protocol))
    return filled(groups)


def drops(view: View, candidate: ShownCandidate, protocol: str, metric: str) -> pd.DataFrame:
    """Columns mean (agreement) and drop, one row per shifted condition."""
    runs = view.runs(candidate, protocol, metric)
    table = view.agreement(candidate, protocol, MOVED)
    if runs is None or table.empty:
        return pd.DataFrame({"mean": [], "drop": []})
    conditions = list(table[["shift", "corruption", "severity"]].itertuples(index=False, name=None))
    clean = runs.means([view.clean(shift) for shift, *_ in conditions])[0]
    return table.assign(drop=clean - runs.means(conditions)[0])[["mean", "drop"]].dropna()


def _correlation(view: View, candidate: ShownCandidate, protocol: str, metric: str) -> str:
    """Spearman's rho over all shifts in words; empty where there is none."""
    wanted = {
        "encoder": candidate.encoder,
        "feature": candidate.feature,
        "protocol": protocol,
        "metric": metric,
        "proxy": f"{MOVED}_{AGREEMENT}",
        "shift": ALL if len(view.shifts) > 1 else view.shifts[0],
    }
    rows = view.proxies[view.proxies["spearman"].notna()]
    for column, value in wanted.items():
        rows = rows[rows[column] == value]
    return f"ρ = {decimal(float(rows['spearman'].iloc[0]))}" if len(rows) else ""
