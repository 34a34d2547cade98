"""An evaluation's arguments, resolved and checked before anything is computed or written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from shiftbench.corruptions import resolve_table
from shiftbench.data.base import load_dataset
from shiftbench.data.division import limited
from shiftbench.data.shifts import resolve
from shiftbench.encoders.base import Encoder
from shiftbench.encoders.run_folder import DESCRIPTION
from shiftbench.errors import InputError
from shiftbench.evaluation.candidates import Candidate, Checkpoint, load_encoders, make_candidates
from shiftbench.evaluation.options import EvaluationOptions
from shiftbench.evaluation.readouts import Clustered, Described, Layout, Own, Probed, Readout, Stable
from shiftbench.features.cache import cache_folder, content_key
from shiftbench.features.identity import code_name, guests
from shiftbench.images import evenly_spaced, take
from shiftbench.records import CLEAN, Condition, Dataset, Sample, Skipped
from shiftbench.registry import CORRUPTIONS, METRICS
from shiftbench.runtime import processes
from shiftbench.stability.axes import AXES
from shiftbench.stability.choose_k import parse_k

RESULTS_VERSION = 3  # raise it when a change alters results: what older code wrote is then computed anew


@dataclass(frozen=True)
class Plan:
    """Everything the numbers of an evaluation depend on.

    Attributes:
        data: the data set; clusters are fitted on its train split and scored on its test split.
        candidates: encoders with their features, yours before the floors.
        samples: what is scored: the clean split first, every clean pair before its shift.
        clusterers: registered names.
        probes: names of ``PROBES``.
        ks: the possible numbers of clusters; a single one unless k is estimated.
        k_source: where k comes from: "true" (the number of classes), "given" or "estimated".
        k_by: the criterion that estimates it.
        seeds: clusterings per cell, with the seeds 0, 1, ...
        protocols: "frozen", "refit".
        axes: of stability.
        table: the resolved table of severity constants.
        seed: of everything random except the clusterings.
        limit: images per split, None for all.
        batch_size: images encoded at once.
        deterministic: whether encoders that are not are refused.
        folder: the results folder.
        cache: the folder of features, None for none.
    """

    data: Dataset
    candidates: Sequence[Candidate]
    samples: Mapping[Condition, Sample | Skipped]
    clusterers: tuple[str, ...]
    probes: tuple[str, ...]
    ks: tuple[int, ...]
    k_source: str
    k_by: str
    seeds: int
    protocols: tuple[str, ...]
    axes: tuple[str, ...]
    table: str
    seed: int
    limit: int | None
    batch_size: int
    deterministic: bool
    folder: Path
    cache: Path | None

    @cached_property
    def encoders(self) -> dict[str, Encoder]:
        """Encoders by slug."""
        return {candidate.slug: candidate.encoder for candidate in self.candidates}

    def clusterings(self, candidate: Candidate) -> tuple[Clustered, ...]:
        """The readouts that make partitions of a candidate's features."""
        return (Own(),) if candidate.is_head else tuple(map(Clustered, self.clusterers))

    def readouts(self, candidate: Candidate) -> tuple[Readout, ...]:
        """All readouts of a candidate, except the stability of its clusters."""
        probes = () if candidate.is_head else tuple(map(Probed, self.probes))
        return (*self.clusterings(candidate), *probes, Described())

    def layout(self, readout: Readout) -> Layout:
        """What a readout makes under each condition."""
        seeds = self.starts(readout) if isinstance(readout, Clustered) else 1
        return readout.layout(self.protocols, self.ks[0], len(self.data.classes), seeds)

    def metrics(self, readout: Readout, condition: Condition, protocol: str) -> list[str]:
        """The metrics of a readout under a condition and protocol."""
        sample = self.samples[condition]
        labelled = self.data.test.labels is not None and (isinstance(sample, Skipped) or sample.labels is not None)
        return readout.metrics(protocol, shifted=condition.shift != CLEAN.shift, labelled=labelled)

    def starts(self, readout: Clustered) -> int:
        """The number of clusterings per condition: 1 where the seed changes nothing."""
        kind = readout.kind
        subsampled = kind.limit is not None and len(self.data.train) > kind.limit
        return self.seeds if kind.seeded or subsampled else 1

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The plain values that determine the numbers, besides encoder, clusterer and condition."""
        return {
            "code": RESULTS_VERSION,
            "data": self.data.fingerprint,
            "limit": self.limit,
            "k": list(self.ks) if self.k_source == "estimated" else self.ks[0],
            "k_by": self.k_by if self.k_source == "estimated" else "",
            "k_source": self.k_source,
            "seeds": self.seeds,
            "protocols": list(self.protocols),
            "seed": self.seed,
        }

    def sample(self, condition: Condition) -> Sample:
        """The sample of a condition that is not skipped."""
        sample = self.samples[condition]
        assert isinstance(sample, Sample)
        return sample

    def about(self, condition: Condition) -> dict[str, Any]:
        """The plain values that determine the images of a condition."""
        sample = self.sample(condition)
        values = {
            "data": self.data.fingerprint,
            "condition": repr(condition),
            "images": sample.content,
            "rows": "" if sample.rows is None else content_key(np.asarray(sample.rows).tolist()),
            "seed": self.seed if sample.change is not None else 0,
        }
        code = "" if sample.change is None else code_name(sample.change, self._unknowable)
        code += self._guests[CORRUPTIONS.kind].get(condition.corruption, "")
        return values | ({"code": code} if code else {})

    def clusters(self, condition: Condition, k: int) -> int:
        """The number of clusters of a refit. If k is the number of classes, only classes that occur count."""
        labels = self.sample(condition.clean).labels
        if self.k_source != "true" or condition.split == CLEAN.split or labels is None:
            return k
        return len(np.unique(labels))

    @property
    def feature_axes(self) -> tuple[str, ...]:
        """The axes of stability that need features; the others need only the partitions."""
        return tuple(name for name in self.axes if {"features", "views"} & set(AXES[name].needs))

    def key(self, candidate: Candidate, readout: Readout, condition: Condition) -> str:
        """The hash of all inputs of one candidate with one readout under one condition."""
        axes = self.feature_axes if isinstance(readout, Stable) else ()
        code = code_name(readout.kind, self._unknowable) if isinstance(readout, Clustered) else ""
        who = [candidate.encoder.fingerprint, candidate.feature, repr(readout), axes, code, self._guests[METRICS.kind]]
        return content_key([self.settings, who, self.about(condition), self.clusters(condition, 0)])

    @cached_property
    def _unknowable(self) -> str:
        """What code that cannot be known is called, in this call alone."""
        return uuid4().hex

    @cached_property
    def _guests(self) -> dict[str, dict[str, str]]:
        return {registry.kind: guests(registry, self._unknowable) for registry in (METRICS, CORRUPTIONS)}

    def path(self, candidate: Candidate, readout: Readout, condition: Condition) -> Path:
        """The file that keeps the result."""
        folder = self.folder / readout.folder / candidate.slug / candidate.feature / readout.path
        return folder / f"{condition.label}.{readout.suffix}"


def make_plan(checkpoint: Checkpoint, options: EvaluationOptions) -> Plan:
    """Resolve what :func:`shiftbench.evaluate` was given.

    Raises:
        InputError: an argument that cannot be used.
    """
    dataset = _dataset(options.data)
    height, width = dataset.test.images.shape[-2:]
    table = resolve_table(options.table, (height, width))
    resolved = resolve(options.shift, dataset, table=table, seed=options.seed)
    samples = {condition: _limited(sample, dataset, options.limit) for condition, sample in resolved.items()}
    dataset = replace(dataset, train=limited(dataset.train, options.limit))
    ks, source = _clusters(options.k, dataset, samples)
    encoders = load_encoders(checkpoint, options.floors, dataset, options.dtype, processes.device(options.device))
    plan = Plan(
        data=dataset,
        candidates=make_candidates(encoders, options.feature),
        samples=samples,
        clusterers=tuple(options.clusterer),
        probes=() if dataset.train.labels is None else tuple(options.probes),
        ks=ks,
        k_source=source,
        k_by=options.k_by,
        seeds=options.seeds,
        protocols=tuple(options.protocols),
        axes=tuple(options.stability),
        table=table,
        seed=options.seed,
        limit=options.limit,
        batch_size=options.batch_size,
        deterministic=options.deterministic,
        folder=Path(),
        cache=cache_folder(options.cache),
    )
    return replace(plan, folder=Path(options.results or _folder(plan)))


def _folder(plan: Plan) -> str:
    """``results/DATA-HASH``, the same for the same evaluation."""
    encoders = {slug: encoder.fingerprint if encoder.traceable else "" for slug, encoder in plan.encoders.items()}
    candidates = [(*candidate.id, encoders[candidate.slug]) for candidate in plan.candidates]
    conditions = [repr(condition) for condition in plan.samples]
    digest = content_key([plan.settings, plan.clusterers, plan.probes, plan.axes, candidates, conditions])
    return f"results/{plan.data.name}-{digest[:8]}"


def newest_run(runs: Path) -> Path:
    """The run folder whose training finished last.

    Raises:
        InputError: there is none.
    """
    finished = [file for file in runs.glob(f"*/{DESCRIPTION}") if file.is_file()]
    if not finished:
        raise InputError(
            f"No finished run in {str(runs)!r}: train one with `shiftbench train`, or name an encoder with --checkpoint."
        )
    return max(finished, key=lambda file: (file.stat().st_mtime_ns, str(file))).parent


def _dataset(data: str | Mapping[str, Any] | Dataset) -> Dataset:
    if isinstance(data, Dataset):
        return data
    return load_dataset(data) if isinstance(data, str) else load_dataset(**data)


def _limited(sample: Sample | Skipped, dataset: Dataset, limit: int | None) -> Sample | Skipped:
    """The sample cut to the versions of ``limit`` test images, or to ``limit`` images if it has other pictures."""
    if isinstance(sample, Skipped) or limit is None:
        return sample
    if sample.rows is None:
        kept = evenly_spaced(len(sample.images), limit)  # type: ignore[arg-type]  # without rows there are images
    else:
        kept = np.flatnonzero(np.isin(sample.rows, evenly_spaced(len(dataset.test), limit)))
    if not len(kept):
        return Skipped(f"limit={limit} leaves none of its images")
    return replace(
        sample,
        labels=None if sample.labels is None else sample.labels[kept],
        rows=None if sample.rows is None else np.asarray(sample.rows)[kept],
        images=None if sample.images is None else take(sample.images, kept),
    )


def _clusters(
    k: int | bool | str, dataset: Dataset, samples: Mapping[Condition, Sample | Skipped]
) -> tuple[tuple[int, ...], str]:
    asked = parse_k(k)
    ks: tuple[int, ...]
    if asked is True:
        if not dataset.classes:
            raise InputError(
                f"{dataset.name} has no labels, so k=true means nothing: give the number of clusters, k=10, or a range."
            )
        ks, source = (len(dataset.classes),), "true"
    else:
        ks, source = (tuple(asked), "estimated") if isinstance(asked, range) else ((asked,), "given")
    clean = samples[CLEAN]
    assert isinstance(clean, Sample)
    smallest = min(len(dataset.train), len(clean.rows))  # type: ignore[arg-type]  # clean images are test images
    if not 2 <= min(ks) <= max(ks) <= smallest:
        raise InputError(f"k={k}: between 2 and {smallest} is possible, the number of images in the smaller split.")
    return ks, source
