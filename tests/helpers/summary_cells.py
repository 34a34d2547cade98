"""Cells of three made-up encoders, and a look at their summary."""

import itertools

import numpy as np
import pandas as pd

from shiftbench.results.summary import CONDITION
from shiftbench.results.tables import REPLICATE_KEYS, cells_table, replicates_table

ENCODERS = {"zeta": [0, 1], "pixels": [None], "alpha": [None]}


CONDITIONS = [("corruption", name, severity) for name in ("fog", "snow") for severity in (1, 2, 3)]


def cells(encoders=ENCODERS, seeds=4, conditions=CONDITIONS, failed=(), metric="acc"):
    """Random cells: 0.1 chance, about 0.8 clean, about 0.5 shifted."""
    noise = np.random.default_rng(5)
    rows = []
    for encoder, trained in encoders.items():
        for train_seed, seed, condition in itertools.product(
            trained, range(seeds), [("clean", "", 0), ("chance", "", 0), *conditions]
        ):
            shift, corruption, severity = condition
            level = {"clean": 0.8, "chance": 0.1}.get(shift, 0.6 - 0.08 * severity)
            broken = (encoder, condition) in failed
            rows.append(
                {
                    "encoder": encoder, "train_seed": train_seed, "data": "digits", "split": "test", "shift": shift,
                    "corruption": corruption, "severity": severity, "table": "cifar", "feature": "backbone",
                    "clusterer": "kmeans", "k": 10, "k_source": "true", "seed": seed, "protocol": "frozen",
                    "fit_split": "train", "selection": "last", "metric": metric,
                    "value": np.nan if broken else level + 0.05 * noise.standard_normal(),
                    "higher_is_better": True, "n": 360, "status": "failed" if broken else "ok",
                    "reason": "no memory" if broken else "",
                }
            )  # fmt: skip
    return cells_table(rows)


def row(summary, encoder, shift="corruption"):
    found = summary[(summary["encoder"] == encoder) & (summary["shift"] == shift)]
    assert len(found) == 1
    return found.iloc[0]


def by_hand(table, encoder, column="value"):
    """Mean value per condition, straight from the cells."""
    mine = table[(table["encoder"] == encoder) & (table["status"] == "ok")]
    return mine.groupby(CONDITION)[column].mean()


def drawn(table, resamples=60, spread=0.01, seed=0):
    """Draws around the mean over seeds of each training: common to all encoders (images), and each one's own."""
    noise = np.random.default_rng(seed)
    common = spread * noise.standard_normal(resamples)
    rows = []
    measured = table[(table["status"] == "ok") & (table["shift"] != "chance")]
    for key, values in measured.groupby(REPLICATE_KEYS, sort=False, dropna=False)["value"]:
        own = 0.1 * spread * noise.standard_normal(resamples)
        rows.append(dict(zip(REPLICATE_KEYS, key, strict=True)) | {"replicates": values.mean() + common + own})
    return replicates_table(pd.DataFrame(rows).astype({"train_seed": "Int64"}).to_dict("records"))
