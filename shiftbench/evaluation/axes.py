"""Stability along the axes that need features: measured while the features of a condition are in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from shiftbench.data.views import augmented
from shiftbench.evaluation.candidates import Candidate
from shiftbench.evaluation.context import Task, Work, encode_for
from shiftbench.evaluation.fitting import Fitted
from shiftbench.evaluation.partitions import Agreements, AxisResult
from shiftbench.evaluation.scoring import reason
from shiftbench.images import take
from shiftbench.records import Condition, Sample, Skipped
from shiftbench.runtime import processes
from shiftbench.stability.axes import AXES, SUBSAMPLE, subsample

VIEWS = 2  # of each image, on the augmentation axis


def measure_axes(work: Work, task: Task, features: np.ndarray) -> Agreements:
    """Agreement along every such axis of the plan, with one clusterer.

    Args:
        work: what tasks are done with.
        task: whose readout is :class:`~shiftbench.evaluation.readouts.Stable`.
        features: float32 (N, D), prepared.
    """
    plan, clusterer, fitted = work.plan, task.readout.name, work.fits[task.candidate.id]
    assert isinstance(fitted, Fitted)
    known: dict[str, Any] = {
        "features": features,
        "k": plan.clusters(task.condition, fitted.k),
        "clusterer": clusterer,
    }
    results: dict[str, AxisResult] = {}
    for name in plan.feature_axes:
        if name == "algorithm" and clusterer != plan.clusterers[0]:
            continue  # it compares all algorithms, whichever the clusterer
        axis = AXES[name]
        n = len(features) if axis.cheap else min(len(features), SUBSAMPLE)
        try:
            if "views" in axis.needs:
                views = _views(work, task.condition, task.candidate)
                known["views"] = [fitted.prepare(view) for view in views]
            with work.clock(f"stability: {name}"):
                measured = axis.function(**{need: known[need] for need in axis.needs}, seed=plan.seed)
        except Exception as error:  # an axis that cannot be measured says why; the others go on
            measured = Skipped(reason(error))
        results[name] = AxisResult(measured, n)
    return Agreements(task.key, results)


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
            features = encode_for(plan, [candidate], seen, about, work.cache, work.clock)[candidate.slug, candidate.raw]
        if isinstance(features, Exception):
            raise features
        views.append(features)
    return views
