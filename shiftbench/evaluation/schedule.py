"""The loop over tasks: which are missing, which process does them, and with which features."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from filelock import FileLock, Timeout

from shiftbench.encoders.base import Encoder
from shiftbench.encoders.steadiness import unsteady
from shiftbench.errors import InputError
from shiftbench.evaluation.axes import measure_axes
from shiftbench.evaluation.candidates import Candidate
from shiftbench.evaluation.context import Task, Work, encode_for, features_of, positions, tasks_of
from shiftbench.evaluation.fitting import Fitted, fit, references
from shiftbench.evaluation.partitions import Agreements, Partitions
from shiftbench.evaluation.plan import Plan
from shiftbench.evaluation.readouts import Readout, Stable
from shiftbench.evaluation.scoring import measure, reason
from shiftbench.features.cache import FeatureCache
from shiftbench.features.encode import Features
from shiftbench.records import CLEAN, Condition, Sample
from shiftbench.results.tables import write_table
from shiftbench.runtime import processes
from shiftbench.runtime.clock import Clock
from shiftbench.runtime.console import progress, say
from shiftbench.runtime.parallel import parallel_map

Missing = dict[int, list[Readout]]
"""By a candidate's position in the plan: the readouts that are missing."""

LOOKED_AT = 64  # images on which features are checked before everything is encoded


def compute(plan: Plan, overwrite: str, workers: int, clock: Clock) -> Work | None:
    """Do every missing task of the plan, each condition under its own lock.

    Args:
        plan: the evaluation.
        overwrite: "missing", "always" or "never", as :func:`shiftbench.evaluate` has it.
        workers: conditions worked on at once.
        clock: counts the time of each stage.

    Returns:
        What the tasks were done with; None where there was nothing to do.
    """
    todo = processes.broadcast(_todo(plan, overwrite) if not processes.rank() else {})
    if not todo:
        return None
    chosen = sorted({place for missing in todo.values() for place in missing})
    threads = 1 if processes.world() > 1 else workers  # processes that encode together must go in the same order
    work = _prepare(plan, [plan.candidates[place] for place in chosen], overwrite, threads, clock)
    with progress("Scoring conditions", len(todo)) as advance:
        begun = time.perf_counter()

        def score(condition: Condition, wait: bool) -> bool:
            ours = _score(work, condition, wait)
            if ours:
                advance(info=f"{clock.images / (time.perf_counter() - begun):,.0f} images/s  {condition.label}")
            return ours

        done = parallel_map(partial(score, wait=processes.world() > 1), list(todo), threads)
        # Conditions that another process was working on are tried again at the end.
        busy = [condition for condition, ours in zip(todo, done, strict=True) if not ours]
        parallel_map(partial(score, wait=True), busy, threads)
    return work


def _todo(plan: Plan, overwrite: str) -> dict[Condition, Missing]:
    """The missing readouts of each condition that lacks any."""
    conditions = [condition for condition, sample in plan.samples.items() if isinstance(sample, Sample)]
    todo = {condition: _missing(plan, condition, overwrite) for condition in conditions}
    total = sum(len(list(tasks_of(plan, condition))) for condition in conditions)
    lacking = sum(len(readouts) for missing in todo.values() for readouts in missing.values())
    if lacking < total:
        say(f"Going on in {plan.folder}: {total - lacking} of {total} cells are there already")
    return {condition: missing for condition, missing in todo.items() if missing}


def _missing(plan: Plan, condition: Condition, overwrite: str) -> Missing:
    places = {candidate.id: place for place, candidate in enumerate(plan.candidates)}
    missing: Missing = {}
    for task in tasks_of(plan, condition):
        if _is_missing(task, overwrite):
            missing.setdefault(places[task.candidate.id], []).append(task.readout)
    return missing


def _is_missing(task: Task, overwrite: str) -> bool:
    if overwrite == "always":
        return True
    kind = Agreements if isinstance(task.readout, Stable) else Partitions
    kept = kind.load(task.path)
    return kept is None or kept.key != task.key or (overwrite == "missing" and not kept.ok)


def _prepare(plan: Plan, candidates: Sequence[Candidate], overwrite: str, workers: int, clock: Clock) -> Work:
    """Encode the clean images of both splits, and fit everything that is fitted on the training split."""
    cache = None if plan.cache is None else FeatureCache(plan.cache, fresh=overwrite == "always")
    train = Sample(plan.data.train.labels, np.arange(len(plan.data.train)), images=plan.data.train.images)
    about = {"data": plan.data.fingerprint, "split": "train", "rows": len(plan.data.train)}
    fits: dict[tuple[str, str], Fitted | Exception] = {}
    clean: Features = {}
    slugs = list(dict.fromkeys(candidate.slug for candidate in candidates))
    with progress("Fitting clusters", len(slugs)) as advance:

        def prepare(slug: str) -> None:
            _look(plan, plan.encoders[slug])
            ours = [candidate for candidate in candidates if candidate.slug == slug]
            encoded = clock.images
            clean.update(encode_for(plan, ours, plan.sample(CLEAN), plan.about(CLEAN), cache, clock))
            if clock.images > encoded or not plan.deterministic:  # features in the cache have passed
                _check_steadiness(plan, plan.encoders[slug])
            raw = encode_for(plan, ours, train, about, cache, clock)
            for candidate in ours if not processes.rank() else ():
                pair = candidate.slug, candidate.raw
                fits[candidate.id] = _fit(plan, candidate, raw[pair], clean[pair], clock)
            advance(info=plan.encoders[slug].name)

        parallel_map(prepare, slugs, workers)
    return Work(plan, overwrite, cache, clock, clean, fits)


def _some_images(plan: Plan) -> torch.Tensor:
    rows = np.asarray(plan.sample(CLEAN).rows)
    return plan.data.test.images[rows[:: max(1, len(rows) // LOOKED_AT)][:LOOKED_AT]]


def _check_steadiness(plan: Plan, encoder: Encoder) -> None:
    """Refuse an encoder that says something else of an image in other company, unless such ones are admitted.

    Raises:
        InputError: it does.
    """
    if processes.rank():
        return
    encoder.caution = unsteady(encoder, _some_images(plan))
    if encoder.caution and plan.deterministic:
        raise InputError(f"{encoder.name}: {encoder.caution}. deterministic=false admits it.")


def _look(plan: Plan, encoder: Encoder) -> None:
    """Warn if a network's features look wrong, before all images are encoded."""
    if processes.rank() or not encoder.castable:
        return
    images = _some_images(plan)
    try:
        warnings = encoder.check(images)
    except Exception as error:  # a stranger's network; its rows report the failure later
        warnings = [f"{encoder.name} fails: {reason(error)}"]
    for warning in warnings:
        say(warning if warning.startswith(encoder.name) else f"{encoder.name}: {warning}")


def _fit(
    plan: Plan, candidate: Candidate, train: np.ndarray | Exception, clean: np.ndarray | Exception, clock: Clock
) -> Fitted | Exception:
    if isinstance(train, Exception):
        return train
    if isinstance(clean, Exception):
        return clean
    try:
        fitted = fit(plan, candidate, train, clock)
        if fitted.choice is not None:
            write_table(fitted.choice.table, plan.folder / "k" / f"{candidate.slug}-{candidate.feature}")
        with clock("measure"):
            for split in dict.fromkeys(condition.split for condition in plan.samples if condition.shift != CLEAN.shift):
                pair = plan.samples.get(Condition(CLEAN.shift, split=split))
                if isinstance(pair, Sample):
                    fitted.references[split] = references(fitted.prepare(clean[positions(plan, pair)]))
    except Exception as error:  # features that nothing can be fitted to must not stop other candidates
        return error
    return fitted


def _score(work: Work, condition: Condition, wait: bool) -> bool:
    """Do all tasks of one condition and write each at once; False if another process works on the condition."""
    plan = work.plan
    with _claimed(plan, condition, wait) as ours:
        if not ours:
            return False
        missing = processes.broadcast(_missing(plan, condition, work.overwrite) if not processes.rank() else {})
        candidates = {place: plan.candidates[place] for place in missing}
        able = [c for c in candidates.values() if processes.rank() or isinstance(work.fits[c.id], Fitted)]
        raw = features_of(work, condition, able)
        for place, candidate in candidates.items() if not processes.rank() else ():
            tasks = [Task(plan, candidate, readout, condition) for readout in missing[place]]
            _keep(work, candidate, tasks, raw.get((candidate.slug, candidate.raw)))
    return True


def _keep(work: Work, candidate: Candidate, tasks: Sequence[Task], raw: np.ndarray | Exception | None) -> None:
    """Do and write the tasks of one candidate under one condition."""
    fitted, failure, features = work.fits[candidate.id], "", np.empty((0, 0), np.float32)
    if isinstance(fitted, Exception):
        failure = f"on the clean training split: {reason(fitted)}"
    elif isinstance(raw, np.ndarray):
        features = fitted.prepare(raw)
    else:
        failure = reason(raw)
    for task in tasks:
        kept: Partitions | Agreements
        if isinstance(task.readout, Stable):
            kept = Agreements(task.key, reason=failure) if failure else measure_axes(work, task, features)
        elif isinstance(fitted, Exception) or failure:
            kept = Partitions.failed(task.key, failure)
        else:
            kept = measure(task, fitted, features, work.clock)
        kept.save(task.path)


@contextmanager
def _claimed(plan: Plan, condition: Condition, wait: bool) -> Iterator[bool]:
    """Lock a condition and yield whether this process has it. The lock ends with the process, even if it is killed."""
    if processes.rank():
        yield True
        return
    folder = plan.folder / "partitions" / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{condition.label}.lock", timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
