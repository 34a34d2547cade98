"""A merged report of 200 encoders under 76 conditions with 10 seeds stays small and quick to build."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shiftbench.conclude import conclude
from shiftbench.registry import CORRUPTIONS, METRICS
from shiftbench.reports import report
from shiftbench.results import Results, cells_table, draws_table, recall_table, stability_table

ENCODERS, SEEDS, RESAMPLES = 200, 10, 400
LABELLED = ("acc", "nmi", "ari", "ami")
LABEL_FREE = ("silhouette", "entropy")


def product(**levels) -> pd.DataFrame:
    return pd.MultiIndex.from_product(levels.values(), names=levels.keys()).to_frame(index=False)


def conditions() -> pd.DataFrame:
    clean = pd.DataFrame({"shift": ["clean", "chance"], "corruption": "", "severity": 0, "table": ""})
    shifted = product(corruption=CORRUPTIONS.names("common"), severity=range(1, 6))
    return pd.concat([clean, shifted.assign(shift="corruption", table="cifar")], ignore_index=True)


def measured(encoders: int = ENCODERS) -> dict[str, pd.DataFrame]:
    """The measured tables, as functions of a level per encoder and a harm per condition."""
    generator = np.random.default_rng(0)
    names = ["pixels", *(f"timm:encoder_{i}" for i in range(1, encoders))]
    level = pd.Series(generator.uniform(0.2, 0.95, encoders), index=names)
    shared = {
        "train_seed": pd.NA, "data": "cifar10", "split": "test", "feature": "backbone", "clusterer": "kmeans", "k": 10,
        "k_source": "true", "selection": "last", "status": "ok", "reason": "", "n": 10000, "higher_is_better": True,
    }  # fmt: skip
    places = conditions().assign(place=range(77))
    table = product(encoder=names, place=range(77), protocol=["frozen", "refit"]).merge(places, on="place")
    harm = table["severity"] / 5 * (0.2 + 0.5 * (table["place"] % 7) / 7)
    score = table["encoder"].map(level) * (1 - harm) * np.where(table["protocol"] == "frozen", 1, 1.02)
    table = table.assign(score=np.where(table["shift"] == "chance", 0.1, 0.1 + 0.85 * score), **shared)

    runs = table.merge(product(metric=[*LABELLED, *LABEL_FREE], seed=range(SEEDS)), how="cross")
    runs = runs[(runs["shift"] != "chance") | runs["metric"].isin(LABELLED)]
    noise = 0.01 * generator.standard_normal(len(runs))
    fit_split = runs["protocol"].map({"frozen": "train", "refit": "test"})
    runs = runs.assign(value=(runs["score"] + noise).clip(0, 1), fit_split=fit_split)

    drawn = table[table["shift"] != "chance"].merge(product(metric=LABELLED), how="cross")
    luck = 0.01 * generator.standard_normal(RESAMPLES)
    spread = 0.003 * generator.standard_normal((len(drawn), RESAMPLES), dtype=np.float32)
    values = pd.DataFrame(
        np.clip(drawn["score"].to_numpy(np.float32)[:, None] + luck.astype(np.float32) + spread, 0, 1),
        columns=[f"b{i}" for i in range(RESAMPLES)],
    )
    draws = pd.concat([drawn, values], axis=1).drop(
        columns=["place", "score", "status", "reason", "n", "higher_is_better"]
    )

    agreed = table[table["shift"] != "chance"].merge(
        product(axis=["initialization", "shift"], metric=["ari", "ami", "matched_acc"]), how="cross"
    )
    agreed = agreed[(agreed["shift"] != "clean") | (agreed["axis"] != "shift")].assign(sd=0.05, n_pairs=45)
    agreed = agreed.assign(mean=agreed["score"], ci_low=agreed["score"] - 0.01, ci_high=agreed["score"] + 0.01)
    return {
        "cells": cells_table(runs), "recall": recall_table([]), "stability": stability_table(agreed),
        "draws": draws_table(draws),
    }  # fmt: skip


def make(folder: Path, encoders: int = ENCODERS) -> None:
    """Write such a results folder."""
    tables = measured(encoders)
    names = list(dict.fromkeys(tables["cells"]["encoder"]))
    run = {
        "format": 2, "version": "0.1.0", "command": "shiftbench evaluate", "table": "cifar", "k": 10, "seeds": SEEDS,
        "protocols": ["frozen", "refit"], "dtype": "float32",
        "data": {"name": "cifar10", "fingerprint": "c1" * 32, "n_train": 50000, "n_test": 10000, "classes": ["a"] * 10},
        "encoders": [
            {"name": name, "train_seed": None, "slug": name, "feature": "backbone", "fingerprint": f"{i:064x}"}
            for i, name in enumerate(names)
        ],
    }  # fmt: skip
    results = conclude(tables)
    results.run = run
    results.save(folder)


@pytest.mark.slow
def test_two_hundred_encoders(tmp_path, walk):
    make(tmp_path / "large")
    path = report(tmp_path / "large", tmp_path / "page")
    assert path.stat().st_size < 15e6
    results = Results.load(tmp_path / "page")
    walker = walk(path.read_text(encoding="utf-8"))
    (table,) = walker.all("table", id="overview-1")
    rows = [one for one in walker.all("tr") if "data-filter" in one["attrs"] and table in one["parents"]]
    assert len(rows) == ENCODERS * 2 * 2  # ACC and ARI, frozen and refit
    assert "The other 2 metrics are in summary.csv" in walker.all("section", id="overview")[0]["text"]
    assert len(results.comparisons) == ENCODERS * (ENCODERS - 1) / 2 * 2 * 2 * len([*LABELLED, *LABEL_FREE])
    assert set(METRICS) > set(results.cells["metric"])
