"""Score encoders: every condition encoded once, clustered frozen and refitted, each cell kept the moment it is known."""

from __future__ import annotations

import inspect
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from shiftbench.clustering import Partition
from shiftbench.console import progress, say
from shiftbench.encoders.base import Encoder
from shiftbench.errors import InputError, unknown
from shiftbench.examples import save_examples
from shiftbench.features import encode
from shiftbench.metrics.external import contingency, match, scores
from shiftbench.metrics.robustness import chance_level
from shiftbench.parallel import parallel_map
from shiftbench.partitions import Partitions
from shiftbench.plan import PROTOCOLS, EncoderLike, Plan, make_plan, newest_run
from shiftbench.provenance import hardware, versions
from shiftbench.records import CLEAN, Condition, Dataset, atomic_path
from shiftbench.registry import CLUSTERERS, METRICS
from shiftbench.results import Results
from shiftbench.summary import BASELINE, summarize
from shiftbench.tabulate import tabulate

OVERWRITE = ("missing", "always", "never")


def evaluate(
    checkpoint: EncoderLike | Sequence[EncoderLike] | None = None,
    *,
    data: str | Mapping[str, Any] | Dataset = "digits",
    shift: str | Sequence[str] | None = None,
    floors: Sequence[str] = ("pixels", "random"),
    clusterer: str = "kmeans",
    k: int | bool = True,
    seeds: int = 10,
    protocols: Sequence[str] = PROTOCOLS,
    feature: str = "auto",
    table: str = "auto",
    baseline: str = BASELINE,
    seed: int = 0,
    limit: int | None = None,
    overwrite: str = "missing",
    batch_size: int = 250,
    workers: int | None = None,
    device: str = "auto",
    runs: str | Path = "runs",
    results: str | Path | None = None,
) -> Results:
    """Score one or several encoders on a data set, clean and shifted, and write the results folder.

    Args:
        checkpoint: what :func:`shiftbench.load_encoder` takes, an Encoder, a callable uint8 (N, 3, H, W) -> (N, D), or
            several of these; None takes the newest finished run below ``runs``.
        data: a data set's name, its options with ``name`` among them, or a Dataset.
        shift: names of shifts or corruptions (``corruption``, ``fog``, ``fog-3``, ``all``); None scores clean only.
        floors: encoders without training that are always shown beside yours.
        clusterer: a registered clusterer.
        k: number of clusters; True takes the number of classes.
        seeds: clusterings per cell, each with its own start; nothing is picked among them.
        protocols: "frozen" (clusters fitted and matched to classes on the clean training split, then applied) and
            "refit" (clustered anew on the scored split).
        feature: which of an encoder's features, "auto" for its default.
        table: the table of severity constants.
        baseline: the encoder whose errors normalise mCE.
        seed: of the corruptions' randomness.
        limit: score only so many images of each split.
        overwrite: "missing" computes cells that are not there or failed, "always" all, "never" none that was tried.
        batch_size: images encoded at once; it changes nothing beyond float rounding.
        workers: conditions worked on at once; None takes one per core.
        device: where encoders run.
        runs: where the newest run is looked for.
        results: the folder; None names it after the data and a hash of the arguments, so that the same call goes on.

    Raises:
        InputError: an argument that cannot be used, before anything is written.
    """
    if checkpoint is None:
        checkpoint = str(newest_run(Path(runs)))
        say(f"Evaluating the newest run, {checkpoint}")
    command = _command(locals())
    workers = (os.cpu_count() or 1) if workers is None else workers
    if not isinstance(workers, int) or workers < 1:
        raise InputError(f"workers={workers}: a whole number of at least 1 is needed.")
    if overwrite not in OVERWRITE:
        raise unknown("overwrite", overwrite, OVERWRITE)
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    seconds: dict[str, float] = {}
    with _timed(seconds, "load"):
        plan = make_plan(
            checkpoint, data=data, shift=shift, floors=floors, clusterer=clusterer, k=k, seeds=seeds,
            protocols=protocols, feature=feature, table=table, seed=seed, limit=limit, batch_size=batch_size,
            device=device, results=results,
        )  # fmt: skip
    with _timed(seconds, "cells"):
        todo = _todo(plan, overwrite)
        _compute(plan, todo, workers)
    with _timed(seconds, "tables"):
        cells, stability = tabulate(plan, workers)
        tables = cells, stability, summarize(cells, baseline)
    with _timed(seconds, "examples"):
        save_examples(plan, changed={slug for slugs in todo.values() for slug in slugs})
    run = {"started": started, "seconds": seconds, "command": command, "limit": limit}
    return Results(*tables, run=run | _describe(plan)).save(plan.folder)


@dataclass(frozen=True)
class Fitted:
    """The clusterings of the clean training split, one per seed, and the class that each cluster was matched to."""

    clusterings: Sequence[Partition]
    mappings: list[np.ndarray] | None


def _todo(plan: Plan, overwrite: str) -> dict[Condition, list[str]]:
    """Which encoders still need which conditions."""

    def needed(slug: str, condition: Condition) -> bool:
        kept = None if overwrite == "always" else Partitions.load(plan.path(slug, condition))
        stale = kept is None or kept.key != plan.key(slug, condition)
        return stale or (overwrite == "missing" and kept is not None and not kept.ok)

    todo = {condition: [slug for slug in plan.encoders if needed(slug, condition)] for condition in plan.conditions}
    planned = {plan.path(slug, condition) for condition in plan.conditions for slug in plan.encoders}
    if others := set((plan.folder / "partitions").glob("*/[!.]*.npz")) - planned:
        say(
            f"{plan.folder} also holds {len(others)} cells of other encoders or shifts; the tables will be of this call alone"
        )
    missing, total = sum(map(len, todo.values())), len(plan.conditions) * len(plan.encoders)
    if missing < total:
        say(f"Going on in {plan.folder}: {total - missing} of {total} are there already")
    return {condition: slugs for condition, slugs in todo.items() if slugs}


def _compute(plan: Plan, todo: Mapping[Condition, list[str]], workers: int) -> None:
    """Fit on the clean training split, then fill every missing cell, one condition per work item."""
    slugs = [slug for slug in plan.encoders if any(slug in needed for needed in todo.values())]
    if not slugs:
        return
    if plan.data.test.labels is not None:
        with atomic_path(plan.folder / "partitions" / "labels.npy") as temporary:
            np.save(temporary, plan.data.test.labels)
    with progress("Fitting clusters", len(slugs)) as advance:

        def fit(slug: str) -> Fitted | Exception:
            fitted = _fit(plan, slug)
            advance(info=plan.encoders[slug].name)
            return fitted

        fits = dict(zip(slugs, parallel_map(fit, slugs, workers), strict=True))
    with progress("Scoring conditions", len(todo)) as advance:
        begun, encoded = time.perf_counter(), 0

        def score(item: tuple[Condition, list[str]]) -> None:
            nonlocal encoded
            _score(plan, *item, fits)
            encoded += len(plan.data.test) * len(item[1])
            advance(info=f"{encoded / (time.perf_counter() - begun):,.0f} images/s  {item[0].label}")

        parallel_map(score, list(todo.items()), workers)


def _fit(plan: Plan, slug: str) -> Fitted | Exception:
    train = plan.data.train
    encoder = {slug: plan.encoders[slug]}
    features = encode(encoder, train.images, feature=plan.feature, batch_size=plan.batch_size)[slug]
    if isinstance(features, Exception):
        return features
    try:
        clusterings = _cluster(plan, features)
    except InputError as error:
        return error
    if train.labels is None:
        return Fitted(clusterings, None)
    return Fitted(clusterings, [_class_of_clusters(plan, train.labels, one.labels) for one in clusterings])


def _class_of_clusters(plan: Plan, labels: np.ndarray, partition: np.ndarray) -> np.ndarray:
    """int64 (k,), -1 for a cluster without a class: one left over, or one without members."""
    matched = match(contingency(labels, partition))
    return np.pad(matched, (0, plan.k - len(matched)), constant_values=-1)


def _cluster(plan: Plan, features: np.ndarray) -> Sequence[Partition]:
    return CLUSTERERS.load(plan.clusterer)().fit_seeds(features, plan.k, range(plan.seeds))


def _score(plan: Plan, condition: Condition, slugs: list[str], fits: Mapping[str, Fitted | Exception]) -> None:
    """All cells of one condition, each kept at once, whatever becomes of the others."""
    working = {slug: plan.encoders[slug] for slug in slugs if isinstance(fits[slug], Fitted)}
    features = encode(
        working, plan.data.test.images, condition, feature=plan.feature, batch_size=plan.batch_size, seed=plan.seed
    )
    for slug in slugs:
        key, fitted, found = plan.key(slug, condition), fits[slug], features.get(slug)
        if isinstance(fitted, Exception):
            kept = Partitions.failed(key, f"on the clean training split: {_reason(fitted)}")
        elif isinstance(found, np.ndarray):
            kept = _partitions(plan, key, condition, fitted, found)
        else:
            kept = Partitions.failed(key, _reason(found))
        kept.save(plan.path(slug, condition))


def _reason(error: Exception | None) -> str:
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def _partitions(plan: Plan, key: str, condition: Condition, fitted: Fitted, features: np.ndarray) -> Partitions:
    made = {
        "frozen": lambda: [clustering.predict(features) for clustering in fitted.clusterings],
        "refit": lambda: [clustering.labels for clustering in _cluster(plan, features)],
    }
    try:
        labels = np.array([made[protocol]() for protocol in plan.protocols])
    except InputError as error:
        return Partitions.failed(key, str(error))
    truth = plan.data.test.labels
    if truth is None or fitted.mappings is None:
        return Partitions(key, labels)
    # The frozen protocol scores with the map from clusters to classes that was fitted on the clean training split.
    maps = [fitted.mappings if protocol == "frozen" else [None] * plan.seeds for protocol in plan.protocols]

    def each(score: Callable[[np.ndarray, np.ndarray | None], dict[str, float]]) -> dict[str, np.ndarray]:
        """(P, S) values of each metric."""
        grid = [[score(*pair) for pair in zip(*row, strict=True)] for row in zip(labels, maps, strict=True)]
        return {metric: np.array([[found[metric] for found in row] for row in grid]) for metric in METRICS}

    def luck(partition: np.ndarray, mapping: np.ndarray | None) -> dict[str, float]:
        return {m: chance_level(truth, partition, mapping if m == "acc" else None, m) for m in METRICS}

    scored = each(lambda partition, mapping: scores(contingency(truth, partition), mapping))
    return Partitions(key, labels, scored, each(luck) if condition == CLEAN else {})


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    seconds[stage] = round(time.perf_counter() - begun, 3)


def _command(given: Mapping[str, Any]) -> str:
    """The command that does the same, as far as a command can; arguments at their default are left out."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(evaluate).parameters.items()}
    words = ["shiftbench", "evaluate"]
    for name in ("checkpoint", "shift"):
        one = given[name]
        for value in one if isinstance(one, (list, tuple)) else [one] * (one is not None):
            words += [f"--{name}", str(value)]
    data = given["data"]
    options = dict(data) if isinstance(data, Mapping) else {"name": getattr(data, "name", data)}
    words += ["--data", str(options.pop("name"))]
    words += [f"data.{name}={value}" for name, value in options.items() if value is not None]
    plain = {k: v for k, v in given.items() if k not in ("checkpoint", "shift", "data", "runs", "results", "workers")}
    for name, value in plain.items():
        listed = list(value) if isinstance(value, (list, tuple)) else value
        default = defaults[name]
        if listed != (list(default) if isinstance(default, tuple) else default):
            words.append(f"{name}={listed}".replace(" ", "").replace("'", ""))
    return shlex.join(words)


def _dimensions(plan: Plan, encoder: Encoder) -> dict[str, int]:
    try:
        return {name: value.shape[1] for name, value in encoder.features(plan.data.test.images[:2]).items()}
    except Exception:  # its cells say why it failed
        return {}


def _describe(plan: Plan) -> dict[str, Any]:
    return {
        "format": 1,
        "version": versions().get("shiftbench", "checkout"),
        "config": plan.settings | {"batch_size": plan.batch_size},
        "data": {
            "name": plan.data.name,
            "fingerprint": plan.data.fingerprint,
            "n_train": len(plan.data.train),
            "n_test": len(plan.data.test),
            "classes": list(plan.data.classes),
        },
        "encoders": [
            {
                "name": encoder.name,
                "train_seed": encoder.train_seed,
                "slug": slug,
                "fingerprint": encoder.fingerprint,
                "feature": encoder.feature_name(plan.feature),
                "dimensions": _dimensions(plan, encoder),
                "origin": encoder.origin,
            }
            for slug, encoder in plan.encoders.items()
        ],
        "table": plan.table,
        "protocols": list(plan.protocols),
        "seeds": plan.seeds,
        "k": plan.k,
        "dtype": "float32",
        "versions": versions(),
        "hardware": hardware(),
    }
