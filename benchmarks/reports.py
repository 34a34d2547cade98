"""A report of very many encoders, and its two costliest parts beside the usual libraries.

    python -m benchmarks.reports [--encoders 200] [--folders 4] [--folder DIR]

Makes results of so many encoders under 75 corruptions with ten seeds, in so many folders, which one `shiftbench report`
merges: it derives the tables anew, since comparisons and correlations are of all encoders. Prints its time, the page's size and
how long a Chromium takes to open it; and, one thread on both sides, pandas writing the same tables, and SciPy
correlating points that are really repeated. DIR keeps what was made.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from playwright.sync_api import sync_playwright
from scipy import stats

from shiftbench.registry import CORRUPTIONS
from shiftbench.results.correlation import RankCorrelations
from shiftbench.results.derive import derive
from shiftbench.results.resample import CONDITIONS, resample_weights
from shiftbench.results.tables import (
    TABLES,
    Results,
    cells_table,
    recall_table,
    replicates_table,
    stability_table,
    write_table,
)
from shiftbench.runtime.parallel import single_threaded

ENCODERS, SEEDS, RESAMPLES = 200, 10, 400
LABELLED = ("acc", "nmi", "ari", "ami")
LABEL_FREE = ("silhouette", "entropy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", type=int, default=ENCODERS)
    parser.add_argument("--folders", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="where the results are made; a temporary one is removed again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = given.folder or Path(temporary)
        parts = [home / f"part{i}" for i in range(given.folders)]
        if not all(part.is_dir() for part in parts):
            tables = measured(given.encoders)
            shares = np.array_split(tables["cells"]["encoder"].unique(), given.folders)
            for part, names in zip(parts, shares, strict=True):
                make(part, {name: table[table["encoder"].isin(names)] for name, table in tables.items()})
        page = merged(parts, home / "page")
        print(f"{page.stat().st_size / 1e6:.1f} MB, opens in {opening(page):.2f} s")
        with single_threaded():
            compare("tables, CSV and Parquet; pandas", *tables_written(Results.load(page.parent), home / "tables"))
            compare("Spearman and Kendall, 15,000 points, 400 resamples of 75 conditions; SciPy", *correlated())


def merged(parts: list[Path], out: Path) -> Path:
    """The page of all parts, made by the command."""
    began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "shiftbench", "report", *map(str, parts), "-o", str(out)], check=True)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    print(f"{time.perf_counter() - began:.1f} s, {cpu:.1f} CPU s, {now.ru_maxrss / 1e6:.1f} GB")
    return out / "report.html"


def opening(page: Path) -> float:
    """Seconds until a Chromium has loaded a page and drawn it, the median of 5; NaN without a Chromium."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        return float("nan")
    taken = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(5):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            began = time.perf_counter()
            tab.goto(page.resolve().as_uri())
            tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            taken.append(time.perf_counter() - began)
            tab.close()
        browser.close()
    return float(np.median(taken))


def tables_written(results: Results, folder: Path) -> tuple[float, float]:
    """CPU seconds of pandas and of ours."""
    tables = {name: getattr(results, name) for name in TABLES}
    folder.mkdir(exist_ok=True)

    def by_pandas() -> None:
        for name, table in tables.items():
            if name != "replicates":
                table.to_csv(folder / f"{name}.csv", index=False)
            table.to_parquet(folder / f"{name}.parquet", index=False)

    def by_ours() -> None:
        for name, table in tables.items():
            write_table(table, folder / name, csv=name != "replicates")

    return seconds(by_pandas), seconds(by_ours)


def correlated(points: int = 15_000, groups: int = 75, resamples: int = 400, timed: int = 4) -> tuple[float, float]:
    """CPU seconds of SciPy, where a few resamples stand for all of them, and of ours."""
    generator = np.random.default_rng(0)
    values, group = generator.normal(size=(2, points)), np.arange(points) % groups
    weights = resample_weights(groups, resamples, stream=CONDITIONS)

    def by_scipy() -> None:
        for resample in weights.T[:timed]:
            x, y = np.repeat(values, resample[group], axis=1)
            stats.spearmanr(x, y)
            stats.kendalltau(x, y)

    def by_ours() -> None:
        correlations = RankCorrelations(values, group, resamples)
        correlations.spearman(0, 1)
        correlations.kendall(0, 1)

    by_ours()  # compiles
    return seconds(by_scipy) * resamples / timed, seconds(by_ours)


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def compare(what: str, usual: float, ours: float) -> None:
    print(f"| {what} | {usual:.2f} | {ours:.2f} | {usual / ours:.1f} |")


def product(**levels: Any) -> pd.DataFrame:
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

    resampled = table[table["shift"] != "chance"].merge(product(metric=LABELLED), how="cross")
    luck = 0.01 * generator.standard_normal(RESAMPLES)
    spread = 0.003 * generator.standard_normal((len(resampled), RESAMPLES), dtype=np.float32)
    values = pd.DataFrame(
        np.clip(resampled["score"].to_numpy(np.float32)[:, None] + luck.astype(np.float32) + spread, 0, 1),
        columns=[f"b{i}" for i in range(RESAMPLES)],
    )
    replicates = pd.concat([resampled, values], axis=1).drop(
        columns=["place", "score", "status", "reason", "n", "higher_is_better"]
    )

    agreed = table[table["shift"] != "chance"].merge(
        product(axis=["initialization", "shift"], metric=["ari", "ami", "matched_acc"]), how="cross"
    )
    agreed = agreed[(agreed["shift"] != "clean") | (agreed["axis"] != "shift")].assign(sd=0.05, n_pairs=45)
    agreed = agreed.assign(mean=agreed["score"], ci_low=agreed["score"] - 0.01, ci_high=agreed["score"] + 0.01)
    return {
        "cells": cells_table(runs), "recall": recall_table([]), "stability": stability_table(agreed),
        "replicates": replicates_table(replicates),
    }  # fmt: skip


def make(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write the results folder of an evaluation that measured these tables."""
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
    results = derive(tables)
    results.run = run
    results.save(folder)


if __name__ == "__main__":
    main()
