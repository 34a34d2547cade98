"""Do quantities that need no labels follow the drop that only labels show?

Rank correlations over the conditions of a shift, between the drop of a score with labels and the drop of a quantity
that needs none: agreement of the shifted partition with the clean one, agreement among starts, silhouette, evenness and
collapse of clusters, drift, Fréchet distance. On both sides a larger drop is worse. A correlation of 1 means that the
quantity puts the conditions in the exact order of their harm, 0 that it says nothing about that order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from shiftbench.registry import METRICS
from shiftbench.results.correlation import RankCorrelations
from shiftbench.results.runs import CANDIDATE, CHANCE_KEY, CLEAN_KEY, CONDITION, intervals
from shiftbench.results.schema import FEATURES, PROXIES, PROXY_KEYS, typed
from shiftbench.results.tables import ok

ALL = "all"
"""The shift of rows over every condition, and the encoder of rows over every encoder."""
MIN_CONDITIONS = 5
SCORES = ("acc", "nmi", "ari", "ami")
RESAMPLES = 400

_CLUSTERED = ["clusterer", "k", "k_source", "protocol"]
_POINT = [*CONDITION, "split"]
_NUMBER = "_condition"  # the number of a point's condition


def proxies(cells: pd.DataFrame, stability: pd.DataFrame) -> pd.DataFrame:
    """The ``proxies`` table.

    Every drop is that of a condition against its clean pair, the mean over runs. Agreement along the axis ``shift`` is
    1 on the clean split by definition, drift and Fréchet distance are 0. Intervals are percentile bootstraps over
    conditions. Rows of the encoder ``all`` correlate over the conditions of all encoders together; a condition is then
    resampled for all encoders at once.

    Args:
        cells: the ``cells`` table.
        stability: the ``stability`` table.

    Returns:
        One row per encoder and over all of them, per shift and over all of them, per clustering, protocol, score with
        labels (``SCORES``) and quantity without.
    """
    drops = _drops(cells)
    points = _wide(drops[drops["metric"].isin(SCORES)], [*CANDIDATE, "data", *_CLUSTERED, *_POINT])
    scores = [name for name in SCORES if name in points]
    for quantity, keys in _quantities(drops, stability):
        points = points.merge(_wide(quantity, keys), on=keys, how="left")
    points = points.assign(**{_NUMBER: points.groupby(_POINT, sort=False).ngroup()})
    names = [str(name) for name in points if name not in {*CANDIDATE, "data", *_CLUSTERED, *_POINT, *scores, _NUMBER}]
    rows: list[dict[str, Any]] = []
    for setting, part in points.groupby(["data", *_CLUSTERED], sort=False):
        keys_of_setting = dict(zip(["data", *_CLUSTERED], setting, strict=True))
        for chosen, selected in _selections(part):
            rows += [keys_of_setting | chosen | row for row in _correlate(selected, scores, names)]
    table = typed(pd.DataFrame(rows, columns=PROXIES))
    places = {name: i for i, name in enumerate([*cells["encoder"].unique(), ALL])}
    order = [key for key in PROXY_KEYS if key != "encoder"]
    table = table.assign(_place=table["encoder"].map(places).astype("int64"))
    return table.sort_values(["_place", *order], kind="stable", ignore_index=True).drop(columns="_place")


def _drops(cells: pd.DataFrame) -> pd.DataFrame:
    """One row per candidate, clustering, condition and metric: how much worse than the clean pair, in ``drop``."""
    keys = [*CANDIDATE, "data", *_CLUSTERED, "metric"]
    measured = ok(cells[[*keys, *_POINT, "value", "higher_is_better", "status"]])
    sign = np.where(measured["higher_is_better"], 1.0, -1.0)
    measured = measured.assign(value=sign * measured["value"])
    means = measured.groupby([*keys, *_POINT], sort=False)["value"].mean().reset_index()
    clean = means[means["shift"] == CLEAN_KEY[0]].drop(columns=CONDITION).rename(columns={"value": "clean"})
    shifted = means[~means["shift"].isin([CLEAN_KEY[0], CHANCE_KEY[0]])].merge(clean, on=[*keys, "split"], how="left")
    from_clean = _kind(shifted["metric"]) == "shift"
    shifted["drop"] = shifted["clean"].mask(from_clean, 0.0) - shifted["value"]
    return shifted.dropna(subset=["drop"])


def _quantities(drops: pd.DataFrame, stability: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, list[str]]]:
    """The quantities without labels, as ``metric`` and ``drop``, with the columns that match them to points."""
    unlabelled = drops[_kind(drops["metric"]).isin(["partition", "features", "shift"])]
    of_features = unlabelled["clusterer"] == FEATURES
    yield unlabelled[~of_features], [*CANDIDATE, "data", *_CLUSTERED, *_POINT]
    yield unlabelled[of_features], [*CANDIDATE, "data", *_POINT]
    keys = ["encoder", "feature", "data", *_CLUSTERED, *_POINT]
    measured = ok(stability)
    measured = measured[measured["axis"].isin(["shift", "initialization"]) & measured["metric"].isin(["ari", "ami"])]
    measured = measured.assign(metric=measured["axis"] + "_" + measured["metric"])
    means = measured.groupby([*keys, "metric"], sort=False)["mean"].mean().reset_index()
    same = [key for key in keys if key not in CONDITION]
    clean = means[means["shift"] == CLEAN_KEY[0]][[*same, "metric", "mean"]].rename(columns={"mean": "clean"})
    shifted = means[means["shift"] != CLEAN_KEY[0]].merge(clean, on=[*same, "metric"], how="left")
    shifted["drop"] = shifted["clean"].mask(shifted["metric"].str.startswith("shift_"), 1.0) - shifted["mean"]
    yield shifted.dropna(subset=["drop"]), keys


def _kind(metrics: pd.Series) -> pd.Series:
    """What each metric describes, as registered; empty for others."""
    return metrics.map({name: METRICS[name].group if name in METRICS else "" for name in metrics.unique()}).astype(
        object
    )


def _wide(drops: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """One row per point, one column per metric."""
    table = drops.set_index([*keys, "metric"])["drop"].unstack("metric")
    table.columns.name = None
    return table.reset_index()


def _selections(points: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Each encoder and all of them, under each shift and all of them."""
    shifts = list(dict.fromkeys(points["shift"]))
    candidates: list[tuple[dict[str, Any], pd.DataFrame]] = [
        (dict(zip(CANDIDATE, key, strict=True)), part) for key, part in points.groupby(CANDIDATE, sort=False)
    ]
    if len(candidates) > 1:
        candidates.append((dict.fromkeys(CANDIDATE, ALL), points))
    for names, part in candidates:
        for shift in shifts:
            yield names | {"shift": shift}, part[part["shift"] == shift]
        if len(shifts) > 1:
            yield names | {"shift": ALL}, part


def _correlate(points: pd.DataFrame, scores: Sequence[str], names: Sequence[str]) -> list[dict[str, Any]]:
    """Both coefficients of every score with every quantity, over the points that have both."""
    known = points[[*scores, *names]].notna()
    complete = {name: known[name].to_numpy() for name in [*scores, *names]}
    condition = points[_NUMBER].to_numpy()
    correlations: dict[bytes, RankCorrelations] = {}
    rows: list[dict[str, Any]] = []
    resampled: list[np.ndarray] = []  # both coefficients of each row with enough conditions
    for score in scores:
        for name in names:
            both = complete[score] & complete[name]
            if not both.any():
                continue
            distinct, conditions = np.unique(condition[both], return_inverse=True)
            count = len(distinct)
            rows.append({"metric": score, "proxy": name, "n": count})
            if count < MIN_CONDITIONS:
                rows[-1]["reason"] = f"needs {MIN_CONDITIONS} conditions, has {count}"
                continue
            if both.tobytes() not in correlations:
                values = points.loc[both, [*scores, *names]].fillna(0.0).to_numpy(float).T
                correlations[both.tobytes()] = RankCorrelations(values, conditions, RESAMPLES)
            correlation = correlations[both.tobytes()]
            pair = [[*scores, *names].index(variable) for variable in (score, name)]
            resampled += [correlation.spearman(*pair), correlation.kendall(*pair)]
    bounded = iter(intervals(np.array(resampled).reshape(-1, 1 + RESAMPLES)).tolist())
    for row in rows:
        if "reason" not in row:
            for coefficient in ("spearman", "kendall"):
                columns = coefficient, f"{coefficient}_low", f"{coefficient}_high"
                row |= dict(zip(columns, next(bounded), strict=True))
            row["reason"] = "" if np.isfinite(row["spearman"]) else "one of the two does not vary"
    return rows
