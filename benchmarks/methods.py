"""All methods on CIFAR-10 with one small network and one small budget, scored clean and under 75 corruptions.

    python -m benchmarks.methods --data DIR [--out results/methods] [--methods concurl idfd ...] [--seeds 0 1]
                                 [--images 10000] [--epochs 15] [--limit 2000]

``--data`` (or SHIFTBENCH_DATA) holds CIFAR-10's python batches. Every training is the `common` recipe with a ResNet-8 in
bfloat16 on an evenly spaced part of the training split, on one thread, as many at once as there are cores. Nothing is
chosen by labels: the last epoch's weights are scored, whatever they are. A run that was stopped goes on where it was.

Writes OUT/report.html, and prints two tables in Markdown: the scores, and what each training says of itself without labels.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

import shiftbench
from shiftbench.configs import compose
from shiftbench.encoders.run_folder import DESCRIPTION
from shiftbench.results.tables import Results
from shiftbench.trainers.run_files import read_config

METHODS = ("concurl", "idfd", "drc", "decl", "npid", "simclr", "byol", "cc")
# The network a core can train in minutes, and half of the recipe's batch, so that few epochs have twice the steps.
BUDGET = ("trainer.backbone=resnet8", "trainer.precision=bfloat16", "trainer.batch=128", "trainer.threads=1")
DIAGNOSTICS = {"probe_rank": "effective rank", "probe_spread": "spread", "probe_largest_cluster": "largest cluster"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("SHIFTBENCH_DATA"))
    parser.add_argument("--out", type=Path, default=Path("results/methods"))
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--images", type=int, default=10_000, help="of the training split, to train on")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--limit", type=int, default=2_000, help="images of each split, to score")
    given = parser.parse_args()
    if given.data is None:
        parser.error("name the folder of CIFAR-10 with --data")
    runs = trained(given)
    results = shiftbench.evaluate(
        [str(run) for run in runs],
        data={"name": "cifar10", "root": str(given.data)},
        shift="corruption",
        feature=["auto", "backbone"],  # the feature that each method trains, and the feature that all of them have
        limit=given.limit,
        results=given.out,
    )
    shiftbench.report(given.out, given.out)
    print(markdown(scores(results)), markdown(diagnostics(runs)), sep="\n\n")


def trained(given: argparse.Namespace) -> list[Path]:
    """The run folders of all trainings, finished: begun, resumed, or done already; as many at once as there are cores."""
    jobs = [_job(given, method, seed) for seed in given.seeds for method in given.methods]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_train, jobs))
    return [max(folder.glob("*/" + DESCRIPTION)).parent for folder, _ in jobs]


def _job(given: argparse.Namespace, method: str, seed: int) -> tuple[Path, list[str]]:
    """Its folder, and the arguments of `shiftbench train`: none where nothing is left to do."""
    folder = given.out / "runs" / f"{method}-seed{seed}"
    overrides = ["data=cifar10", f"data.root={given.data}", f"limit={given.images}", f"trainer.epochs={given.epochs}"]
    overrides = [f"method={method}", "preset=common", *overrides, *BUDGET, f"seed={seed}", f"runs={folder}"]
    begun = sorted(folder.glob("*/checkpoint.pt"))
    if not begun:
        return folder, overrides
    run = begun[-1].parent
    if read_config(run) != compose("train", overrides):
        sys.exit(f"{run} was trained with other settings: name another folder with --out.")
    return folder, [] if (run / DESCRIPTION).exists() else [f"resume={run}"]


def _train(job: tuple[Path, list[str]]) -> None:
    folder, arguments = job
    if arguments:
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "shiftbench", "train", *arguments]
        with (folder / "training.log").open("a") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"})
        print(f"trained {folder.name}", flush=True)


def scores(results: Results) -> pd.DataFrame:
    """One row per encoder, feature and clusterer, frozen: percent, with half of the interval over images and runs."""
    keys = ["encoder", "feature", "clusterer"]
    frozen = results.summary.query("protocol == 'frozen' and shift == 'corruption'").set_index(keys)
    probe = frozen.query("metric == 'acc' and clusterer == 'probe:knn'").droplevel("clusterer")
    acc, ari = (
        frozen.query("metric == @metric and not clusterer.str.startswith('probe')") for metric in ("acc", "ari")
    )
    stability = results.stability.query("protocol == 'frozen' and metric == 'ari' and status == 'ok'").set_index(keys)
    starts = stability.query("axis == 'initialization' and shift == 'clean'").groupby(keys)["mean"].mean()
    moved = stability.query("axis == 'shift' and shift == 'corruption'").groupby(keys)["mean"].mean()
    columns = {
        "ACC clean": _with_interval(acc, "clean"),
        "ACC corrupted": _with_interval(acc, "shifted"),
        "drop": _with_interval(acc, "drop"),
        "worst": acc.apply(lambda row: f"{100 * row['worst']:.1f} {row['worst_case'].replace('-', ' ')}", axis=1),
        "ARI clean": _percent(ari["clean"]),
        "ARI corrupted": _percent(ari["shifted"]),
        "stability": _percent(starts),
        "agreement": _percent(moved),
    }
    table = pd.DataFrame(columns).loc[acc.index]
    for name, column in (("k-NN clean", "clean"), ("k-NN corrupted", "shifted")):
        table[name] = _percent(probe[column].reindex(table.index.droplevel("clusterer"))).to_numpy()
    return table.replace("nan", "").fillna("").reset_index()


def diagnostics(runs: list[Path]) -> pd.DataFrame:
    """The last epoch of each training, as its own curves have it."""
    rows = []
    for run in runs:
        curve = pd.read_csv(run / "metrics.csv")
        method, _, seed = run.parent.name.rpartition("-seed")
        row = {
            "method": method,
            "seed": seed,
            "loss, first epoch": curve["loss"].iloc[0],
            "last": curve["loss"].iloc[-1],
        }
        row |= {name: curve[column].iloc[-1] for column, name in DIAGNOSTICS.items() if column in curve}
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.map(lambda value: f"{value:.3g}" if isinstance(value, float) else value).replace("nan", "")


def markdown(table: pd.DataFrame) -> str:
    lines = [table.columns, ["---"] * len(table.columns), *table.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _percent(values: pd.Series) -> pd.Series:
    return values.map(lambda value: f"{100 * value:.1f}")


def _with_interval(table: pd.DataFrame, name: str) -> pd.Series:
    half = 50 * (table[f"{name}_high"] - table[f"{name}_low"])
    return _percent(table[name]) + half.map(lambda value: f"±{value:.1f}")


if __name__ == "__main__":
    main()
