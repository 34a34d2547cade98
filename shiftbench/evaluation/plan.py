"""An evaluation's arguments, resolved and checked before anything is computed or written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from shiftbench.clustering.argmax import Argmax
from shiftbench.corruptions import resolve_table
from shiftbench.data.base import load_dataset
from shiftbench.data.division import limited
from shiftbench.data.shifts import resolve
from shiftbench.encoders.base import Encoder
from shiftbench.encoders.run_folder import DESCRIPTION
from shiftbench.errors import InputError, unknown
from shiftbench.evaluation.candidates import Candidate, EncoderLike, load_encoders, make_candidates
from shiftbench.features.cache import cache_folder, content_key
from shiftbench.images import evenly_spaced, take
from shiftbench.metrics.probes import PROBES
from shiftbench.records import CLEAN, Condition, Dataset, Sample, Skipped
from shiftbench.registry import CLUSTERERS
from shiftbench.stability.axes import AXES
from shiftbench.stability.choose_k import CRITERIA, parse_k

PROTOCOLS = ("frozen", "refit")
CODE = 2  # raise it when a change alters results: what older code wrote is then computed anew
ARGMAX = "argmax"  # the way to read a head's own clustering
PROBE = "probe:"  # before a probe's name, where a clusterer's could stand
AXES_OF = "axes:"  # before a clusterer's name: the stability of its partitions


@dataclass(frozen=True)
class Plan:
    """Everything the numbers of an evaluation depend on.

    Attributes:
        data: the data set; clusters are fitted on its train split and scored on its test split.
        candidates: encoders with their features, yours before the floors.
        samples: what is scored: the clean split first, every clean pair before its shift.
        clusterers: registered names.
        probes: names of ``PROBES``.
        ks: the numbers of clusters that come into question, one unless it is estimated.
        k_source: where k comes from: "true" (the number of classes), "given" or "estimated".
        k_by: the criterion that estimates it.
        seeds: clusterings per cell, with the seeds 0, 1, ...
        protocols: "frozen", "refit".
        axes: of stability.
        table: the resolved table of severity constants.
        seed: of everything random but the clusterings.
        limit: images per split, None for all.
        batch_size: images encoded at once.
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
    folder: Path
    cache: Path | None

    @cached_property
    def encoders(self) -> dict[str, Encoder]:
        """Encoders by slug."""
        return {candidate.slug: candidate.encoder for candidate in self.candidates}

    def clusterings(self, candidate: Candidate) -> tuple[str, ...]:
        """What makes partitions of an candidate's features."""
        return (ARGMAX,) if candidate.is_head else self.clusterers

    def ways(self, candidate: Candidate) -> tuple[str, ...]:
        """The clusterers and probes that an candidate's features are put through."""
        return self.clusterings(candidate) + (() if candidate.is_head else tuple(PROBE + name for name in self.probes))

    def starts(self, way: str) -> int:
        """Clusterings of one cell by a clusterer: one where the seed changes nothing."""
        kind = clusterer_of(way)
        drawn = kind.limit is not None and len(self.data.train) > kind.limit
        return self.seeds if kind.seeded or drawn else 1

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The plain values that determine the numbers, besides encoder, clusterer and condition."""
        return {
            "code": CODE,
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
        """The plain values that the images of a condition follow from."""
        sample = self.sample(condition)
        return {
            "data": self.data.fingerprint,
            "condition": repr(condition),
            "images": sample.digest,
            "rows": "" if sample.rows is None else content_key(np.asarray(sample.rows).tolist()),
            "seed": self.seed if sample.change is not None else 0,
        }

    def clusters(self, condition: Condition, k: int) -> int:
        """The number of clusters of a refit: that of the classes there are, where k is the number of classes."""
        labels = self.sample(condition.clean).labels
        if self.k_source != "true" or condition.split == CLEAN.split or labels is None:
            return k
        return len(np.unique(labels))

    @property
    def feature_axes(self) -> tuple[str, ...]:
        """The axes of stability that are measured on features, and not on the partitions that are there anyway."""
        return tuple(name for name in self.axes if {"features", "views"} & set(AXES[name].needs))

    def key(self, candidate: Candidate, way: str, condition: Condition) -> str:
        """The hash of all that a cell's partitions depend on."""
        axes = self.feature_axes if way.startswith(AXES_OF) else ()
        who = [candidate.encoder.fingerprint, candidate.feature, way, axes]
        return content_key([self.settings, who, self.about(condition), self.clusters(condition, 0)])

    def path(self, candidate: Candidate, way: str, condition: Condition) -> Path:
        """Where those partitions are kept."""
        kind, suffix = ("stability", "json") if way.startswith(AXES_OF) else ("partitions", "npz")
        name = way.removeprefix(AXES_OF).replace(":", "-")
        return self.folder / kind / candidate.slug / candidate.feature / name / f"{condition.label}.{suffix}"


def clusterer_of(way: str) -> Any:
    """The class behind a clusterer's name."""
    return Argmax if way == ARGMAX else CLUSTERERS.load(way)


def make_plan(
    checkpoint: EncoderLike | Sequence[EncoderLike],
    *,
    data: str | Mapping[str, Any] | Dataset,
    shift: str | Sequence[str] | None,
    floors: Sequence[str],
    clusterer: str | Sequence[str],
    probes: Sequence[str],
    k: int | bool | str,
    k_by: str,
    seeds: int,
    protocols: Sequence[str],
    stability: str | Sequence[str],
    feature: str | Sequence[str],
    table: str,
    seed: int,
    limit: int | None,
    batch_size: int,
    dtype: str,
    device: str,
    cache: str | Path | None,
    results: str | Path | None,
) -> Plan:
    """Resolve the arguments of :func:`shiftbench.evaluate`, which describes them.

    Raises:
        InputError: an argument that cannot be used.
    """
    for name, value in {"seeds": seeds, "batch_size": batch_size, "limit": limit}.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise InputError(f"{name}={value}: a whole number of at least 1 is needed.")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed={seed}: a whole number of at least 0 is needed.")
    clusterers = _known("clusterer", clusterer, CLUSTERERS)
    for name in clusterers:
        CLUSTERERS.load(name)
    if k_by not in CRITERIA:
        raise unknown("criterion for k", k_by, CRITERIA)
    dataset = _dataset(data)
    height, width = dataset.test.images.shape[-2:]
    resolved = resolve_table(table, (height, width))
    samples = {
        c: _limited(s, dataset, limit) for c, s in resolve(_listed(shift), dataset, table=resolved, seed=seed).items()
    }
    dataset = replace(dataset, train=limited(dataset.train, limit))
    ks, source = _clusters(k, dataset, samples)
    encoders = load_encoders(checkpoint, _listed(floors), dataset, dtype, device)
    plan = Plan(
        data=dataset,
        candidates=make_candidates(encoders, _listed(feature)),
        samples=samples,
        clusterers=clusterers,
        probes=() if dataset.train.labels is None else _known("probe", probes, PROBES, may_be_empty=True),
        ks=ks,
        k_source=source,
        k_by=k_by,
        seeds=seeds,
        protocols=_known("protocol", protocols, PROTOCOLS),
        axes=tuple(AXES)
        if _listed(stability) == ["all"]
        else _known("stability axis", stability, AXES, may_be_empty=True),
        table=resolved,
        seed=seed,
        limit=limit,
        batch_size=batch_size,
        folder=Path(),
        cache=cache_folder(cache),
    )
    identity = [
        plan.settings,
        plan.clusterers,
        plan.probes,
        plan.axes,
        [(*e.id, e.encoder.fingerprint) for e in plan.candidates],
    ]
    digest = content_key([*identity, [repr(condition) for condition in samples]])
    return replace(plan, folder=Path(results or f"results/{dataset.name}-{digest[:8]}"))


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


def _listed(names: str | Sequence[str] | None) -> list[str]:
    return [names] if isinstance(names, str) else list(names or ())


def _known(kind: str, names: str | Sequence[str], known: Any, may_be_empty: bool = False) -> tuple[str, ...]:
    """The names, each once, if all are known; ``module:attribute`` always is."""
    listed = tuple(dict.fromkeys(_listed(names)))
    for name in listed:
        if name not in known and not (known is CLUSTERERS and ":" in name):
            raise unknown(kind, name, known)
    if not listed and not may_be_empty:
        raise InputError(f"no {kind} is named: use one of {', '.join(known)}.")
    return listed


def _dataset(data: str | Mapping[str, Any] | Dataset) -> Dataset:
    if isinstance(data, Dataset):
        return data
    return load_dataset(data) if isinstance(data, str) else load_dataset(**data)


def _limited(sample: Sample | Skipped, dataset: Dataset, limit: int | None) -> Sample | Skipped:
    """The sample cut to the versions of ``limit`` test images, or to ``limit`` images where they are other pictures."""
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
