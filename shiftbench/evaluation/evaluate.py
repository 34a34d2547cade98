"""Score encoders: each image is encoded once, and each cell is written as soon as it is known."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from filelock import FileLock

from shiftbench.evaluation import record
from shiftbench.evaluation.candidates import Checkpoint
from shiftbench.evaluation.context import Work
from shiftbench.evaluation.folder import continues, earlier_results, joined
from shiftbench.evaluation.options import PROTOCOLS, EvaluationOptions
from shiftbench.evaluation.pictures import save_examples
from shiftbench.evaluation.plan import Plan, make_plan, newest_run
from shiftbench.evaluation.schedule import compute
from shiftbench.evaluation.tables import tabulate
from shiftbench.records import Dataset, Skipped
from shiftbench.results.derive import derive
from shiftbench.results.summary import BASELINE
from shiftbench.results.tables import Results
from shiftbench.runtime import processes
from shiftbench.runtime.clock import Clock
from shiftbench.runtime.console import say


def evaluate(
    checkpoint: Checkpoint | None = None,
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
    deterministic: bool = True,
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
            several of these, or ``{"name": encoder}``; None takes the newest finished run below ``runs``.
        data: a data set's name, its options with ``name`` among them, or a Dataset.
        shift: names of shifts, groups or corruptions (``corruption``, ``natural``, ``all``, ``fog``, ``fog-3``,
            ``folder:PATH``); None scores clean only.
        floors: encoders without training that are always shown beside yours.
        clusterer: registered clusterers, one or several.
        probes: classifiers on the same features, "knn" and "linear". They tell whether the features got worse or only the
            clusters.
        k: number of clusters; True takes the number of classes, "2-20" estimates it in that range.
        k_by: the criterion that estimates k: "stability", "gap", "silhouette" or "eigengap", on the clean training features.
        seeds: clusterings per cell, each with its own start; all of them count, no best one is picked.
        protocols: "frozen" (clusters fitted and matched to classes on the clean training split, then applied) and
            "refit" (clustered anew on the scored images).
        stability: axes along which agreement is measured, or "all".
        feature: which of an encoder's features, "auto" for its default; "+l2" behind it normalises to unit length,
            "+whiten" whitens by PCA; one or several.
        table: the table of severity constants.
        baseline: the encoder whose errors normalise mCE.
        seed: of everything random except the clusterings.
        limit: score only so many images of each split.
        overwrite: "missing" computes the cells that are absent or failed, "always" all cells, "never" only absent ones.
        batch_size: images encoded at once; it changes nothing beyond float rounding.
        deterministic: refuse an encoder whose features depend on the other images of a batch or on chance; False admits
            it, and its rows say so.
        workers: conditions worked on at once; None takes one per core.
        dtype: the arithmetic of the encoders: "auto", "float32", "bfloat16".
        device: where encoders run.
        cache: the folder of features; "auto" is ``$SHIFTBENCH_CACHE`` or the user's cache folder, None keeps no features.
        runs: where the newest run is looked for.
        results: the folder; None names it after the data and a hash of the arguments, so that the same call continues there.

    Raises:
        InputError: an argument that cannot be used, before anything is written.

    Examples:
        >>> results = evaluate("pixels", shift="fog-3", floors=[], seeds=2, limit=60)
        >>> sorted(results.cells["shift"].unique())
        ['chance', 'clean', 'corruption']
        >>> bool((results.cells["status"] == "ok").all())
        True
    """
    given = dict(locals())
    if checkpoint is None:
        checkpoint = given["checkpoint"] = str(newest_run(Path(runs)))
        say(f"Evaluating the newest run, {checkpoint}")
    command = record.command(evaluate, given)
    del given["checkpoint"]
    options = EvaluationOptions(**given)
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    clock = Clock()
    with clock("load"):
        plan = make_plan(checkpoint, options)
    continues(plan, options.overwrite)  # refuses before anything is computed
    if not processes.rank():
        for condition, sample in plan.samples.items():
            if isinstance(sample, Skipped):
                say(f"Not scored: {condition.label}, {sample.reason}")
    workers = options.workers or os.cpu_count() or 1
    with clock("compute"):
        work = compute(plan, options.overwrite, workers, clock)
    if processes.rank():
        processes.leave()
        return Results.load(plan.folder)
    with processes.alone():
        written = _write(plan, options, work, clock, {"started": started, "command": command})
    processes.leave()
    return written


def _write(plan: Plan, options: EvaluationOptions, work: Work | None, clock: Clock, run: record.Record) -> Results:
    """Write the tables, pictures and record. Other evaluations may write into the same folder at the same time."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(plan.folder / ".lock"):
        earlier = earlier_results(plan, options.overwrite)
        run |= record.describe(plan, work, {} if earlier is None else earlier.run)
        with clock("tables"):
            measured = tabulate(plan, options.workers or os.cpu_count() or 1)
            run["commands"] = [run["command"]]
            if earlier is not None:
                measured, run = joined(measured, run, earlier)
            results = derive(measured, baseline=options.baseline)
        with clock("examples"):
            save_examples(plan, {slug for slug, _ in work.fits} if work else set())
        results.run = run | {
            "seconds": clock.seconds("wall"),
            "cpu_seconds": clock.seconds("cpu"),
            "images": clock.images,
        }
        return results.save(plan.folder)
