"""The tasks of an evaluation, what they are done with, and where their features come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from shiftbench.evaluation.candidates import Candidate
from shiftbench.evaluation.fitting import Fitted
from shiftbench.evaluation.plan import Plan
from shiftbench.evaluation.readouts import Described, Probed, Readout, Stable
from shiftbench.features.cache import FeatureCache
from shiftbench.features.encode import Features, encode
from shiftbench.records import CLEAN, Condition, Sample
from shiftbench.runtime.clock import Clock


@dataclass(frozen=True)
class Task:
    """One candidate with one readout under one condition: the smallest unit that is computed and kept."""

    plan: Plan
    candidate: Candidate
    readout: Readout
    condition: Condition

    @cached_property
    def key(self) -> str:
        """The hash of all inputs."""
        return self.plan.key(self.candidate, self.readout, self.condition)

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return self.plan.path(self.candidate, self.readout, self.condition)

    @property
    def sample(self) -> Sample:
        """Its images."""
        return self.plan.sample(self.condition)


@dataclass(frozen=True)
class Work:
    """What the tasks of an evaluation are done with.

    Attributes:
        plan: the evaluation.
        overwrite: which tasks are done again.
        cache: of features.
        clock: counts the time.
        clean: by (slug, raw feature), the features of the clean test images, or why there are none.
        fits: by candidate, what was fitted on the training split, or why not.
    """

    plan: Plan
    overwrite: str
    cache: FeatureCache | None
    clock: Clock
    clean: Features
    fits: Mapping[tuple[str, str], Fitted | Exception]


def tasks_of(plan: Plan, condition: Condition) -> Iterator[Task]:
    """All tasks of a condition, candidate by candidate."""
    labelled = plan.sample(condition).labels is not None
    for candidate in plan.candidates:
        for readout in plan.readouts(candidate):
            if isinstance(readout, Probed) and not labelled:
                continue
            if isinstance(readout, Described) and not plan.metrics(readout, condition, ""):
                continue
            yield Task(plan, candidate, readout, condition)
        if plan.feature_axes and not candidate.is_head:
            yield from (Task(plan, candidate, Stable(name), condition) for name in plan.clusterers)


def features_of(work: Work, condition: Condition, candidates: Sequence[Candidate]) -> Features:
    """Features of a condition. Those of unchanged test images are known already."""
    sample = work.plan.sample(condition)
    if sample.images is not None or sample.change is not None:
        return encode_for(work.plan, candidates, sample, work.plan.about(condition), work.cache, work.clock)
    rows = positions(work.plan, sample)
    wanted = {(candidate.slug, candidate.raw) for candidate in candidates}
    return {
        pair: features if isinstance(features, Exception) else features[rows]
        for pair, features in work.clean.items()
        if pair in wanted
    }


def positions(plan: Plan, sample: Sample) -> np.ndarray:
    """The positions of a sample's images among the scored clean images."""
    return np.searchsorted(plan.sample(CLEAN).rows, sample.rows)  # type: ignore[arg-type]  # both have rows


def encode_for(
    plan: Plan,
    candidates: Sequence[Candidate],
    sample: Sample,
    about: Mapping[str, object],
    cache: FeatureCache | None,
    clock: Clock,
) -> Features:
    """:func:`shiftbench.features.encode` for candidates of a plan: by (slug, raw feature), each once."""
    wanted: dict[str, list[str]] = {}
    for candidate in candidates:
        names = wanted.setdefault(candidate.slug, [])
        names += [candidate.raw] * (candidate.raw not in names)
    return encode(
        plan.encoders,
        wanted,
        sample,
        plan.data.test.images,
        about=about,
        batch_size=plan.batch_size,
        cache=cache,
        clock=clock,
    )
