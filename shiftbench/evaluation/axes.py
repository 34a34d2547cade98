"""Stability along the axes that need features: measured while the features of a condition are at hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from shiftbench.data.views import augmented
from shiftbench.evaluation.agreements import Agreements, Kept
from shiftbench.evaluation.candidates import Candidate
from shiftbench.evaluation.context import Work, encode_for
from shiftbench.evaluation.plan import AXES_OF
from shiftbench.evaluation.scoring import Fitted, reason
from shiftbench.images import take
from shiftbench.records import Condition, Sample, Skipped
from shiftbench.runtime import processes
from shiftbench.stability.axes import AXES, SUBSAMPLE, subsample

VIEWS = 2  # of each image, on the augmentation axis


def measure_axes(work: Work, condition: Condition, candidate: Candidate, way: str, features: np.ndarray) -> Agreements:
    """Agreement along every such axis of the plan, with one clusterer.

    Args:
        work: what cells are computed with.
        condition: which images.
        candidate: whose features.
        way: ``axes:CLUSTERER``.
        features: float32 (N, D), prepared.
    """
    plan, clusterer = work.plan, way.removeprefix(AXES_OF)
    fitted, key = work.fits[candidate.id], plan.key(candidate, way, condition)
    assert isinstance(fitted, Fitted)
    k = plan.clusters(condition, fitted.k)
    found: dict[str, Kept] = {}
    for axis in plan.feature_axes:
        if axis == "algorithm" and clusterer != plan.clusterers[0]:
            continue  # it compares all algorithms, whichever the clusterer
        n = len(features) if AXES[axis].cheap else min(len(features), SUBSAMPLE)
        given: dict[str, Any] = {"features": features, "k": k, "clusterer": clusterer}
        try:
            if "views" in AXES[axis].needs:
                given["views"] = [fitted.prepare(view) for view in _views(work, condition, candidate)]
            with work.clock(f"stability: {axis}"):
                needed = {name: given[name] for name in AXES[axis].needs}
                measured = AXES[axis].function(**needed, seed=plan.seed)
        except Exception as error:  # an axis that cannot be measured says why; the others go on
            measured = Skipped(reason(error))
        found[axis] = Kept(measured, n)
    return Agreements(key, found)


def _views(work: Work, condition: Condition, candidate: Candidate) -> list[np.ndarray]:
    """Features of augmented views of at most ``SUBSAMPLE`` images of a condition.

    Raises:
        InputError: the encoder failed.
    """
    plan, sample = work.plan, work.plan.sample(condition)
    chosen = subsample(sample.n, SUBSAMPLE, plan.seed)
    positions = chosen if sample.rows is None else np.asarray(sample.rows)[chosen]
    views = []
    for view in range(VIEWS):

        def change(images: torch.Tensor, index: torch.Tensor, view: int = view) -> torch.Tensor:
            changed = images if sample.change is None else sample.change(images, index)
            return augmented(changed, index, view=view, seed=plan.seed)

        images = None if sample.images is None else take(sample.images, chosen)
        seen = Sample(None, positions, images=images, change=change)
        about = plan.about(condition) | {"view": view, "rows": len(chosen), "seed": plan.seed}
        with processes.alone():
            found = encode_for(plan, [candidate], seen, about, work.cache, work.clock)[candidate.slug, candidate.raw]
        if isinstance(found, Exception):
            raise found
        views.append(found)
    return views
