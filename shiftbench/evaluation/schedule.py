"""The loop over cells: which are missing, who works on them, and where each one's features come from."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

import numpy as np
from filelock import FileLock, Timeout

from shiftbench.encoders.base import Encoder
from shiftbench.evaluation.agreements import Agreements
from shiftbench.evaluation.axes import measure_axes
from shiftbench.evaluation.candidates import Candidate
from shiftbench.evaluation.context import Cell, Work, cells_of, encode_for, features_of, positions
from shiftbench.evaluation.partitions import Partitions
from shiftbench.evaluation.plan import AXES_OF, Plan
from shiftbench.evaluation.scoring import Fitted, fit, measure, reason
from shiftbench.features.cache import FeatureCache
from shiftbench.features.encode import Found
from shiftbench.metrics.internal import FrechetReference
from shiftbench.records import CLEAN, Condition, Sample
from shiftbench.results.tables import write_table
from shiftbench.runtime import processes
from shiftbench.runtime.clock import Clock
from shiftbench.runtime.console import progress, say
from shiftbench.runtime.parallel import parallel_map

PROBE = 64  # images on which features are looked at before everything is encoded
OVERWRITE = ("missing", "always", "never")


def compute(plan: Plan, overwrite: str, workers: int, clock: Clock) -> set[str]:
    """Fill every missing cell of the plan's folder, each condition under its own lock.

    Args:
        plan: the evaluation.
        overwrite: one of ``OVERWRITE``.
        workers: conditions worked on at once.
        clock: counts the time of each stage.

    Returns:
        The slugs of the encoders of which something was computed.
    """
    todo = processes.broadcast(_todo(plan, overwrite) if not processes.rank() else {})
    if not todo:
        return set()
    chosen = sorted({i for cells in todo.values() for i, _ in cells})
    threads = 1 if processes.world() > 1 else workers  # processes that encode together must take the same order
    work = _prepare(plan, [plan.candidates[i] for i in chosen], overwrite, threads, clock)
    with progress("Scoring conditions", len(todo)) as advance:
        begun = time.perf_counter()

        def score(condition: Condition, wait: bool) -> bool:
            ours = _score(work, condition, wait)
            if ours:
                advance(info=f"{clock.images / (time.perf_counter() - begun):,.0f} images/s  {condition.label}")
            return ours

        done = parallel_map(partial(score, wait=processes.world() > 1), list(todo), threads)
        # What another process was at is looked at again when everything else is done.
        busy = [condition for condition, ours in zip(todo, done, strict=True) if not ours]
        parallel_map(partial(score, wait=True), busy, threads)
    return {plan.candidates[i].slug for i in chosen}


def _todo(plan: Plan, overwrite: str) -> dict[Condition, list[Cell]]:
    """The missing cells of every condition that has some."""
    conditions = [condition for condition, sample in plan.samples.items() if isinstance(sample, Sample)]
    todo = {condition: _missing(plan, condition, overwrite) for condition in conditions}
    total, lacking = sum(len(list(cells_of(plan, one))) for one in conditions), sum(map(len, todo.values()))
    if lacking < total:
        say(f"Going on in {plan.folder}: {total - lacking} of {total} cells are there already")
    return {condition: cells for condition, cells in todo.items() if cells}


def _missing(plan: Plan, condition: Condition, overwrite: str) -> list[Cell]:
    def needed(cell: Cell) -> bool:
        candidate, way = plan.candidates[cell[0]], cell[1]
        kind = Agreements if way.startswith(AXES_OF) else Partitions
        kept = None if overwrite == "always" else kind.load(plan.path(candidate, way, condition))
        stale = kept is None or kept.key != plan.key(candidate, way, condition)
        return stale or (overwrite == "missing" and kept is not None and not kept.ok)

    return [cell for cell in cells_of(plan, condition) if needed(cell)]


def _prepare(plan: Plan, candidates: Sequence[Candidate], overwrite: str, workers: int, clock: Clock) -> Work:
    """Encode the clean images of both splits, and fit what is fitted on the training split."""
    cache = None if plan.cache is None else FeatureCache(plan.cache, fresh=overwrite == "always")
    train = Sample(plan.data.train.labels, np.arange(len(plan.data.train)), images=plan.data.train.images)
    about = {"data": plan.data.fingerprint, "split": "train", "rows": len(plan.data.train)}
    fits: dict[tuple[str, str], Fitted | Exception] = {}
    clean: Found = {}
    slugs = list(dict.fromkeys(candidate.slug for candidate in candidates))
    with progress("Fitting clusters", len(slugs)) as advance:

        def prepare(slug: str) -> None:
            _look(plan, plan.encoders[slug])
            ours = [candidate for candidate in candidates if candidate.slug == slug]
            clean.update(encode_for(plan, ours, plan.sample(CLEAN), plan.about(CLEAN), cache, clock))
            raw = encode_for(plan, ours, train, about, cache, clock)
            for candidate in ours if not processes.rank() else ():
                pair = candidate.slug, candidate.raw
                fits[candidate.id] = _fit(plan, candidate, raw[pair], clean[pair], clock)
            advance(info=plan.encoders[slug].name)

        parallel_map(prepare, slugs, workers)
    return Work(plan, overwrite, cache, clock, clean, fits)


def _look(plan: Plan, encoder: Encoder) -> None:
    """Say what looks wrong about a network's features before they are all computed; what fails is a matter of cells."""
    rows = plan.sample(CLEAN).rows
    if processes.rank() or not encoder.castable or rows is None:
        return
    probe = plan.data.test.images[np.asarray(rows)[:: max(1, len(rows) // PROBE)][:PROBE]]
    with suppress(Exception):
        for warning in encoder.check(probe):
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
            for split in dict.fromkeys(one.split for one in plan.samples if one.shift != "clean"):
                pair = plan.samples.get(Condition("clean", split=split))
                if isinstance(pair, Sample):
                    fitted.references[split] = FrechetReference(fitted.prepare(clean[positions(plan, pair)]))
    except Exception as error:  # whatever these features do to what is fitted to them, other candidates go on
        return error
    return fitted


def _score(work: Work, condition: Condition, wait: bool) -> bool:
    """All cells of one condition, each kept at once, whatever becomes of the others; False if another process has it."""
    plan = work.plan
    with _claimed(plan, condition, wait) as ours:
        if not ours:
            return False
        cells = processes.broadcast(_missing(plan, condition, work.overwrite) if not processes.rank() else [])
        candidates = [plan.candidates[i] for i in dict.fromkeys(i for i, _ in cells)]
        able = [one for one in candidates if processes.rank() or isinstance(work.fits[one.id], Fitted)]
        raw = features_of(work, condition, able)
        for candidate in candidates if not processes.rank() else ():
            ways = [way for i, way in cells if plan.candidates[i] is candidate]
            _keep(work, condition, candidate, ways, raw.get((candidate.slug, candidate.raw)))
    return True


def _keep(
    work: Work, condition: Condition, candidate: Candidate, ways: Sequence[str], raw: np.ndarray | Exception | None
) -> None:
    """Compute and write the cells of one candidate."""
    plan, fitted = work.plan, work.fits[candidate.id]
    failure, features = "", np.empty((0, 0), np.float32)
    if isinstance(fitted, Exception):
        failure = f"on the clean training split: {reason(fitted)}"
    elif isinstance(raw, np.ndarray):
        features = fitted.prepare(raw)
    else:
        failure = reason(raw)
    for way in ways:
        key = plan.key(candidate, way, condition)
        kept: Partitions | Agreements
        if way.startswith(AXES_OF):
            kept = (
                Agreements(key, reason=failure) if failure else measure_axes(work, condition, candidate, way, features)
            )
        elif isinstance(fitted, Exception) or failure:
            kept = Partitions.failed(key, failure)
        else:
            kept = measure(plan, candidate, condition, way, fitted, features, work.clock)
        kept.save(plan.path(candidate, way, condition))


@contextmanager
def _claimed(plan: Plan, condition: Condition, wait: bool) -> Iterator[bool]:
    """Whether this process has the condition to itself; the operating system frees it when the process dies."""
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
