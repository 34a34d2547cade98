"""What tables and figures are drawn from: who was compared, on what, and the runs behind each number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from shiftbench.registry import CLUSTERERS, CORRUPTIONS, METRICS
from shiftbench.reports.candidates import ShownCandidate, candidates_of, distinct, levels
from shiftbench.reports.headline import AGREEMENT, COMMON, DRAWN, headline_of
from shiftbench.reports.names import known_first, needs_labels
from shiftbench.reports.style import Look
from shiftbench.results.runs import (
    CANDIDATE,
    CHANCE_KEY,
    CLEAN_KEY,
    CONDITION,
    ConditionKey,
    Runs,
    groups,
    interval,
    of_split,
)
from shiftbench.results.schema import FEATURES, is_clustering, is_probe
from shiftbench.results.tables import Results, ok

AGREEMENT_KEYS = ["encoder", "feature", "protocol", "axis", "metric"]
LINE_KEYS = [*CANDIDATE, "shift", "clusterer", "protocol", "metric"]
_MEAN = ["mean", "ci_low", "ci_high"]


@dataclass(frozen=True)
class Curve:
    """A line over severities: the clean split stands at 0; bounds are NaN without an interval."""

    label: str
    look: Look
    severities: list[int]
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Setting:
    """What encoders share that may stand in one table.

    Attributes:
        k: where it was given; else 0, since it follows from the classes or from the features.
    """

    data: str
    clusterer: str
    k_source: str
    k: int


class View:
    """One data set, clusterer and way to choose k: what may stand in one table and one figure.

    Args:
        results: the whole results.
        setting: which part of them.
        candidates: all encoders of the results; those that this setting lacks are left out.

    Attributes:
        cells, recall, stability, summary, comparisons, proxies: the rows of this setting.
        probes: rows of the summary for classifiers on the same features.
        of_features: rows of the summary for what no clustering enters.
    """

    def __init__(self, results: Results, setting: Setting, candidates: Sequence[ShownCandidate]) -> None:
        self.setting = setting
        self.cells = _of_setting(results.cells, setting)
        self.recall = _of_setting(results.recall, setting)
        self.stability = _of_setting(results.stability, setting)
        self.summary = _of_setting(results.summary, setting)
        self.comparisons = _of_setting(results.comparisons, setting)
        self.proxies = _of_setting(results.proxies, setting)
        summary = results.summary[results.summary["data"] == setting.data]
        self.probes = summary[summary["clusterer"].map(is_probe).astype(bool)]
        self.of_features = summary[summary["clusterer"] == FEATURES]
        here = {*distinct(self.cells, CANDIDATE[:2]), *distinct(self.stability, CANDIDATE[:2])}
        self.candidates = [candidate for candidate in candidates if (candidate.encoder, candidate.feature) in here]
        self._results = results

    @property
    def replicates(self) -> pd.DataFrame:
        """All resamples, from which intervals come."""
        return self._results.replicates

    @property
    def data(self) -> str:
        """The data set."""
        return self.setting.data

    @property
    def clusterer(self) -> str:
        """The clustering algorithm."""
        return self.setting.clusterer

    @cached_property
    def ks(self) -> list[int]:
        """The numbers of clusters that were measured on the whole test split; where none was, those that were tried."""
        tried = self.stability if self.cells.empty else self.cells
        known = tried if ok(tried).empty else ok(tried)
        return sorted({int(k) for k in known.loc[known["split"] == "test", "k"].unique()})

    @cached_property
    def protocols(self) -> list[str]:
        """The protocols that were used."""
        return sorted({*self.cells["protocol"].unique(), *self.stability["protocol"].unique()})

    @cached_property
    def metrics(self) -> list[str]:
        """The scores against labels, in the registry's order; none without labels."""
        return [metric for metric in self._all_metrics if needs_labels(metric)]

    @cached_property
    def label_free(self) -> list[str]:
        """The metrics that need no labels, in the registry's order."""
        return [metric for metric in self._all_metrics if not needs_labels(metric)]

    @cached_property
    def _all_metrics(self) -> list[str]:
        return known_first([*self.summary["metric"], *self.of_features["metric"]], METRICS)

    @cached_property
    def headline(self) -> list[str]:
        """The metrics that figures show."""
        return headline_of(self.metrics)

    @cached_property
    def top(self) -> float:
        """Where the scale of all scores ends: half-way if nothing reaches there, so that low scores can be told apart."""
        scores = self.cells.loc[self.cells["metric"].isin(self.headline), "value"].to_numpy()
        known = np.concatenate([scores, self.probes[["clean", "shifted"]].to_numpy().ravel()])
        return 0.5 if (known[np.isfinite(known)] <= 0.5).all() else 1.0

    @cached_property
    def shifts(self) -> list[str]:
        """What was scored besides the clean split, or at least tried; the common corruptions first."""
        tried = {*self.cells.loc[self.cells["status"] != "skipped", "shift"].unique()}
        tried |= {*self.stability.loc[self.stability["status"] != "skipped", "shift"].unique()}
        return known_first(
            (shift for shift in self._conditions if shift in tried - {CLEAN_KEY[0], CHANCE_KEY[0]}), [COMMON]
        )

    @cached_property
    def _conditions(self) -> dict[str, list[tuple[str, int, str]]]:
        """Corruption, severity and split of each condition, by shift."""
        columns = [*CONDITION, "split"]
        parts = [table[columns].drop_duplicates() for table in (self.cells, self.stability)]
        conditions: dict[str, list[tuple[str, int, str]]] = {}
        for shift, corruption, severity, split in distinct(pd.concat(parts), columns):
            conditions.setdefault(shift, []).append((corruption, int(severity), split))
        return conditions

    def corruptions(self, shift: str = COMMON) -> list[str]:
        """The corruptions of a shift that have severities, in the registry's order; ``[""]`` if they have no names."""
        graded = {corruption for corruption, severity, _ in self._conditions.get(shift, ()) if severity}
        return known_first(sorted(graded), CORRUPTIONS)

    def complete(self, shift: str) -> list[str]:
        """The corruptions that have every severity of the shift, whose mean by severity is of the same things; or all."""
        conditions = self._conditions.get(shift, ())
        counts = {
            name: len({severity for corruption, severity, _ in conditions if corruption == name})
            for name in self.corruptions(shift)
        }
        return [name for name, count in counts.items() if count == len(self.severities(shift))] or list(counts)

    def severities(self, shift: str = COMMON) -> list[int]:
        """The severities of a shift, above 0."""
        return sorted({severity for _, severity, _ in self._conditions.get(shift, ()) if severity})

    def clean(self, shift: str) -> ConditionKey:
        """The condition that a shift is compared with: the clean images of its classes."""
        return of_split(CLEAN_KEY, self.split(shift))

    def count(self, shift: str) -> int:
        """The number of conditions of a shift."""
        return len({condition[:2] for condition in self._conditions.get(shift, ())})

    def split(self, shift: str) -> str:
        """The split that a shift is scored on."""
        return self._conditions[shift][0][2] if shift in self._conditions else "test"

    def comparisons_of(self, shift: str, protocol: str, metric: str) -> pd.DataFrame:
        """The pairs of encoders under one shift, or on clean images, by one protocol and metric."""
        places = self._compared.get((shift, protocol, metric))
        return self.comparisons.iloc[[] if places is None else places]

    @cached_property
    def _compared(self) -> dict[Any, np.ndarray]:
        groups = self.comparisons.groupby(["shift", "protocol", "metric"], sort=False).indices
        return {key: np.asarray(places) for key, places in groups.items()}

    @cached_property
    def graded(self) -> list[str]:
        """The shifts that have severities."""
        return [shift for shift in self.shifts if self.severities(shift)]

    @cached_property
    def detailed(self) -> list[str]:
        """The shifts whose corruptions are worth a picture each."""
        return [shift for shift in self.graded if len(self.corruptions(shift)) > 1]

    @cached_property
    def lines(self) -> dict[tuple[str, ...], dict[str, Any]]:
        """The rows of the summary, of probes and of features by encoder, feature, selection, shift, clusterer,
        protocol and metric."""
        table = pd.concat([self.summary, self.probes, self.of_features]).sort_values("n_ok", kind="stable")
        rows = table.to_dict("records")
        return {tuple(row[name] for name in LINE_KEYS): {str(key): row[key] for key in row} for row in rows}

    def line(
        self, candidate: ShownCandidate, shift: str, protocol: str, metric: str, clusterer: str | None = None
    ) -> Mapping[str, Any] | None:
        """The summary's row of one candidate; None where there is none."""
        return self.lines.get((*candidate.key, shift, clusterer or self.clusterer, protocol, metric))

    @cached_property
    def drawn(self) -> list[ShownCandidate]:
        """The encoders that figures show: all, or the best few and the floors."""
        if len(self.candidates) <= DRAWN:
            return self.candidates
        level = levels(self.summary, self.headline[0] if self.headline else "")
        floors = [candidate for candidate in self.candidates if candidate.floor][: DRAWN // 2]
        learned = [candidate for candidate in self.candidates if not candidate.floor]
        best = sorted(learned, key=lambda candidate: -level.get(candidate.key, -np.inf))[: DRAWN - len(floors)]
        kept = {candidate.key for candidate in [*best, *floors]}
        return [candidate for candidate in self.candidates if candidate.key in kept]

    def runs(self, candidate: ShownCandidate, protocol: str, metric: str, clusterer: str | None = None) -> Runs | None:
        """The runs of a candidate that figures show, for a headline metric; None where there are none."""
        return self._runs.get((clusterer or self.clusterer, protocol, metric, *candidate.key))

    @cached_property
    def _runs(self) -> dict[tuple[str, ...], Runs]:
        """From the replicates of what is shown alone, so that hundreds of encoders fit."""
        encoders = {candidate.encoder for candidate in self.drawn}

        def shown(table: pd.DataFrame) -> pd.DataFrame:
            table = table[table["metric"].isin(self.headline) & table["encoder"].isin(encoders)]
            mine = (table["clusterer"] == self.clusterer) & (table["k_source"] == self.setting.k_source)
            if self.setting.k:
                mine &= table["k"] == self.setting.k
            probes = table["clusterer"].map(is_probe).astype(bool)
            return table[(table["data"] == self.data) & (mine | probes)]

        cells, replicates = (shown(table).assign(k=0, k_source="") for table in (self._results.cells, self.replicates))
        return {
            (group.keys["clusterer"], group.keys["protocol"], group.keys["metric"], *key): runs
            for group in groups(cells, replicates)
            for key, runs in group.candidates.items()
        }

    def grid(self, candidate: ShownCandidate, protocol: str, metric: str, shift: str) -> np.ndarray:
        """Float (corruptions, 1 + severities) means over runs, clean first; NaN where not measured."""
        runs, names, severities = (
            self.runs(candidate, protocol, metric),
            self.corruptions(shift),
            self.severities(shift),
        )
        if runs is None:
            return np.full((len(names), 1 + len(severities)), np.nan)
        conditions = [
            (shift, name, severity) if severity else self.clean(shift)
            for name in names
            for severity in (0, *severities)
        ]
        means: np.ndarray = runs.means(conditions)[0].reshape(len(names), -1)
        return means

    def chance(self, protocol: str, metric: str, shift: str) -> float:
        """What luck gives: the mean over encoders of the clean split scored with permuted labels."""
        lines = [self.line(candidate, shift, protocol, metric) for candidate in self.candidates]
        known = [line["chance"] for line in lines if line is not None and np.isfinite(line["chance"])]
        return float(np.mean(known)) if known else float("nan")

    def score_curve(
        self, candidate: ShownCandidate, protocol: str, metric: str, shift: str, corruptions: Sequence[str],
        clusterer: str | None = None,
    ) -> Curve | None:  # fmt: skip
        """Clean score, then the mean over ``corruptions`` at each severity, with its interval."""
        runs = self.runs(candidate, protocol, metric, clusterer)
        if runs is None:
            return None
        bounds = [interval(runs.means([self.clean(shift)])[:, 0])]
        for severity in self.severities(shift):
            bounds.append(interval(_mean_known(runs.means([(shift, name, severity) for name in corruptions]))))
        return Curve(candidate.label, candidate.look, [0, *self.severities(shift)], *np.array(bounds).T)

    def agreement(self, candidate: ShownCandidate, protocol: str, axis: str) -> pd.DataFrame:
        """Mean agreement (ARI) along an axis per condition, over training seeds.

        Returns:
            columns shift, corruption, severity, split and mean.
        """
        key = candidate.encoder, candidate.feature, protocol, axis, AGREEMENT
        return self._by_candidate.get(key, pd.DataFrame(columns=[*CONDITION, "split", "mean"], dtype=float))

    def mean_agreement(
        self,
        candidate: ShownCandidate,
        protocol: str,
        axis: str,
        shift: str,
        metric: str = AGREEMENT,
        split: str = "test",
    ) -> tuple[float, float, float]:
        """Mean over the conditions of a shift and over training seeds; the mean of several has no interval."""
        key = candidate.encoder, candidate.feature, protocol, axis, metric, shift, split
        return self._mean_agreements.get(key, (np.nan, np.nan, np.nan))

    @cached_property
    def _agreements(self) -> pd.DataFrame:
        rows = ok(self.stability)
        groups = rows.groupby([*AGREEMENT_KEYS, *CONDITION, "split"], sort=False)
        table = groups[_MEAN].mean()
        table.loc[groups.size() > 1, _MEAN[1:]] = np.nan
        return table.reset_index()

    @cached_property
    def _by_candidate(self) -> dict[Any, pd.DataFrame]:
        table = self._agreements
        groups = table[table["metric"] == AGREEMENT].groupby(AGREEMENT_KEYS, sort=False)
        return {key: rows.reset_index(drop=True) for key, rows in groups}

    @cached_property
    def _mean_agreements(self) -> dict[Any, tuple[float, float, float]]:
        groups = self._agreements.groupby([*AGREEMENT_KEYS, "shift", "split"], sort=False)
        table = groups[_MEAN].mean()
        table.loc[groups.size() > 1, _MEAN[1:]] = np.nan
        return dict(zip(table.index, table.itertuples(index=False, name=None), strict=True))

    def agreement_curve(self, candidate: ShownCandidate, protocol: str, axis: str, shift: str) -> Curve | None:
        """Agreement by severity, mean over complete corruptions; the axis "shift" has nothing at severity 0."""
        table = self.agreement(candidate, protocol, axis)
        table = table[table["corruption"].isin(self.complete(shift)) | (table["severity"] == 0)]
        start = (table["shift"] == CLEAN_KEY[0]) & (table["split"] == self.split(shift))
        means = table[start | (table["shift"] == shift)].groupby("severity")["mean"].mean()
        if means.empty:
            return None
        mean, unknown = means.to_numpy(float), np.full(len(means), np.nan)
        return Curve(
            candidate.label, candidate.look, [int(severity) for severity in means.index], mean, unknown, unknown
        )


def views(results: Results) -> list[View]:
    """The views of a result: data sets in order of appearance, clusterers in the registry's order."""
    columns = ["data", "clusterer", "k_source", "k"]
    parts = [table[columns].drop_duplicates() for table in (results.cells, results.stability)]
    settings = dict.fromkeys(
        Setting(data, clusterer, k_source, int(k) if k_source == "given" else 0)
        for data, clusterer, k_source, k in distinct(pd.concat(parts), columns)
        if is_clustering(clusterer)
    )
    datasets = list(dict.fromkeys(setting.data for setting in settings))
    clusterers = known_first((setting.clusterer for setting in settings), CLUSTERERS)

    def place(setting: Setting) -> tuple[int, str, int, int]:
        return datasets.index(setting.data), setting.k_source, setting.k, clusterers.index(setting.clusterer)

    candidates = candidates_of(results)
    return [View(results, setting, candidates) for setting in sorted(settings, key=place)]


def _of_setting(table: pd.DataFrame, setting: Setting) -> pd.DataFrame:
    here = (table["data"] == setting.data) & (table["clusterer"] == setting.clusterer)
    here &= table["k_source"] == setting.k_source
    return table[here & (table["k"] == setting.k) if setting.k else here]


def _mean_known(means: np.ndarray) -> np.ndarray:
    """(1 + resamples, conditions) -> mean over those conditions that were measured at all."""
    measured = np.isfinite(means[0])
    return means[:, measured].mean(axis=1) if measured.any() else np.full(len(means), np.nan)
