"""The experiment of docs/stability.md: what stability says of four encoders of CIFAR-10 that accuracy does not.

    python -m benchmarks.stability --data DIR [--out results/stability] [--figure docs/stability.png]

``--data`` (or SHIFTBENCH_DATA) holds CIFAR-10's python batches and ``checkpoints/`` with the ResNets of
akamaster/pytorch_resnet_cifar10 and the autoencoder of phlippe/saved_models. The evaluation goes on where it was.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

import shiftbench
from shiftbench.results.tables import Results

CHECKPOINTS = {
    "ResNet-56": "akamaster/resnet56-4bfd9763.th?norm=imagenet&name=ResNet-56",
    "ResNet-20": "akamaster/resnet20-12fca82f.th?norm=imagenet&name=ResNet-20",
    "autoencoder": "phlippe/tutorial9_cifar10_ae64_state_dict.pt?norm=half&arch=uvadlc_autoencoder64&name=autoencoder",
}
SHIFTS = ("gaussian_noise-3", "fog-3", "jpeg_compression-3")
PROTOCOL = {"training_seed": "refit", "initialization": "refit", "shift": "refit"}
COLOURS = {"ResNet-56": "#0072B2", "ResNet-20": "#56B4E9", "autoencoder": "#E69F00", "pixels": "#666666"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("SHIFTBENCH_DATA"))
    parser.add_argument("--out", type=Path, default=Path("results/stability"))
    parser.add_argument("--figure", type=Path, default=Path("docs/stability.png"))
    parser.add_argument("--limit", type=int, default=None)
    options = parser.parse_args()
    results = shiftbench.evaluate(
        [str(options.data / "checkpoints" / uri) for uri in CHECKPOINTS.values()],
        data={"name": "cifar10", "root": str(options.data)},
        shift=SHIFTS,
        floors=["pixels"],
        seeds=20,
        stability="all",
        limit=options.limit,
        results=options.out,
    )
    print(markdown(table(results)))
    draw(results, options.figure)
    print(options.figure)


def conditions(results: Results) -> list[tuple[str, str]]:
    """(label, corruption) of what was scored, clean first."""
    return [("clean", ""), *((name.replace("_", " "), name.rpartition("-")[0]) for name in SHIFTS)]


def agreement(results: Results, axis: str) -> pd.DataFrame:
    """Mean ARI of refitted partitions and its interval, in percent: encoder and corruption by row."""
    rows = results.stability.query("axis == @axis and metric == 'ari' and protocol == 'refit'")
    return rows.set_index(["encoder", "corruption"])[["mean", "ci_low", "ci_high"]] * 100


def accuracy(results: Results) -> pd.Series:
    """ACC of refitted clusters in percent, mean over seeds."""
    rows = results.cells.query(
        "clusterer == 'kmeans' and metric == 'acc' and protocol == 'refit' and shift != 'chance'"
    )
    return rows.groupby(["encoder", "corruption"])["value"].mean() * 100


def axes(results: Results) -> list[str]:
    measured = results.stability.query("status == 'ok'")["axis"].unique()
    return [
        axis
        for axis in ("initialization", "bootstrap", "augmentation", "projection", "algorithm", "shift")
        if axis in measured
    ]


def table(results: Results) -> pd.DataFrame:
    columns = {("ACC", label): accuracy(results).xs(name, level=1) for label, name in conditions(results)}
    for axis in axes(results):
        there = agreement(results, axis)["mean"]
        for label, name in conditions(results):
            if name in there.index.get_level_values(1):
                columns[(axis, label)] = there.xs(name, level=1)
    whole = pd.DataFrame(columns).loc[list(COLOURS)]
    return whole.T


def markdown(whole: pd.DataFrame) -> str:
    lines = [f"| | {' | '.join(map(str, whole.columns))} |", "|---" * (len(whole.columns) + 1) + "|"]
    for (axis, label), row in whole.iterrows():
        cells = " | ".join("" if pd.isna(value) else f"{value:.1f}" for value in row)
        lines.append(f"| {axis}, {label} | {cells} |")
    return "\n".join(lines)


def draw(results: Results, path: Path) -> None:
    names = axes(results)
    figure, panels = plt.subplots(1, len(names) + 1, figsize=(13, 3.4), sharey=True)
    labels = [label for label, _ in conditions(results)]
    for panel, name in zip(panels, ["accuracy", *names], strict=True):
        for i, encoder in enumerate(COLOURS):
            xs, means, lows, highs = [], [], [], []
            for x, (_, corruption) in enumerate(conditions(results)):
                key = (encoder, corruption)
                if name == "accuracy":
                    row = accuracy(results).loc[key]
                    values = (row, row, row)
                else:
                    there = agreement(results, name)
                    if key not in there.index:
                        continue
                    values = tuple(there.loc[key])
                xs.append(x + (i - 1.5) * 0.16)
                means.append(values[0])
                lows.append(values[0] - values[1])
                highs.append(values[2] - values[0])
            panel.errorbar(xs, means, [lows, highs], fmt="o", ms=5, lw=1.5, color=COLOURS[encoder], label=encoder)
        panel.set_title("ACC" if name == "accuracy" else f"{name}, ARI", fontsize=10)
        panel.set_xticks(range(len(labels)), labels, rotation=40, ha="right", fontsize=8)
        panel.set_ylim(-3, 103)
        panel.grid(axis="y", lw=0.4)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("percent")
    handles, names_shown = panels[0].get_legend_handles_labels()
    figure.legend(handles, names_shown, loc="upper center", ncol=4, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0, 1, 0.92))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
