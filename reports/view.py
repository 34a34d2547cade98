"""What tables and figures are drawn from: who was compared, on what, and the runs behind each number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from shiftbench.registry import CORRUPTIONS, METRICS
from shiftbench.reports.style import Look, looks
from shiftbench.results import Results, ok
from shiftbench.summary import CHANCE, CLEAN, CONDITION, ConditionKey, Runs, interval

HEADLINE = ("acc", "ari")
AGREEMENT = "ari"
METRIC_NAMES = {"acc": "ACC", "nmi": "NMI", "ari": "ARI", "ami": "AMI", "purity": "Purity"}
SETTING = ["data", "clusterer", "k", "k_source"]
ENTRANT = ["encoder", "feature", "selection"]
BOUNDED = ["mean", "ci_low", "ci_high"]


@dataclass(frozen=True)
class Entrant:
    """One competitor: an encoder's feature.

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


@dataclass(frozen=True)
class Curve:
    """One encoder's line over severities: the clean split stands at 0; bounds are NaN without an interval."""

    entrant: Entrant
    severities: list[int]
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


class View:
    """One data set, clusterer and k: what may stand in one table and one figure.

    Args:
        results: the whole results.
        setting: values of ``SETTING``.
        entrants: all encoders of the results; those that this setting lacks are left out.
    """

    def __init__(self, results: Results, setting: Sequence[Any], entrants: Sequence[Entrant]) -> None:
        self.data, self.clusterer, self.k, self.k_source = setting
        self.cells, self.stability, self.summary = (
            _of_setting(table, setting) for table in (results.cells, results.stability, results.summary)
        )
        here = {tuple(key) for key in self.stability[ENTRANT[:2]].drop_duplicates().itertuples(index=False)}
        here |= {tuple(key) for key in self.cells[ENTRANT[:2]].drop_duplicates().itertuples(index=False)}
        self.entrants = [one for one in entrants if (one.encoder, one.feature) in here]
        self._runs = {key: Runs(rows) for key, rows in self.cells.groupby([*ENTRANT, "protocol", "metric"], sort=False)}

    @cached_property
    def protocols(self) -> list[str]:
        """The protocols that were used."""
        return sorted({*self.cells["protocol"], *self.stability["protocol"]})

    @cached_property
    def metrics(self) -> list[str]:
        """The metrics that were measured, in the registry's order; none without labels."""
        found = list(dict.fromkeys(self.cells["metric"]))
        return sorted(found, key=lambda name: list(METRICS).index(name) if name in METRICS else len(METRICS))

    @cached_property
    def headline(self) -> list[str]:
        """The metrics that figures show."""
        return [metric for metric in HEADLINE if metric in self.metrics] or self.metrics[:1]

    @cached_property
    def shifts(self) -> list[str]:
        """What was scored besides the clean split."""
        found = dict.fromkeys([*self.cells["shift"], *self.stability["shift"]])
        return [shift for shift in found if shift not in ("clean", "chance")]

    @cached_property
    def corruptions(self) -> list[str]:
        """The corruptions that were scored, in the registry's order."""
        found = {*self.cells["corruption"], *self.stability["corruption"]} - {""}
        known = [name for name in CORRUPTIONS if name in found]
        return known + sorted(found - set(known))

    @cached_property
    def severities(self) -> list[int]:
        """The severities of the corruptions."""
        found = {*self.cells["severity"], *self.stability["severity"]}
        return sorted(int(severity) for severity in found if severity > 0)

    def runs(self, entrant: Entrant, protocol: str, metric: str) -> Runs | None:
        """The runs of one entrant; None where there are none."""
        return self._runs.get((entrant.encoder, entrant.feature, entrant.selection, protocol, metric))

    def chance(self, protocol: str, metric: str) -> float:
        """What luck gives: the mean over entrants of the clean split scored with permuted labels."""
        found = [self.runs(entrant, protocol, metric) for entrant in self.entrants]
        values = [runs.means([CHANCE])[0, 0] for runs in found if runs is not None]
        known = [value for value in values if np.isfinite(value)]
        return float(np.mean(known)) if known else float("nan")

    def condition(self, corruption: str, severity: int) -> ConditionKey:
        """The key of a corruption's cell; severity 0 is the clean split."""
        return ("corruption", corruption, severity) if severity else CLEAN

    def score_curve(self, entrant: Entrant, protocol: str, metric: str, corruptions: Sequence[str]) -> Curve | None:
        """Clean score, then the mean over ``corruptions`` at each severity, with its interval over runs."""
        runs = self.runs(entrant, protocol, metric)
        if runs is None:
            return None
        severities = [0, *self.severities]
        bounds = []
        for severity in severities:
            conditions = [self.condition(name, severity) for name in (corruptions if severity else [""])]
            bounds.append(interval(_mean_known(runs.means(conditions))))
        return Curve(entrant, severities, *np.array(bounds).T)

    def agreement(self, entrant: Entrant, protocol: str, axis: str) -> pd.DataFrame:
        """Mean agreement along an axis per condition, over training seeds.

        Returns:
            columns shift, corruption, severity, mean, ci_low, ci_high; the bounds are NaN where several training
            seeds were averaged, since theirs cannot be.
        """
        key = entrant.encoder, entrant.feature, protocol, axis
        return self._agreements.get(key, pd.DataFrame(columns=[*CONDITION, *BOUNDED], dtype=float))

    @cached_property
    def _agreements(self) -> dict[Any, pd.DataFrame]:
        rows = ok(self.stability)
        key = ["encoder", "feature", "protocol", "axis"]
        groups = rows[rows["metric"] == AGREEMENT].groupby([*key, *CONDITION], sort=False)
        table = groups[BOUNDED].mean()
        table.loc[groups.size() > 1, BOUNDED[1:]] = np.nan
        return {key: rows.reset_index(drop=True) for key, rows in table.reset_index().groupby(key, sort=False)}

    def agreement_curve(self, entrant: Entrant, protocol: str, axis: str) -> Curve | None:
        """Agreement by severity, mean over corruptions; the axis "shift" has nothing at severity 0."""
        table = self.agreement(entrant, protocol, axis)
        means = table[table["shift"].isin(["clean", "corruption"])].groupby("severity")["mean"].mean()
        if means.empty:
            return None
        mean, unknown = means.to_numpy(float), np.full(len(means), np.nan)
        return Curve(entrant, [int(severity) for severity in means.index], mean, unknown, unknown)


def views(results: Results) -> list[View]:
    """The views of a result, in order of appearance."""
    settings = pd.concat([table[SETTING] for table in (results.cells, results.stability)]).drop_duplicates()
    entrants = _entrants(results)
    return [View(results, setting, entrants) for setting in settings.itertuples(index=False, name=None)]


def is_floor(encoder: str) -> bool:
    """Whether an encoder's name is that of a floor: raw pixels or an untrained network."""
    return encoder == "pixels" or encoder.partition(":")[0] == "random"


def percent(fraction: float) -> str:
    """A fraction as people read it: ``89.1``; a dash where there is none."""
    if not np.isfinite(fraction):
        return "–"
    text = f"{100 * fraction:.1f}"
    return "0.0" if text == "-0.0" else text.replace("-", "−")


def condition_name(corruption: str, severity: int, shift: str = "") -> str:
    """How people read a condition: ``impulse noise 5``."""
    return f"{corruption.replace('_', ' ')} {severity}" if corruption else shift.replace("_", " ")


def metric_name(metric: str) -> str:
    """How people read a metric: ``ACC``."""
    return METRIC_NAMES.get(metric, metric)


def _of_setting(table: pd.DataFrame, setting: Sequence[Any]) -> pd.DataFrame:
    here = np.logical_and.reduce([table[column] == value for column, value in zip(SETTING, setting, strict=True)])
    return table[here]


def _entrants(results: Results) -> list[Entrant]:
    scored = results.cells[ENTRANT].drop_duplicates()
    silent = results.stability[ENTRANT[:2]].drop_duplicates().merge(scored, how="left")
    found = pd.concat([scored, silent.fillna("last")]).drop_duplicates(ignore_index=True)
    found = found.sort_values("encoder", key=lambda names: names.map(is_floor), kind="stable")
    keys = list(found.itertuples(index=False, name=None))
    floors = [is_floor(encoder) for encoder, *_ in keys]
    return [
        Entrant(key[0], key[1], key[2], _label(key, keys), floor, look)
        for key, floor, look in zip(keys, floors, looks(floors), strict=True)
    ]


def _label(key: tuple[str, str, str], keys: Sequence[tuple[str, str, str]]) -> str:
    rivals = [other for other in keys if other[0] == key[0]]
    parts = [part for i, part in enumerate(key) if i == 0 or len({other[i] for other in rivals}) > 1]
    return " · ".join(parts)


def _mean_known(means: np.ndarray) -> np.ndarray:
    """(1 + resamples, conditions) -> mean over those conditions that were measured at all."""
    measured = np.isfinite(means[0])
    return means[:, measured].mean(axis=1) if measured.any() else np.full(len(means), np.nan)
