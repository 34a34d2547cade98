"""Who was compared: the candidates of some results, what they are called and how they look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shiftbench.reports.headline import DRAWN, HEADLINE
from shiftbench.reports.names import is_floor
from shiftbench.reports.style import Look, looks
from shiftbench.results.runs import CANDIDATE
from shiftbench.results.tables import Results


@dataclass(frozen=True)
class ShownCandidate:
    """A candidate, that is an encoder's feature, as tables and figures show it.

    Attributes:
        label: the encoder's name, with the feature or selection behind it where the name alone is ambiguous.
        floor: whether it has learned nothing (raw pixels, an untrained network).
        look: how every figure draws it.
    """

    encoder: str
    feature: str
    selection: str
    label: str
    floor: bool
    look: Look

    @property
    def key(self) -> tuple[str, str, str]:
        """What tables call it: encoder, feature, selection."""
        return self.encoder, self.feature, self.selection


def candidates_of(results: Results) -> list[ShownCandidate]:
    """All candidates in the order they were given, floors last. Of many, the best get the most distinct looks."""
    scored = results.cells[CANDIDATE].drop_duplicates()
    unscored = results.stability[CANDIDATE[:2]].drop_duplicates().merge(scored, how="left")
    table = pd.concat([scored, unscored.fillna("last")]).drop_duplicates(ignore_index=True)
    table = table.sort_values("encoder", key=lambda encoders: encoders.map(is_floor), kind="stable")
    keys = distinct(table, CANDIDATE)
    ranked = keys
    if len(keys) > DRAWN:
        measured = set(results.summary["metric"])
        level = levels(results.summary, next((metric for metric in HEADLINE if metric in measured), ""))
        ranked = sorted(keys, key=lambda key: -level.get(key, -np.inf))
    look = dict(zip(ranked, looks([is_floor(encoder) for encoder, *_ in ranked]), strict=True))
    namesakes: dict[str, list[tuple[str, ...]]] = {}
    for key in keys:
        namesakes.setdefault(key[0], []).append(key)
    return [
        ShownCandidate(encoder, feature, selection, _label(key, namesakes[encoder]), is_floor(encoder), look[key])
        for key in keys
        for encoder, feature, selection in [key]
    ]


def distinct(table: pd.DataFrame, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """The distinct rows of some columns, as they come."""
    return list(table[list(columns)].drop_duplicates().itertuples(index=False, name=None))


def levels(summary: pd.DataFrame, metric: str) -> dict[tuple[str, ...], float]:
    """The best mean of each candidate, shifted where there is a shift."""
    rows = summary[summary["metric"] == metric]
    best = rows.assign(level=rows["shifted"].fillna(rows["clean"])).groupby(CANDIDATE, sort=False)["level"].max()
    return {key: float(level) for key, level in best.items() if np.isfinite(level)}  # type: ignore[misc]


def _label(key: tuple[str, ...], namesakes: Sequence[tuple[str, ...]]) -> str:
    parts = [part for i, part in enumerate(key) if i == 0 or len({other[i] for other in namesakes}) > 1]
    return " · ".join(parts)
