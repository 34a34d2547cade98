"""Score encoders: every image encoded once, clustered frozen and refitted, each cell kept the moment it is known."""

from __future__ import annotations

import inspect
import os
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from filelock import FileLock

from shiftbench.encoders.base import Encoder
from shiftbench.errors import InputError, unknown
from shiftbench.evaluation.candidates import EncoderLike
from shiftbench.evaluation.pictures import save_examples
from shiftbench.evaluation.plan import CODE, PROTOCOLS, Plan, make_plan, newest_run
from shiftbench.evaluation.schedule import OVERWRITE, compute
from shiftbench.evaluation.tables import tabulate
from shiftbench.features.cache import content_key
from shiftbench.records import CLEAN, Dataset, Shift, Skipped
from shiftbench.registry import SHIFTS
from shiftbench.results.derive import derive, merge_rows
from shiftbench.results.summary import BASELINE
from shiftbench.results.tables import Results
from shiftbench.runtime import processes
from shiftbench.runtime.clock import Clock
from shiftbench.runtime.console import say
from shiftbench.runtime.provenance import hardware, versions


def evaluate(
    checkpoint: EncoderLike | Sequence[EncoderLike] | None = None,
    *,
    data: str | Mapping[str, Any] | Dataset = "digits",
    shift: str | Sequence[str] | None = None,
    floors: Sequence[str] = ("pixels", "random"),
    clusterer: str | Sequence[str] = "kmeans",
    probes: Sequence[str] = ("knn", "linear"),
    k: int | bool | str = True,
    k_by: str = "stability",
    seeds: int = 10,
    protocols: Sequence[str] = PROTOCOLS,
    stability: str | Sequence[str] = ("initialization", "shift"),
    feature: str | Sequence[str] = "auto",
    table: str = "auto",
    baseline: str = BASELINE,
    seed: int = 0,
    limit: int | None = None,
    overwrite: str = "missing",
    batch_size: int = 250,
    workers: int | None = None,
    dtype: str = "auto",
    device: str = "auto",
    cache: str | Path | None = "auto",
    runs: str | Path = "runs",
    results: str | Path | None = None,
) -> Results:
    """Score one or several encoders on a data set, clean and shifted, and write the results folder.

    Several evaluations, also at the same time, may share a results folder: each cell is computed once, and the tables
    hold all of them. Under ``torchrun`` the processes share the encoding, and the first one does the rest.

    Args:
        checkpoint: what :func:`shiftbench.load_encoder` takes, an Encoder, a callable uint8 (N, 3, H, W) -> (N, D), or
            several of these; None takes the newest finished run below ``runs``.
        data: a data set's name, its options with ``name`` among them, or a Dataset.
        shift: names of shifts, groups or corruptions (``corruption``, ``natural``, ``all``, ``fog``, ``fog-3``,
            ``folder:PATH``); None scores clean only.
        floors: encoders without training that are always shown beside yours.
        clusterer: registered clusterers, one or several.
        probes: supervised references on the same features, "knn" and "linear": is a drop the features' or the clusters'?
        k: number of clusters; True takes the number of classes, "2-20" estimates it in that range.
        k_by: what estimates it: "stability", "gap", "silhouette" or "eigengap", on the clean training features.
        seeds: clusterings per cell, each with its own start; nothing is picked among them.
        protocols: "frozen" (clusters fitted and matched to classes on the clean training split, then applied) and
            "refit" (clustered anew on the scored images).
        stability: axes along which agreement is measured, or "all".
        feature: which of an encoder's features, "auto" for its default; "+l2" behind it normalises to unit length,
            "+whiten" whitens by PCA; one or several.
        table: the table of severity constants.
        baseline: the encoder whose errors normalise mCE.
        seed: of everything random but the clusterings.
        limit: score only so many images of each split.
        overwrite: "missing" computes cells that are not there or failed, "always" all, "never" none that was tried.
        batch_size: images encoded at once; it changes nothing beyond float rounding.
        workers: conditions worked on at once; None takes one per core.
        dtype: of the encoders' arithmetic: "auto", "float32", "bfloat16".
        device: where encoders run.
        cache: the folder of features; "auto" is ``$SHIFTBENCH_CACHE`` or the user's cache folder, None keeps none.
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
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise InputError(f"workers={workers}: a whole number of at least 1 is needed.")
    if overwrite not in OVERWRITE:
        raise unknown("overwrite", overwrite, OVERWRITE)
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    clock = Clock()
    with clock("load"):
        plan = make_plan(
            checkpoint, data=data, shift=shift, floors=floors, clusterer=clusterer, probes=probes, k=k, k_by=k_by,
            seeds=seeds, protocols=protocols, stability=stability, feature=feature, table=table, seed=seed, limit=limit,
            batch_size=batch_size, dtype=dtype, device=processes.device(device), cache=cache, results=results,
        )  # fmt: skip
    _earlier(plan, overwrite)  # refuses before anything is computed
    if not processes.rank():
        for condition, sample in plan.samples.items():
            if isinstance(sample, Skipped):
                say(f"Not scored: {condition.label}, {sample.reason}")
    with clock("compute"):
        changed = compute(plan, overwrite, workers, clock)
    if not processes.rank():
        with processes.alone():
            _write(plan, changed, baseline, overwrite, workers, clock, {"started": started, "command": command})
    processes.leave()
    return Results.load(plan.folder)


def _write(
    plan: Plan, changed: set[str], baseline: str, overwrite: str, workers: int, clock: Clock, run: dict[str, Any]
) -> None:
    """The tables, pictures and record of the folder, which others may write their share of at the same time."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(plan.folder / ".lock"):
        earlier = _earlier(plan, overwrite)
        with clock("tables"):
            found = _tables(plan, baseline, workers, earlier)
        with clock("examples"):
            save_examples(plan, changed)
        seconds = {"seconds": clock.seconds("wall"), "cpu_seconds": clock.seconds("cpu"), "images": clock.images}
        found.run = _merged_record(run | seconds | _describe(plan), earlier)
        found.save(plan.folder)


def _earlier(plan: Plan, overwrite: str) -> Results | None:
    """What other evaluations left in the folder.

    Raises:
        InputError: they are of other images, which no table may mix with these.
    """
    try:
        earlier = Results.load(plan.folder)
    except InputError:
        return None
    theirs, ours = earlier.run.get("identity"), _identity(plan)
    if theirs == ours:
        return earlier
    changed = [name for name in ours if not isinstance(theirs, dict) or theirs.get(name) != ours[name]]
    if overwrite == "always" or changed == ["code"]:
        return None
    raise InputError(
        f"{plan.folder} holds an evaluation with another {' and '.join(changed)}: name another folder with "
        "results=DIR, or replace it with overwrite=always."
    )


def _identity(plan: Plan) -> dict[str, Any]:
    """What all evaluations in one folder have in common."""
    return {"data": plan.data.fingerprint, "limit": plan.limit, "seed": plan.seed, "code": CODE}


def _tables(plan: Plan, baseline: str, workers: int, earlier: Results | None) -> Results:
    """The tables of this evaluation, and of what was in the folder before it."""
    found = tabulate(plan, workers)
    if earlier is not None:
        found = {name: merge_rows(name, getattr(earlier, name), table) for name, table in found.items()}
    return derive(found, baseline=baseline)


def _merged_record(run: dict[str, Any], earlier: Results | None) -> dict[str, Any]:
    """The record of this evaluation with the encoders and commands of those before it."""
    before = {} if earlier is None else earlier.run
    slugs = {encoder["slug"] for encoder in run["encoders"]}
    others = [encoder for encoder in before.get("encoders", []) if encoder["slug"] not in slugs]
    commands = [*before.get("commands", []), run["command"]]
    return run | {"encoders": others + run["encoders"], "commands": list(dict.fromkeys(commands))}


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
    apart = ("checkpoint", "shift", "data", "runs", "results", "workers", "cache")
    plain = {name: value for name, value in given.items() if name not in apart}
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
        "format": 2,
        "version": versions().get("shiftbench", "checkout"),
        "identity": _identity(plan),
        "config": plan.settings
        | {
            "batch_size": plan.batch_size,
            "clusterers": list(plan.clusterers),
            "probes": list(plan.probes),
            "axes": list(plan.axes),
        },
        "data": {
            "name": plan.data.name,
            "fingerprint": plan.data.fingerprint,
            "n_train": len(plan.data.train),
            "n_test": plan.sample(CLEAN).n,
            "classes": list(plan.data.classes),
        },
        "shifts": [_describe_shift(plan, name) for name in dict.fromkeys(c.shift for c in plan.samples)],
        "skipped": {c.label: s.reason for c, s in plan.samples.items() if isinstance(s, Skipped)},
        "encoders": [_describe_encoder(plan, slug, encoder) for slug, encoder in plan.encoders.items()],
        "table": plan.table,
        "protocols": list(plan.protocols),
        "seeds": plan.seeds,
        "k": list(plan.ks) if plan.k_source == "estimated" else plan.ks[0],
        "dtype": next(iter(plan.encoders.values())).dtype,
        "versions": versions(),
        "hardware": hardware(),
    }


def _describe_encoder(plan: Plan, slug: str, encoder: Encoder) -> dict[str, Any]:
    features = [candidate.feature for candidate in plan.candidates if candidate.slug == slug]
    return {
        "name": encoder.name,
        "train_seed": encoder.train_seed,
        "slug": slug,
        "fingerprint": encoder.fingerprint,
        "feature": features[0],
        "features": features,
        "dimensions": _dimensions(plan, encoder),
        "dtype": encoder.dtype,
        "origin": encoder.origin,
    }


def _describe_shift(plan: Plan, name: str) -> dict[str, Any]:
    shift = SHIFTS.load(name) if name in SHIFTS else None
    known = {"kind": "own", "source": "", "citation": ""}
    if isinstance(shift, Shift):
        known = {"kind": shift.kind, "source": shift.source, "citation": shift.citation}
    files = {c.label: s.digest for c, s in plan.samples.items() if c.shift == name and not isinstance(s, Skipped)}
    return {"name": name, "images": {label: content_key(digest) for label, digest in files.items() if digest}, **known}
