"""Results folders as evaluations write them, made up from a recipe: no encoder runs."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from shiftbench.registry import CORRUPTIONS, METRICS
from shiftbench.results.derive import derive
from shiftbench.results.tables import Results, cells_table, recall_table, replicates_table, stability_table

COMMON = CORRUPTIONS.names("common")


CHANCE = {"acc": 0.18, "nmi": 0.04, "ari": 0.0, "ami": 0.0, "purity": 0.19}


LABEL_FREE = {"silhouette": (0.3, -0.2), "entropy": (0.9, -0.4), "collapsed": (0.0, 4.0), "drift": (0.0, 0.8)}


AXES = {
    "initialization": ("ari", "ami", "matched_acc", "cluster_jaccard", "sample_consensus", "pac"),
    "shift": ("ari", "ami", "matched_acc"),
    "bootstrap": ("ari", "ami", "matched_acc"),
}


RESAMPLES = 60


# How much of the clean score each corruption takes away at severity 5, more or less as it is on digits.
HARSHNESS = dict(
    zip(
        COMMON,
        [0.5, 0.55, 0.75, 0.3, 0.35, 0.3, 0.25, 0.55, 0.65, 0.5, 0.3, 0.8, 0.2, 0.1, 0.08],
        strict=True,
    )
)


@dataclass(frozen=True)
class Recipe:
    """What a synthetic evaluation covers.

    ``natural`` shifts have no severities; one whose name ends in "9" lacks one of ten classes.
    """

    encoders: Sequence[tuple[str, int | None, float]] = (
        ("concurl", 0, 0.89),
        ("pixels", None, 0.77),
        ("random:small_cnn", None, 0.64),
    )
    corruptions: Sequence[str] = tuple(COMMON)
    natural: Sequence[str] = ()
    skipped: Sequence[str] = ()
    seeds: int = 10
    metrics: Sequence[str] = tuple(CHANCE)
    label_free: Sequence[str] = ()
    clusterers: Sequence[str] = ("kmeans",)
    probes: Sequence[str] = ()
    axes: Sequence[str] = ("initialization", "shift")
    protocols: Sequence[str] = ("frozen", "refit")
    data: str = "digits"
    fingerprint: str = "d1" * 32
    weights: str = "w"
    failed: Sequence[tuple[str, str]] = ()  # (encoder, condition label)
    k: int = 10
    table: str = "cifar"
    examples: bool = True
    harshness: float = 1.0
    replicates: bool = True

    @property
    def conditions(self) -> list[tuple[str, str, int, str]]:
        shifted = [("corruption", name, severity, "test") for name in self.corruptions for severity in range(1, 6)]
        splits = {name: f"test[{name}]" if name.endswith("9") else "test" for name in self.natural}
        own = [("clean", "", 0, split) for split in dict.fromkeys(splits.values()) if split != "test"]
        return [("clean", "", 0, "test"), *shifted, *own, *((name, "", 0, splits[name]) for name in self.natural)]


EVERYTHING = Recipe(
    encoders=(
        *((f"method-{i}", 0, 0.6 + 0.06 * i) for i in range(5)),
        ("pixels", None, 0.77),
        ("random:small_cnn", None, 0.64),
    ),
    corruptions=("gaussian_noise", "fog"),
    natural=("outdoors", "elsewhere9"),
    skipped=("imagenet_r",),
    seeds=3,
    metrics=("acc", "ari"),
    label_free=tuple(LABEL_FREE),
    clusterers=("kmeans", "gmm"),
    probes=("probe:knn", "probe:linear"),
    axes=tuple(AXES),
    failed=(("method-0", "fog-4"),),
)


def slug(encoder: str, train_seed: int | None) -> str:
    return encoder.replace(":", "-") + ("" if train_seed is None else f"-seed{train_seed}")


def make(recipe: Recipe, folder: Path) -> Results:
    """Write a results folder after a recipe."""
    results = replace(derive(_measured(recipe)), run=_run(recipe))
    results.save(folder)
    if recipe.examples:
        _write_examples(recipe, folder / "examples")
    return results


def _measured(recipe: Recipe):
    noise = np.random.default_rng(7)
    rows = {"cells": [], "recall": [], "stability": [], "replicates": []}
    luck = noise.standard_normal(RESAMPLES)  # images that are hard for everybody
    splits = dict.fromkeys(split for *_, split in recipe.conditions)
    conditions = [*recipe.conditions, *(("chance", "", 0, split) for split in splits)]
    for name, train_seed, level in recipe.encoders:
        for clusterer in recipe.clusterers:
            for shift, corruption, severity, split in conditions:
                label = f"{corruption}-{severity}" if corruption else shift
                failed = (name, label) in recipe.failed or (shift == "chance" and (name, "clean") in recipe.failed)
                keys = {
                    "encoder": name, "train_seed": train_seed, "data": recipe.data, "split": split, "shift": shift,
                    "corruption": corruption, "severity": severity, "table": recipe.table if corruption else "",
                    "feature": "head" if name == "concurl" else "backbone", "clusterer": clusterer, "k": recipe.k,
                    "k_source": "true" if recipe.metrics else "given", "n": 360, "selection": "last",
                    "status": "failed" if failed else "ok",
                    "reason": "ValueError: features are not finite" if failed else "",
                }  # fmt: skip
                hardness = 0.3 if shift in recipe.natural else HARSHNESS.get(corruption, 0) * (severity / 5) ** 1.3
                lost = recipe.harshness * hardness * (1.35 - 0.5 * level)
                for protocol in recipe.protocols:
                    kept = max(1 - lost * (1 if protocol == "frozen" else 0.8), 0.05)
                    _add(rows, recipe, keys | {"protocol": protocol}, level, kept, luck, noise)
                if clusterer == recipe.clusterers[0]:
                    for probe in recipe.probes:
                        read = keys | {"clusterer": probe, "k_source": "true", "protocol": "frozen"}
                        scores = _scores(
                            replace(recipe, metrics=("acc",), seeds=1), read, level**0.5 * kept**0.5, noise
                        )
                        rows["cells"] += scores
                        rows["replicates"] += _replicates(scores, luck, noise)
        rows["cells"] += _skipped(recipe, name, train_seed)
    return {
        "cells": cells_table(rows["cells"]), "stability": stability_table(rows["stability"]),
        "recall": recall_table(rows["recall"]), "replicates": replicates_table(rows["replicates"] if recipe.replicates else []),
    }  # fmt: skip


def _add(rows, recipe, keys, level, kept, luck, noise) -> None:
    scores = _scores(recipe, keys, level * kept, noise)
    rows["cells"] += scores + [one for one in _label_free(recipe, keys, kept, noise) if keys["shift"] != "chance"]
    rows["replicates"] += _replicates(scores, luck, noise)
    if keys["shift"] != "chance":
        rows["recall"] += _recalls(recipe, keys, level * kept) if recipe.metrics and keys["status"] == "ok" else []
        rows["stability"] += _agreements(recipe, keys, level, kept, noise)


def _cell(keys, seed, metric, value, higher_is_better=True) -> dict:
    fit_split = "train" if keys["protocol"] == "frozen" else "test"
    value = np.nan if keys["status"] == "failed" else value
    return keys | {
        "seed": seed, "fit_split": fit_split, "metric": metric, "value": value, "higher_is_better": higher_is_better,
    }  # fmt: skip


def _scores(recipe, keys, level, noise) -> list[dict]:
    rows = []
    for seed in range(recipe.seeds):
        # A good or bad start is good or bad under every condition; the rest is noise of the condition.
        start = np.random.default_rng([len(keys["encoder"]), len(keys["protocol"]), seed]).standard_normal()
        luck = 0.012 * start + 0.006 * noise.standard_normal()
        for metric in recipe.metrics:
            floor = CHANCE[metric]
            above = (level + luck) * (1 - floor) * (0.9 if floor else 0.85)
            value = floor + (0.004 * luck if keys["shift"] == "chance" else above)
            rows.append(_cell(keys, seed, metric, float(np.clip(value, 0, 1))))
    return rows


def _label_free(recipe, keys, kept, noise) -> Iterable[dict]:
    for seed in range(recipe.seeds):
        for metric in recipe.label_free:
            if metric == "drift" and (keys["protocol"] == "refit" or keys["shift"] == "clean"):
                continue
            start, change = LABEL_FREE[metric]
            value = start + change * (1 - kept) + 0.01 * abs(noise.standard_normal())
            yield _cell(keys, seed, metric, value, METRICS[metric].higher_is_better)


def _recalls(recipe, keys, level) -> Iterable[dict]:
    """Three classes, the first found most easily."""
    for place, name in enumerate(("0", "1", "2")):
        about = {"class": name, "mean": level * (1 - 0.1 * place), "sd": 0.01, "n_seeds": recipe.seeds, "n": 120}
        yield {**{key: value for key, value in keys.items() if key not in ("status", "reason")}, **about}


def _replicates(scores, luck, noise) -> Iterable[dict]:
    """Resamples about the mean over seeds, from which those of all encoders differ alike."""
    table = {}
    for one in scores:
        if one["status"] == "ok" and one["shift"] != "chance":
            table.setdefault(one["metric"], []).append(one)
    for metric, ones in table.items():
        mean = np.mean([one["value"] for one in ones])
        spread = 0.01 * luck + 0.004 * noise.standard_normal(RESAMPLES)
        yield ones[0] | {"metric": metric, "replicates": np.clip(mean + spread, 0, 1)}


def _skipped(recipe, name, train_seed) -> Iterable[dict]:
    for shift in recipe.skipped:
        for protocol in recipe.protocols:
            yield {
                "encoder": name, "train_seed": train_seed, "data": recipe.data, "split": "test", "shift": shift,
                "corruption": "", "severity": 0, "table": "", "feature": "head" if name == "concurl" else "backbone",
                "clusterer": recipe.clusterers[0], "k": recipe.k, "k_source": "true", "seed": 0, "protocol": protocol,
                "fit_split": "train", "selection": "last", "metric": recipe.metrics[0], "value": np.nan,
                "higher_is_better": True, "n": 0, "status": "skipped", "reason": "2 classes in common, 3 are needed",
            }  # fmt: skip


def _agreements(recipe, keys, level, kept, noise) -> Iterable[dict]:
    means = {"initialization": 0.72 + 0.25 * level * kept, "shift": 0.95 * kept**1.5, "bootstrap": 0.6 * level + 0.2}
    for axis in recipe.axes:
        if (axis == "shift" and keys["shift"] == "clean") or (axis == "bootstrap" and keys["protocol"] != "refit"):
            continue
        single, failed = axis == "initialization" and recipe.seeds < 2, keys["status"] == "failed"
        for metric in AXES[axis]:
            value = float(np.clip(means[axis] + 0.02 * noise.standard_normal(), 0, 1))
            value = np.nan if failed or single else value
            whole = metric in ("pac", "sample_consensus")
            yield keys | {
                "axis": axis, "metric": metric, "mean": value, "sd": value * 0.05,
                "ci_low": np.nan if whole else value - 0.02, "ci_high": np.nan if whole else min(value + 0.02, 1.0),
                "n_pairs": recipe.seeds * (recipe.seeds - 1) // 2,
                "status": "failed" if failed else "skipped" if single else "ok",
                "reason": keys["reason"] or ("one seed has no other to agree with" if single else ""),
            }  # fmt: skip


def _run(recipe: Recipe) -> dict:
    encoders = [
        {
            "name": name, "train_seed": seed, "slug": slug(name, seed), "dtype": "float32",
            "features": ["head" if name == "concurl" else "backbone"], "feature": "head" if name == "concurl" else "backbone",
            "fingerprint": hashlib.sha256(f"{recipe.weights}{name}{seed}".encode()).hexdigest(),
            "dimensions": {"head": 128, "backbone": 128} if name == "concurl" else {"backbone": 3072},
            "origin": {"sha256": "ab" * 32, "train": {"method": "concurl", "epochs": 40}} if seed is not None else {},
        }
        for name, seed, _ in recipe.encoders
    ]  # fmt: skip
    return {
        "format": 2, "version": "0.1.0", "command": "shiftbench evaluate --shift corruption",
        "commands": ["shiftbench evaluate --shift corruption"], "cpu_seconds": {"cells": 28.0}, "images": 5760,
        "identity": {"code": 2, "data": recipe.fingerprint, "limit": None, "seed": 0},
        "shifts": [
            {"name": "clean", "kind": "clean", "source": "", "citation": ""},
            {"name": "corruption", "kind": "corruption", "source": "made on the fly", "citation": "Hendrycks 2019"},
        ],
        "skipped": dict.fromkeys(recipe.skipped, "2 classes in common, 3 are needed"),
        "config": {"clusterer": "kmeans", "seeds": recipe.seeds, "batch_size": 250},
        "data": {
            "name": recipe.data, "fingerprint": recipe.fingerprint, "n_train": 1437, "n_test": 360,
            "classes": [str(i) for i in range(10)] if recipe.metrics else [],
        },
        "encoders": encoders, "table": recipe.table, "protocols": list(recipe.protocols), "seeds": recipe.seeds,
        "k": recipe.k, "dtype": "float32", "versions": {"python": "3.11.7", "torch": "2.15.0", "numpy": "2.4.1"},
        "hardware": {"cpu": "A processor", "cores": 2, "gpu": None, "system": "Linux"},
        "seconds": {"load": 0.4, "cells": 31.2, "tables": 2.9, "examples": 1.1}, "started": "2026-11-22T09:00:00+00:00",
    }  # fmt: skip


def _write_examples(recipe: Recipe, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    images = np.repeat(np.kron(digits.images / 16 * 255, np.ones((4, 4)))[..., None], 3, axis=-1).astype(np.uint8)
    noise = np.random.default_rng(3)
    if recipe.corruptions:
        rows = [_imitate(images[5], HARSHNESS[name], noise) for name in recipe.corruptions]
        np.savez_compressed(folder / "corruptions.npz", names=np.array(recipe.corruptions), images=np.stack(rows))
    flat = digits.data - digits.data.mean(axis=0)
    axes = np.linalg.svd(flat, full_matrices=False)[2][:2]
    for name, train_seed, level in recipe.encoders:
        index = np.stack([np.flatnonzero(digits.target == c)[:8] for c in range(10)]).astype(np.int64)
        index[9, 5:] = -1
        typical = images[index]
        typical[index < 0] = 255
        arrays = {
            "typical": typical, "typical_index": index, "map_cluster": digits.target[:360].astype(np.int16),
            "map_label": digits.target[:360], "map_condition": np.array("contrast-5"),
            "map_clean": (flat[:360] @ axes.T).astype(np.float32),
            "map_shifted": ((flat[:360] * 0.3 + noise.normal(0, 3, (360, 64))) @ axes.T).astype(np.float32),
        }  # fmt: skip
        if recipe.corruptions:
            moved = np.where(np.arange(10)[:, None] == 3, -1, index[:, ::-1])  # cluster 3 loses all of its images
            dull = (typical[:, ::-1] * 0.4 + 90).astype(np.uint8)
            arrays |= {
                "typical_shifted": dull, "typical_shifted_index": moved,
                "switching": images[100:124], "switching_index": np.arange(100, 124),
                "switching_rate": np.linspace(1 - level / 4, 0.6, 24),
            }  # fmt: skip
        np.savez_compressed(folder / f"{slug(name, train_seed)}.npz", **arrays)


def _imitate(image: np.ndarray, harshness: float, noise: np.random.Generator) -> np.ndarray:
    steps = [image.astype(float)]
    for severity in range(1, 6):
        strength = harshness * severity / 5
        grey = image * (1 - strength) + 128 * strength
        steps.append(grey + 90 * strength * noise.standard_normal(image.shape))
    return np.clip(steps, 0, 255).astype(np.uint8)
