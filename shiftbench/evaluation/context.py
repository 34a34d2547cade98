"""What the cells of an evaluation are computed with, and where each one's features come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shiftbench.evaluation.candidates import Candidate
from shiftbench.evaluation.plan import AXES_OF, PROBE, Plan
from shiftbench.evaluation.scoring import FEATURES, Fitted
from shiftbench.features.cache import FeatureCache
from shiftbench.features.encode import Found, encode
from shiftbench.records import CLEAN, Condition, Sample
from shiftbench.runtime.clock import Clock

Cell = tuple[int, str]  # which of the plan's candidates, and what its features are put through


@dataclass(frozen=True)
class Work:
    """What the cells of an evaluation are computed with.

    Attributes:
        plan: the evaluation.
        overwrite: which cells are computed again.
        cache: of features.
        clock: counts the time.
        clean: by (slug, raw feature), the features of the clean test images, or why there are none.
        fits: by candidate, what was fitted on the training split, or why not.
    """

    plan: Plan
    overwrite: str
    cache: FeatureCache | None
    clock: Clock
    clean: Found
    fits: Mapping[tuple[str, str], Fitted | Exception]


def cells_of(plan: Plan, condition: Condition) -> Iterator[Cell]:
    """All cells of a condition: every candidate by every clusterer and probe, and its features as they are."""
    labelled = plan.sample(condition).labels is not None
    for i, candidate in enumerate(plan.candidates):
        yield from ((i, way) for way in plan.ways(candidate) if labelled or not way.startswith(PROBE))
        if condition.shift != "clean":
            yield i, FEATURES
        if plan.feature_axes and not candidate.is_head:
            yield from ((i, AXES_OF + name) for name in plan.clusterers)


def features_of(work: Work, condition: Condition, candidates: Sequence[Candidate]) -> Found:
    """Features of a condition; of unchanged test images they are there already."""
    sample = work.plan.sample(condition)
    if sample.images is None and sample.change is None:
        rows = positions(work.plan, sample)
        pairs = {(candidate.slug, candidate.raw) for candidate in candidates}
        return {
            pair: found if isinstance(found, Exception) else found[rows]
            for pair, found in work.clean.items()
            if pair in pairs
        }
    return encode_for(work.plan, candidates, sample, work.plan.about(condition), work.cache, work.clock)


def positions(plan: Plan, sample: Sample) -> np.ndarray:
    """Where the images of a sample stand among the scored clean ones."""
    return np.searchsorted(plan.sample(CLEAN).rows, sample.rows)  # type: ignore[arg-type]  # both have rows


def encode_for(
    plan: Plan,
    candidates: Sequence[Candidate],
    sample: Sample,
    about: Mapping[str, object],
    cache: FeatureCache | None,
    clock: Clock,
) -> Found:
    """:func:`shiftbench.features.encode.encode` for candidates of a plan: by (slug, raw feature), each once."""
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
